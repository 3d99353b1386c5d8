"""Log density with gradient, as a sampler calls it: ours, and of models written by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np

import bayes_moe as bm
from benchmarks import cases, handwritten
from benchmarks.cases import Case
from benchmarks.page import Section
from benchmarks.timing import Row, in_turn

CALLS = 20
THEIRS = {
    "normal": "pm.NormalMixture",
    "studentt": "pm.Mixture of pm.StudentT.dist",
    "poisson": "pm.Mixture of pm.Poisson.dist",
}

Gradient = Callable[[np.ndarray], Any]


def of_graph(model: Any) -> tuple[Gradient, int]:
    """The compiled log density with gradient of a PyMC model, and its number of values."""
    function = model.logp_dlogp_function(ravel_inputs=True, mode="NUMBA")
    function.set_extra_values({})
    return function, sum(v.size for v in model.initial_point().values())


def of_sampler(case: Case) -> tuple[Gradient, int]:
    """The log density with gradient that our NUTS calls by default."""
    from bayes_moe.em.vector_layout import parameter_vector
    from bayes_moe.sampling.compiled_density import LinearTable

    vector = parameter_vector(case.spec, case.spec.design(case.table), jacobian=True)
    native = LinearTable(vector).density()
    return native, native.size


def of_kernel(case: Case) -> tuple[Gradient, int]:
    """The fused operation alone, as a function of predictors: no features, no priors."""
    import pytensor
    import pytensor.tensor as pt

    from bayes_moe import families
    from bayes_moe.core.arrays import symbolic
    from bayes_moe.graph.family_group import FamilyGroup
    from bayes_moe.graph.fused_op import fused_mixture

    family = families.by_name(case.family)
    rows, part = len(case.table), FamilyGroup(family, 0, case.experts)
    constants = part.predictors - 1
    shapes = [(case.experts, rows)] * 2 + [(case.experts, 1)] * constants
    moved = [pt.matrix(shape=(k, None if n > 1 else 1)) for k, n in shapes]
    y = pt.vector()
    data = family.data(y, {}, symbolic())
    value = fused_mixture(y, moved[0], [(part, moved[1:], data)]).sum()
    function = pytensor.function([y, *moved], [value, *pt.grad(value, moved)], mode="NUMBA")
    ends = np.cumsum([k * n for k, n in shapes])

    def gradient(point: np.ndarray) -> Any:
        parts = np.split(point, ends[:-1])
        etas = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
        outputs = function(case.response, *etas)
        return outputs[0], outputs[1].ravel()

    return gradient, int(ends[-1])


def repeated(gradient: Gradient, size: int) -> Callable[[], None]:
    """Function of several gradients near zero; the first call, which may compile, is done here.

    On the internal scale, zero means equal experts at the centre of the data.
    """
    points = 0.1 * np.random.default_rng(0).normal(size=(CALLS, size))
    assert all(np.isfinite(gradient(points[0])[1]))

    def call() -> None:
        for point in points:
            gradient(point)

    return call


def gradient(rounds: int) -> list[Section]:
    rows: list[Row] = []
    for family, peer in THEIRS.items():
        case = cases.simulated(10_000, family=family)
        theirs = repeated(*of_graph(handwritten.model(case)))
        ours = {
            "the sampler's": repeated(*of_sampler(case)),
            "the graph's": repeated(*of_graph(bm.build(case.spec, case.table).model)),
        }
        for which, call in ours.items():
            what = f"{family}, {CALLS} gradients, {which}, against {peer}"
            rows.append(in_turn(what, call, theirs, rounds))
        bare = repeated(*of_kernel(case))
        what = f"{family}, {CALLS} gradients, the sampler's, against the kernel alone"
        rows.append(in_turn(what, ours["the sampler's"], bare, rounds))
    text = (
        "n = 10,000 rows, p = 10 features in gate and experts, K = 4; value and gradient. The "
        "sampler's is the compiled density that NUTS calls, the graph's that of "
        "`bm.build(...).model` compiled by numba like the hand-written models, which have the same "
        "priors on standardised features. The kernel alone is the fused operation at predictors "
        "that are given, without features and priors. Instructions are not counted."
    )
    return [Section("Gradient", text, rows)]

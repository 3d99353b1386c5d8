"""Compiled loops give the mixtures that the formulas in NumPy give."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe import families
from bayes_moe.model import evaluation
from bayes_moe.model.evaluation import chunks, evaluate, map_chunks
from bayes_moe.priors.coordinates import COORDINATES
from tests.support import contracts
from tests.support.examples import FAMILIES, GATE_EXPERTS, GATES, gate_table

ROWS = 19
"""No multiple of the length of the processor's vectors."""


def family_table(family):
    rng = np.random.default_rng(3)
    n = rng.integers(1, 9, ROWS).astype(float)
    y = FAMILIES[family].response(rng.normal(0, 2, ROWS), rng.integers(0, 8, ROWS), n)
    return pd.DataFrame({"x": rng.normal(size=ROWS), "y": y, "n": n})


def described(family, *, by_row=False, gate=None):
    """A model of three experts, with all parameters by row or only the location."""
    others = [p.name for p in families.by_name(family).parameters[1:]]
    formulas = {name: "~ x" for name in others} if by_row else {}
    more = FAMILIES[family].options | formulas
    return bm.mixture_of_experts("y ~ x", gate=gate, experts=3, family=family, **more)


def values_of(spec, design, samples, size=1.0):
    """Random reported variables (sample, ...)."""
    if spec.structure.gate.features is not None:
        return contracts.values_of(spec, design, samples, size)
    rng = np.random.default_rng(4)
    structure, matrices = spec.structure, design.rows.matrices
    shapes = structure.gate.shapes(matrices)
    for block in structure.blocks:
        for component in block.components:
            shapes |= component.shapes(matrices)
    values = {n: size * rng.standard_normal((samples, *shape)) for n, shape in shapes.items()}
    return {n: COORDINATES[structure.supports.get(n, "real")].value(v) for n, v in values.items()}


def both(spec, rows, draws):
    """The mixtures in NumPy and by compiled loops."""
    return evaluate(spec, draws, rows), evaluate(spec, draws, rows, compiled=True)


def compare(reference, compiled, y, rtol=1e-12):
    with np.errstate(all="ignore"):
        for name, least in (("log_weights", 1e-14), ("weights", 1e-300)):
            found, expected = getattr(compiled, name), getattr(reference, name)
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=least, err_msg=name)
        for name in ("log_components", "log_density", "responsibilities"):
            found, expected = getattr(compiled, name)(y), getattr(reference, name)(y)
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(compiled.means(), reference.means(), rtol=rtol)


@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_families(family, by_row):
    spec = described(family, by_row=by_row)
    design = spec.design(family_table(family))
    draws = values_of(spec, design, samples=5, size=0.7)
    reference, compiled = both(spec, design.rows, draws)
    compare(reference, compiled, design.response)
    compare_tails(reference, compiled, design.response)


def compare_tails(reference, compiled, y):
    """Compare tails, and slopes with differences of the density."""
    above = np.array([False, True, False])
    points = np.stack([y, np.median(y) + 0 * y, y + 1])
    found, expected = (m.tails(points, above) for m in (compiled, reference))
    np.testing.assert_allclose(found[:, :2], expected[:, :2], rtol=1e-9)
    only = compiled.tails(points, above, derivatives=False)
    np.testing.assert_allclose(only[:, 0], found[:, 0], rtol=1e-13)
    if np.isfinite(found[:, 2]).all() and not reference.blocks[0].family.discrete:
        step = 1e-5 * np.abs(points) + 1e-7
        ends = [reference.tails(points + s, above)[:, 1] for s in (-step, step)]
        scale = np.abs(found[:, 2]).max()
        np.testing.assert_allclose(
            found[:, 2], (ends[1] - ends[0]) / (2 * step), rtol=1e-4, atol=1e-5 * scale
        )


@pytest.mark.parametrize("family", ["normal", "studentt", "gamma", "poisson"])
def test_tails_at_the_ends_of_the_support(family):
    spec = described(family)
    design = spec.design(family_table(family))
    draws = values_of(spec, design, samples=4)
    reference, compiled = both(spec, design.rows, draws)
    far = np.geomspace(1e-300, 1e300, ROWS)
    above = np.array([False, True])
    with np.errstate(all="ignore"):
        for y in (far, -far, 0 * far, far + np.inf, -far - np.inf):
            points = np.stack([y, y])
            np.testing.assert_allclose(
                compiled.tails(points, above)[:, 0],
                reference.tails(points, above)[:, 0],
                rtol=1e-9,
                atol=1e-290,
            )


@pytest.mark.parametrize("gate", GATES)
def test_gates(gate):
    spec = bm.mixture_of_experts("y ~ x", gate=GATES[gate], experts=GATE_EXPERTS)
    design = spec.design(gate_table(ROWS))
    draws = values_of(spec, design, samples=5)
    reference, compiled = both(spec, design.rows, draws)
    compare(reference, compiled, design.response)
    for k in (1, 2, GATE_EXPERTS):
        compare(reference.top(k), compiled.top(k), design.response)


def test_several_families_side_by_side():
    experts = [bm.Expert("y ~ x"), bm.Expert("y ~ x", family="studentt"), bm.Expert("y ~ 1")]
    spec = bm.MixtureOfExperts(experts=experts, gate=GATES["warm softmax"])
    design = spec.design(family_table("normal"))
    draws = values_of(spec, design, samples=5)
    compare(*both(spec, design.rows, draws), design.response)


def test_missing_features():
    spec = bm.mixture_of_experts("y ~ x", gate=GATES["gaussian"], experts=3)
    data = gate_table(ROWS)
    design = spec.design(data)
    draws = values_of(spec, design, samples=5)
    gaps = data.copy()
    gaps.loc[[2, 7], "z"] = np.nan
    rows = design.transform(gaps, with_response=True)
    compare(*both(spec, rows, draws), rows.observed)


@pytest.mark.parametrize("family", ["normal", "studentt"])
@pytest.mark.parametrize("logit", [690.0, 750.0, 1e5])
def test_extreme_weights_and_responses(family, logit):
    spec = described(family)
    design = spec.design(family_table(family))
    draws = values_of(spec, design, samples=4)
    draws["gate_coef"][:, 0, 0] += logit
    draws["gate_coef"][:, 1, 0] -= logit
    reference, compiled = both(spec, design.rows, draws)
    far = np.geomspace(1e-8, 1e120, ROWS) * np.where(np.arange(ROWS) % 2, 1, -1)
    for y in (design.response, 1e40 * np.sign(far), far, np.where(far > 0, np.inf, -np.inf)):
        compare(reference, compiled, y)


def test_responses_outside_the_support_have_no_density():
    for family, y in (("poisson", 0.5), ("poisson", -1.0), ("binomial", 99.0), ("gamma", -1.0)):
        spec = described(family)
        design = spec.design(family_table(family))
        draws = values_of(spec, design, samples=3)
        reference, compiled = both(spec, design.rows, draws)
        outside = np.full(ROWS, y)
        with np.errstate(all="ignore"):
            assert np.isneginf(compiled.log_density(outside)).all()
        assert np.isneginf(reference.log_density(outside)).all()


def test_unknown_parameters_stay_unknown():
    spec = described("normal")
    design = spec.design(family_table("normal"))
    draws = values_of(spec, design, samples=3)
    draws["mu_coef"][1, 2] = np.nan
    reference, compiled = both(spec, design.rows, draws)
    np.testing.assert_array_equal(
        np.isnan(compiled.log_density(design.response)),
        np.isnan(reference.log_density(design.response)),
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_no_rows(family):
    spec = described(family)
    design = spec.design(family_table(family))
    draws = values_of(spec, design, samples=3)
    none = both(spec, design.rows, draws)[1].take_rows(np.zeros(0, dtype=int))
    assert none.log_density(np.zeros(0)).shape == (3, 0)
    assert none.tails(np.zeros((2, 0)), np.array([True, False])).shape == (2, 3, 0)


def test_some_draws_and_some_rows():
    spec = described("studentt")
    design = spec.design(family_table("studentt"))
    reference, compiled = both(spec, design.rows, values_of(spec, design, samples=6))
    draws, rows = np.array([4, 1]), np.array([7, 7, 2])
    compare(reference.take_samples(draws), compiled.take_samples(draws), design.response)
    y = design.response[rows]
    compare(reference.take_rows(rows), compiled.take_rows(rows), y)


def test_large_work_is_compiled_and_the_number_of_threads_changes_nothing(monkeypatch):
    import numba  # noqa: F401  (work of this size does not import it)

    spec = described("normal")
    design = spec.design(family_table("normal"))
    draws = values_of(spec, design, samples=7)
    whole = evaluate(spec, draws, design.rows)
    expected = whole.log_density(design.response)
    for smallest in (1, 10**9):
        monkeypatch.setattr(evaluation, "COMPILED_ELEMENTS", smallest)
        monkeypatch.setattr(evaluation, "CHUNK_ELEMENTS", 4 * 7 * 3)
        found = []
        for cores in (1, 4):
            monkeypatch.setattr(evaluation, "cpu_count", lambda cores=cores: cores)
            parts = map_chunks(
                lambda where, rows, mixture: mixture.log_density(rows.observed),
                spec,
                draws,
                design.rows,
            )
            found.append(np.concatenate([*parts], axis=1))
        np.testing.assert_array_equal(*found)
        np.testing.assert_allclose(found[0], expected, rtol=1e-13)
        kinds = {type(m).__name__ for _, _, m in chunks(spec, draws, design.rows)}
        assert kinds == {"CompiledMixture" if smallest == 1 else "Mixture"}


def test_a_mixture_that_is_changed_is_still_compiled():
    spec = described("normal")
    design = spec.design(family_table("normal"))
    _, compiled = both(spec, design.rows, values_of(spec, design, samples=3))
    kept = compiled.top(2)
    assert type(kept) is type(compiled)
    assert (kept.weights == 0).any()
    assert replace(kept, sparse=True).weights.shape == compiled.weights.shape

"""What every gate of the registry must hold, so that a new one is tested at once."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import special

import bayes_moe as bm
from bayes_moe import labels, names, registry
from bayes_moe.gates import Softmax, StickBreaking, Tree
from bayes_moe.mixture import evaluate

EXPERTS = 4
EXAMPLES = {
    "softmax": Softmax("~ x + z"),
    "warm softmax": Softmax("~ x", temperature=2.0),
    "tree": Tree([[0, 1], [2, 3]], formula="~ x + z", formulas={"1": "~ x"}),
    "deep tree": Tree([0, [1, [2, 3]]], formula="~ x"),
    "stickbreaking": StickBreaking("~ x + z"),
}


def table(n=60, seed=0):
    rng = np.random.default_rng(seed)
    x, z = rng.uniform(-2, 2, n), rng.normal(3, 1, n)
    y = np.where(x > 0, 2 * x, -1 - x) + np.where(z > 3, 1.5, -1.5) + 0.3 * rng.standard_normal(n)
    return pd.DataFrame({"x": x, "z": z, "y": y})


def test_every_gate_has_an_example():
    assert {g.kind for g in EXAMPLES.values()} == set(registry.TABLE["gate"])


@pytest.fixture(scope="module", params=list(EXAMPLES))
def spec(request):
    return bm.mixture_of_experts("y ~ x", gate=EXAMPLES[request.param], experts=EXPERTS)


@pytest.fixture(scope="module")
def design(spec):
    return spec.design(table())


@pytest.fixture(scope="module")
def graph(spec, design):
    return bm.build(spec, design)


def values_of(spec, design, samples=6, size=1.0, seed=4):
    """Random reported variables (sample, ...)."""
    rng = np.random.default_rng(seed)
    graph = bm.build(spec, design)
    import pymc as pm

    drawn = pm.draw([graph.model[n] for n in spec.variables], samples, random_seed=seed)
    lead = (samples,)
    found = {
        n: np.reshape(v, (*lead, *np.shape(v)[-len(spec.dims[n]) :]))
        for n, v in zip(spec.variables, drawn, strict=True)
    }
    for name in spec.gate_variables if size else ():
        found[name] = size * rng.standard_normal(found[name].shape)
    return found


@pytest.mark.parametrize("size", [1.0, 700.0])
def test_weights_sum_to_one(spec, design, size):
    values = values_of(spec, design, size=size)
    log_weights = spec.gate.evaluate(EXPERTS, values, design.rows.matrices)
    assert log_weights.shape == (6, EXPERTS, 60)
    np.testing.assert_allclose(np.exp(log_weights).sum(axis=1), 1, atol=1e-12)
    assert registry.resolve("gate", spec.gate.kind)


def test_description_round_trips(spec):
    again = bm.MixtureOfExperts.from_json(spec.to_json())
    assert again == spec
    assert again.gate == spec.gate
    assert repr(again) == repr(spec)


def test_graph_and_prediction_are_one(spec, design, graph):
    import pymc as pm

    names_ = list(spec.variables)
    wanted = [graph.model[n] for n in names_] + [graph.log_weights]
    *drawn, log_weights = pm.draw(wanted, 1, random_seed=3)
    values = {n: np.asarray(v)[None] for n, v in zip(names_, drawn, strict=True)}
    found = spec.gate.evaluate(EXPERTS, values, design.rows.matrices)[0]
    np.testing.assert_allclose(found, log_weights, atol=1e-8)


def test_gradient_is_that_of_differences_and_finite_far_out(spec, graph):
    model = graph.model
    value = model.compile_logp(mode="FAST_COMPILE")
    slope = model.compile_dlogp(mode="FAST_COMPILE")
    rng = np.random.default_rng(5)
    shapes = {n: v.shape for n, v in model.initial_point().items()}

    def point(flat):
        ends = np.cumsum([int(np.prod(s)) for s in shapes.values()])[:-1]
        parts = np.split(flat, ends)
        return {n: p.reshape(s) for (n, s), p in zip(shapes.items(), parts, strict=True)}

    size = sum(int(np.prod(s)) for s in shapes.values())
    at = 0.5 * rng.standard_normal(size)
    steps = 1e-5 * np.eye(size)
    differences = [(value(point(at + e)) - value(point(at - e))) / 2e-5 for e in steps]
    found = np.asarray(slope(point(at)))
    np.testing.assert_allclose(found, differences, rtol=1e-5, atol=1e-5 * np.abs(found).max())
    gate = np.concatenate(
        [np.full(int(np.prod(s)), n.startswith(names.GATE)) for n, s in shapes.items()]
    )
    far = np.where(gate, 300.0 * np.sign(at), at)
    assert np.isfinite(slope(point(far))).all()


def test_exchangeable_experts_may_trade_places(spec, design, graph):
    """The density is the same for every order that the symmetry allows, and no other."""
    values = values_of(spec, design, 1, size=None)
    costs = np.zeros((1, EXPERTS, EXPERTS))
    allowed = set()
    for order in itertools.permutations(range(EXPERTS)):
        want = np.ones((1, EXPERTS, EXPERTS))
        want[0, np.arange(EXPERTS), order] = 0
        if tuple(spec.symmetry.assign(want)[0]) == order:
            allowed.add(order)
    count = {"softmax": 24, "tree": 4, "stickbreaking": 1}[spec.gate.kind]
    if spec.gate.kind == "tree":
        count = 4 if len(spec.gate.formulas) == 2 else 2
    assert len(allowed) == count
    assert tuple(spec.symmetry.assign(costs)[0]) == tuple(range(EXPERTS))
    logp = graph.model.compile_logp(mode="FAST_COMPILE")
    before = evaluate(spec, values, design.rows).responsibilities(design.response)
    for order in allowed:
        moved = labels.permuted(spec, values, np.array([order]))
        after = evaluate(spec, moved, design.rows).responsibilities(design.response)
        np.testing.assert_allclose(after, before[:, list(order)], atol=1e-10)
        one, other = (
            logp(graph.unconstrained({n: v[0] for n, v in x.items()})) for x in (values, moved)
        )
        assert one == pytest.approx(other, rel=1e-10)


def test_responsibilities_are_bayes_rule(spec, design):
    values = values_of(spec, design)
    mixture = evaluate(spec, values, design.rows)
    joint = mixture.weights * np.exp(mixture.log_components(design.response))
    expected = joint / joint.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(mixture.responsibilities(design.response), expected, atol=1e-10)


def method_of(spec):
    return "map" if spec.gate.branching(EXPERTS) is None else "em"


@pytest.fixture(scope="module")
def mode(spec):
    return bm.fit(spec, table(), method_of(spec), random_seed=1, restarts=4, progressbar=False)


@pytest.mark.filterwarnings("ignore::bayes_moe.errors.ConvergenceWarning")
def test_climbs_never_fall(mode):
    path = mode.idata["fit"]["path"].values
    assert len(path) > 2
    assert (np.diff(path) >= -1e-9 * np.abs(path[:-1])).all()


@pytest.mark.filterwarnings("ignore::bayes_moe.errors.ConvergenceWarning")
def test_a_fit_is_saved_and_predicts_new_rows(mode, tmp_path):
    again = bm.load(bm.save(mode, tmp_path / "fit.nc"))
    new = table(20, seed=1)
    np.testing.assert_array_equal(bm.predict(again, new).mean(), bm.predict(mode, new).mean())
    weights = bm.predict(mode, new.drop(columns="y")).weights()
    np.testing.assert_allclose(weights.sum("expert"), 1, atol=1e-12)


@pytest.mark.filterwarnings("ignore::bayes_moe.errors.ConvergenceWarning")
def test_nuts_runs(spec):
    fit = bm.fit(
        spec, table(), random_seed=1, draws=20, tune=30, chains=2, cores=1, progressbar=False
    )
    assert fit.idata["posterior"].sizes["draw"] == 20
    assert np.isfinite(bm.predict(fit).mean()).all()


# --- trees ----------------------------------------------------------------------------------------


def test_a_tree_of_depth_one_is_a_softmax():
    flat = bm.mixture_of_experts("y ~ x", gate=Softmax("~ x + z"), experts=3)
    tree = bm.mixture_of_experts("y ~ x", gate=Tree([0, 1, 2], formula="~ x + z"), experts=3)
    data = table()
    one, other = bm.build(flat, data), bm.build(tree, data)
    import pymc as pm

    for seed in range(5):
        drawn = pm.draw([one.model[n] for n in flat.variables], random_seed=seed)
        values = dict(zip(flat.variables, drawn, strict=True))
        logps = [
            g.model.compile_logp(mode="FAST_COMPILE")(g.unconstrained(values)) for g in (one, other)
        ]
        assert logps[0] == pytest.approx(logps[1], abs=1e-10)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([[0], 1], "at least two branches"),
        ([0, 2], "positions 0 to 1"),
        (["a", "b", "a"], "twice"),
        (["a", 0], "all names, or"),
        (3.5, "nested sequences"),
        ("a", "at least one split"),
    ],
)
def test_trees_that_cannot_be(tree, message):
    with pytest.raises(bm.SpecError, match=message):
        Tree(tree)


def test_bad_settings_of_gates():
    with pytest.raises(bm.SpecError, match="has 4 leaves, but there are 3 experts"):
        bm.mixture_of_experts("y ~ x", gate=Tree(branching=(2, 2)), experts=3)
    with pytest.raises(bm.SpecError, match="split"):
        Tree(branching=(2, 2), formulas={"roof": "~ x"})
    for bad in (0, -1.0, "hot", True, np.nan):
        with pytest.raises(bm.SpecError, match="temperature"):
            Softmax("~ x", temperature=bad)
        with pytest.raises(bm.SpecError, match="concentration"):
            StickBreaking("~ x", concentration=bad)
        with pytest.raises(bm.SpecError, match="shrink"):
            Tree([0, 1], shrink=bad)
    for bad in ((), (1, 2), "22", 3):
        with pytest.raises(bm.SpecError, match="branching"):
            Tree(branching=bad)


def test_a_stick_is_the_product_of_what_was_left():
    spec = bm.mixture_of_experts("y ~ x", gate=StickBreaking("~ 1"), experts=3)
    rows = spec.design(table()).rows
    coef = np.array([[[0.3], [-1.2]]])
    found = np.exp(spec.gate.evaluate(3, {"gate_coef": coef}, rows.matrices))[0, :, 0]
    first, second = special.expit([0.3, -1.2])
    np.testing.assert_allclose(
        found, [first, (1 - first) * second, (1 - first) * (1 - second)], rtol=1e-12
    )

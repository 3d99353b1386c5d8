"""Every registered gate holds the contract, so that a new one is tested at once."""

import copy
import itertools
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import special

import bayes_moe as bm
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.gates import Attention, Gaussian, Softmax, StickBreaking, Tree
from bayes_moe.model import expert_order
from bayes_moe.model.evaluation import evaluate
from bayes_moe.predictors import HSGP, MLP, Site, Spline
from bayes_moe.predictors.bilinear import Bilinear
from bayes_moe.sampling.compiled_density import supports
from tests.support import contracts
from tests.support.contracts import values_of
from tests.support.examples import GATE_EXPERTS as EXPERTS
from tests.support.examples import GATES as EXAMPLES
from tests.support.examples import gate_table as table
from tests.support.graphs import internal_graph


@pytest.fixture(scope="module", params=list(EXAMPLES))
def spec(request):
    return bm.mixture_of_experts("y ~ x", gate=EXAMPLES[request.param], experts=EXPERTS)


@pytest.fixture(scope="module")
def design(spec):
    return spec.design(table())


@pytest.fixture(scope="module")
def graph(spec, design):
    return bm.build(spec, design)


@pytest.mark.parametrize("check", contracts.GATE, ids=lambda check: check.__name__)
def test_a_gate_holds_the_contract(spec, design, graph, check):
    check(spec, design, graph)


def test_exchangeable_experts_may_trade_places(spec, design, graph):
    """The density is the same for every order that the symmetry allows, and no other."""
    values = values_of(spec, design, 1, size=None)
    costs = np.zeros((1, EXPERTS, EXPERTS))
    allowed = set()
    for order in itertools.permutations(range(EXPERTS)):
        want = np.ones((1, EXPERTS, EXPERTS))
        want[0, np.arange(EXPERTS), order] = 0
        if tuple(spec.structure.symmetry.assign(want)[0]) == order:
            allowed.add(order)
    count = {"tree": 4, "stickbreaking": 1}.get(spec.gate.kind, 24)
    if spec.gate.kind == "tree":
        count = 4 if len(spec.gate.formulas) == 2 else 2
    assert len(allowed) == count
    assert tuple(spec.structure.symmetry.assign(costs)[0]) == tuple(range(EXPERTS))
    logp = graph.model.compile_logp(mode="FAST_COMPILE")
    before = evaluate(spec, values, design.rows).responsibilities(design.response)
    for order in allowed:
        moved = expert_order.permute(spec, values, np.array([order]))
        after = evaluate(spec, moved, design.rows).responsibilities(design.response)
        np.testing.assert_allclose(after, before[:, list(order)], atol=1e-10)
        one, other = (
            logp(graph.unconstrained({n: v[0] for n, v in x.items()})) for x in (values, moved)
        )
        assert one == pytest.approx(other, rel=1e-10)


def method_of(spec):
    return "map" if not spec.structure.is_linear else "em"


@pytest.fixture(scope="module")
def mode(spec):
    method = method_of(spec)
    restarts = 2 if method == "map" else 4
    return bm.fit(spec, table(), method, random_seed=1, restarts=restarts, progressbar=False)


@pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")
def test_climbs_never_fall(mode):
    contracts.path_never_falls(mode)


@pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")
def test_a_fit_is_saved_and_predicts_new_rows(mode, tmp_path):
    contracts.saved_fit_predicts_the_same(mode, table(20, seed=1), tmp_path)


def sampled(spec):
    fit = bm.fit(
        spec, table(), random_seed=1, draws=20, tune=30, chains=2, cores=1, progressbar=False
    )
    assert fit.idata["posterior"].sizes["draw"] == 20
    assert np.isfinite(bm.predict(fit).mean()).all()


@pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")
def test_nuts_runs(spec):
    if not supports(spec):
        pytest.skip("its graph takes long to compile: a slow test")
    sampled(spec)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")
def test_nuts_runs_on_graphs_that_take_long_to_compile(spec):
    if supports(spec):
        pytest.skip("it runs in the quick test")
    sampled(spec)


@pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")
def test_parameters_are_counted_as_they_move(spec):
    """Only for gates that EM treats: of others, some directions do nothing."""
    if not spec.structure.is_linear:
        pytest.skip("no coordinates")
    fit = bm.fit(spec, table(), "em", random_seed=1, restarts=2, max_iter=3, progressbar=False)
    moving = parameter_vector(spec, fit.design)
    free = sum(
        s.terms * (len(s.basis) if s.basis is not None else len(s.experts)) for s in moving.blocks
    )
    assert bm.information(fit)["n_parameters"] == free


def test_map_and_em_report_the_same_mode_of_a_joint_model():
    spec = bm.mixture_of_experts("y ~ x", gate=Gaussian("~ x + z"), experts=2)
    em, graph = (
        bm.information(bm.fit(spec, table(200), m, random_seed=1, progressbar=False))
        for m in ("em", "map")
    )
    for figure in ("objective", "log_likelihood", "n_parameters"):
        assert em[figure] == pytest.approx(graph[figure], rel=1e-7)
    assert np.isfinite(em["bic"])
    assert np.isnan(graph["bic"])  # the graph has the features' density as a potential


@pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")
def test_a_tree_with_a_prior_of_its_own_is_fitted():
    spec = bm.hierarchical_mixture("y ~ x", priors={"gate_coef": bm.Prior("Normal", mu=0, sigma=1)})
    fit = bm.fit(spec, table(), "em", restarts=4, random_seed=1)
    posterior, internal = (fit.idata[g] for g in ("posterior", "unconstrained_posterior"))
    graph = internal_graph(spec, table())
    values = {n: posterior[n].values[0, 0] for n in spec.variables}
    raw = graph.free_values(values)["gate_raw"]
    np.testing.assert_allclose(internal["gate_raw"].values[0, 0], raw, atol=1e-9)


def test_columns_with_any_name_have_a_density():
    data = table().rename(columns={"z": "z 1"})
    spec = bm.mixture_of_experts(
        "y ~ x", gate=Gaussian("~ `z 1` + log(x + 3) + x:`z 1`"), experts=2
    )
    fit = bm.fit(spec, data, "em", random_seed=1, restarts=4, moves=0)
    assert fit.idata["posterior"]["gate_feature"].values.tolist() == list(spec.gate.terms)
    assert np.isfinite(bm.predict(fit).mean()).all()


def test_mirrored_subtrees_are_alike():
    spec = bm.mixture_of_experts("y ~ x", gate=Tree([[0, [1, 2]], [[3, 4], 5]]))
    assert spec.n_experts == 6
    pairs = [
        {frozenset(a.leaves), frozenset(b.leaves)} for a, b in spec.structure.symmetry.exchanges()
    ]
    assert {frozenset({0, 1, 2}), frozenset({3, 4, 5})} in pairs
    values = values_of(spec, spec.design(table()), 1, size=None)
    order = np.array([[5, 3, 4, 1, 2, 0]])
    moved = expert_order.permute(spec, values, order)
    rows = spec.design(table()).rows
    before, after = (evaluate(spec, v, rows).log_weights[0] for v in (values, moved))
    np.testing.assert_allclose(after, before[order[0]], atol=1e-12)


# --- trees ----------------------------------------------------------------------------------------


def test_a_tree_of_depth_one_is_a_softmax():
    flat = bm.mixture_of_experts("y ~ x", gate=Softmax("~ x + z"), experts=3)
    tree = bm.mixture_of_experts("y ~ x", gate=Tree([0, 1, 2], formula="~ x + z"), experts=3)
    data = table()
    one, other = bm.build(flat, data), bm.build(tree, data)
    import pymc as pm

    for seed in range(5):
        wanted = [one.model[n] for n in flat.variables]
        drawn = pm.draw(wanted, random_seed=seed, mode="FAST_COMPILE")
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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bm.mixture_of_experts("y ~ x", gate=Softmax), "not its class"),
        (lambda: bm.hierarchical_mixture("y ~ x", experts=4), "says by itself how many"),
        (lambda: bm.hierarchical_mixture("y ~ x", gate=3), "formulas by split"),
        (
            lambda: bm.MixtureOfExperts(
                StickBreaking("~ x"),
                [bm.Expert("y ~ x"), bm.Expert("y ~ x", "studentt"), bm.Expert("y ~ x")],
            ),
            "in their order",
        ),
        (
            lambda: bm.MixtureOfExperts(
                Gaussian("~ x"), [bm.Expert("y ~ x", name="gate_x"), bm.Expert("y ~ x", "studentt")]
            ),
            "Two variables would be called",
        ),
        (
            lambda: bm.mixture_of_experts(
                "y ~ x",
                gate=Softmax("~ z", predictor="horseshoe"),
                priors={"gate_coef": bm.Prior("Laplace", b=1)},
            ),
            "Normal about 0",
        ),
    ],
)
def test_descriptions_that_cannot_be(make, message):
    with pytest.raises(bm.SpecError, match=message):
        make()


def test_numbers_of_numpy_are_written_as_json():
    gate = StickBreaking("~ x", concentration=np.int64(2))
    spec = bm.mixture_of_experts("y ~ x", gate=gate, experts=3)
    assert bm.MixtureOfExperts.from_json(spec.to_json()) == spec


def test_one_formula_for_all_splits_is_the_gate_s():
    spec = bm.hierarchical_mixture("y ~ x", gate={"root": "~ z", "0": "~z", "1": "~ z"})
    assert spec.gate == Tree(branching=(2, 2), formula="~ z")
    assert spec.structure.gate_variables == ("gate_coef",)


def test_a_stick_is_the_product_of_what_was_left():
    spec = bm.mixture_of_experts("y ~ x", gate=StickBreaking("~ 1"), experts=3)
    rows = spec.design(table()).rows
    coef = np.array([[[0.3], [-1.2]]])
    found = np.exp(spec.structure.gate.evaluate({"gate_coef": coef}, rows.matrices))[0, :, 0]
    first, second = special.expit([0.3, -1.2])
    np.testing.assert_allclose(
        found, [first, (1 - first) * second, (1 - first) * (1 - second)], rtol=1e-12
    )


# --- attention ------------------------------------------------------------------------------------


def test_attention_to_the_features_themselves_is_a_softmax():
    flat = bm.mixture_of_experts("y ~ x", gate=Softmax("~ x + z"), experts=3)
    same = bm.mixture_of_experts("y ~ x", gate=Attention("~ x + z", query="identity"), experts=3)
    graphs = [bm.build(spec, table()) for spec in (flat, same)]
    logps = [g.model.compile_logp(mode="FAST_COMPILE") for g in graphs]
    for seed in range(3):
        values = {n: v[0] for n, v in values_of(flat, graphs[0].design, 1, seed=seed).items()}
        values["gate_coef"] -= values["gate_coef"].mean(axis=0)
        one, other = (f(g.unconstrained(values)) for f, g in zip(logps, graphs, strict=True))
        assert one == pytest.approx(other, abs=1e-10)


@pytest.mark.parametrize("size", [None, 3, 5])
def test_attention_of_enough_size_reaches_every_softmax(size):
    spec = bm.mixture_of_experts("y ~ x", gate=Attention("~ x + z", size=size), experts=EXPERTS)
    design = spec.design(table())
    graph = bm.build(spec, design)
    coef = np.random.default_rng(0).normal(0, 2, (EXPERTS, 3))
    coef -= coef.mean(axis=0)
    own = {"mu_coef": np.ones((EXPERTS, 2)), "sigma": np.ones(EXPERTS)}
    point = graph.unconstrained({"gate_coef": coef, **own})
    model = graph.model
    found = model.compile_fn(
        model.replace_rvs_by_values([model["gate_coef"]]),
        inputs=model.value_vars,
        mode="FAST_COMPILE",
        on_unused_input="ignore",
    )(point)[0]
    np.testing.assert_allclose(found, coef, atol=1e-10)


def test_effective_coefficients_have_the_spread_of_a_softmax_gate():
    specs = [
        bm.mixture_of_experts("y ~ x", gate=gate, experts=EXPERTS)
        for gate in (Softmax("~ x + z"), Attention("~ x + z"), Attention("~ x + z", size=6))
    ]
    design = specs[0].design(table())
    drawn = [values_of(spec, design, 4000, None)["gate_coef"] for spec in specs]
    matrix = design.rows.matrices["gate"]
    centred = [c @ np.linalg.inv(matrix.to_user) for c in drawn]
    usual = np.array([1.5, 2.5, 2.5]) * np.sqrt(1 - 1 / EXPERTS)
    for c in centred:
        np.testing.assert_allclose(c.std(axis=(0, 1)), usual, rtol=0.06)


def test_free_parameters_of_attention_are_those_of_its_rank():
    matrix = bm.mixture_of_experts("y ~ x + z", experts=5).design(table()).rows.matrices["gate"]
    place = Site("gate", "gate", "expert", 5)
    b = place.bind(matrix)
    assert Bilinear(5).free(b, 1) == 4 * 3
    assert Bilinear(5, 1).free(b, 1) == 4 + 3 - 1
    twice = replace(place, outputs=10).bind(matrix)
    assert Bilinear(5, 2, heads=2).free(twice, 1) == 2 * 2 * (4 + 3 - 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size"),
        ({"heads": 1.5}, "heads"),
        ({"query": "none"}, "query"),
        ({"query": "identity", "heads": 2}, "one head"),
        ({"query": "identity", "size": 2}, "leave out"),
    ],
)
def test_bad_settings_of_attention(settings, message):
    with pytest.raises(bm.SpecError, match=message):
        Attention("~ x", **settings)


# --- softmax with other predictors ---------------------------------------------------------------


def test_predictors_are_given_by_name_or_description():
    assert Softmax("~ x", predictor="hsgp").predictor == HSGP()
    assert Softmax("~ x", predictor={"kind": "mlp", "hidden": [4]}).predictor == MLP(hidden=(4,))
    assert Softmax("~ x", predictor="linear") == Softmax("~ x")
    with pytest.raises(bm.SpecError, match="Did you mean 'hsgp'"):
        Softmax("~ x", predictor="hspg")
    with pytest.raises(bm.SpecError, match="must be a Predictor"):
        Softmax("~ x", predictor=3)


@pytest.mark.parametrize("example", ["mlp", "attention"])
def test_other_predictors_are_not_for_em(example):
    spec = bm.mixture_of_experts("y ~ x", gate=EXAMPLES[example], experts=2)
    with pytest.raises(bm.SpecError, match="use method='map' or 'nuts'"):
        bm.fit(spec, table(), "em", progressbar=False)


@pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")
def test_rotations_of_queries_have_no_variance_under_laplace():
    spec = bm.mixture_of_experts("y ~ x", gate=EXAMPLES["attention"], experts=2)
    settings = {"restarts": 1, "draws": 40, "random_seed": 1, "progressbar": False}
    posterior = bm.fit(spec, table(), "laplace", **settings).idata["posterior"]
    assert all(np.isfinite(posterior[name]).all() for name in spec.variables)


def test_priors_of_a_predictor_s_own():
    def spec(**priors):
        gate = Softmax("~ x", predictor=HSGP(m=4))
        return bm.mixture_of_experts("y ~ x", gate=gate, experts=2, priors=priors)

    given = bm.Prior("HalfNormal", sigma=2.0)
    graph = bm.build(spec(gate_amplitude=given), table())
    assert graph.priors["gate_amplitude"] == given
    with pytest.raises(bm.SpecError, match="positive support"):
        spec(gate_lengthscale=bm.Prior("Normal", sigma=1))
    with pytest.raises(bm.SpecError, match="Did you mean 'gate_amplitude'"):
        spec(gate_amplitud=given)


@pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")
def test_a_curved_gate_finds_what_a_linear_one_cannot():
    """Experts that meet twice: one in the middle, the other on both sides."""
    rng = np.random.default_rng(3)
    x = rng.uniform(-3, 3, 120)
    y = np.where(np.abs(x) < 1, 2.0, -2.0) + 0.3 * rng.standard_normal(120)
    rows = pd.DataFrame({"x": x, "y": y})
    for predictor in (Spline(df=6), HSGP(m=6), MLP(hidden=(3,))):
        gate = Softmax("~ x", predictor=predictor)
        spec = bm.mixture_of_experts("y ~ 1", gate=gate, experts=2)
        fit = bm.fit(spec, rows, "map", random_seed=1, restarts=2, progressbar=False)
        assert bool(fit.idata["fit"]["converged"])
        weights = bm.predict(fit, pd.DataFrame({"x": [-2.5, 0.0, 2.5]})).weights().values
        np.testing.assert_allclose(weights[:, 1], [0, 1, 0], atol=0.2)


@pytest.mark.parametrize("gate", EXAMPLES.values(), ids=EXAMPLES)
def test_gates_are_copied_and_pickled(gate):
    assert pickle.loads(pickle.dumps(gate)) == gate
    assert copy.deepcopy(gate) == gate

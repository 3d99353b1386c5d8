"""EM, MAP and Laplace's method where the experts are a Markov chain, against enumeration of paths,
differences, statsmodels and planted parameters.
"""

import ast
import importlib.util
import itertools
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayes_moe as bm
from bayes_moe.core.errors import SpecError
from bayes_moe.data.sequences import Sequences
from bayes_moe.em.chain_mixture import states
from bayes_moe.em.chain_starts import STRETCHES
from bayes_moe.em.initial_states import InitialStates
from bayes_moe.em.objective import Curvature, Objective, responsibilities
from bayes_moe.em.subsample import window_rows
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.model.chains import smoothers
from bayes_moe.model.spec import bound

H = 1e-5


def chain(gate="~ 1", formula="y ~ x", experts=2, family="normal", **settings):
    """A model of experts of one family under a Markov gate."""
    gate = gate if isinstance(gate, bm.gates.Markov) else bm.gates.Markov(gate)
    settings = {"time": "t"} | settings
    each = [bm.Expert(formula, family=family) for _ in range(experts)]
    return bm.MixtureOfExperts(gate, each, **settings)


def simulated(rows, experts, seed, series=1, stay=0.95, sd=0.3):
    """Rows of a planted chain, and its states."""
    rng = np.random.default_rng(seed)
    length = rows // series
    move = np.full((experts, experts), (1 - stay) / (experts - 1))
    np.fill_diagonal(move, stay)
    path = np.empty(rows, dtype=int)
    for i in range(rows):
        begins = i % length == 0
        path[i] = rng.integers(experts) if begins else rng.choice(experts, p=move[path[i - 1]])
    x = rng.normal(size=rows)
    level, slope = np.linspace(-2, 2, experts), np.linspace(1, -1, experts)
    y = level[path] + slope[path] * x + sd * rng.normal(size=rows)
    table = pd.DataFrame({"t": np.arange(rows) % length, "s": np.arange(rows) // length})
    return table.assign(x=x, y=y), path


@pytest.fixture(scope="module")
def table():
    return simulated(240, 2, seed=2, series=2, stay=0.9)[0]


@pytest.fixture(scope="module")
def spec():
    return chain(series="s")


@pytest.fixture(scope="module")
def fit(spec, table):
    return bm.fit(spec, table, "em", restarts=6, random_seed=1)


def small_objective(model, rows=18, likelihood=False, seed=0):
    """Objective of random responses in three series, and two points."""
    rng = np.random.default_rng(seed)
    data = {"t": np.tile(np.arange(rows // 3), 3), "s": np.repeat(list("abc"), rows // 3)}
    data |= {"x": rng.normal(size=rows), "y": rng.normal(size=rows), "v": rng.normal(size=rows)}
    data |= {"n": rng.poisson(2.0, rows), "c": rng.permutation(np.resize(list("uvw"), rows))}
    design = model.design(pd.DataFrame(data))
    vector = parameter_vector(bound(model, design), design, likelihood=likelihood)
    theta = 0.5 * rng.normal(size=(2, vector.size))
    if vector.constraint is not None:
        theta = vector.constraint.project(theta)
    return Objective(vector), theta


# --- the objective --------------------------------------------------------------------------------


def enumerated(values, rows, sticky):
    """Log likelihood and probabilities of states (expert, obs), from all paths of each series.

    The experts are normal, with features (1, x); the gate has the same, and stationary starts.
    """
    x = np.column_stack([np.ones(rows.size), rows.columns["x"]])
    mu, gate = x @ values["mu_coef"].T, x @ values["gate_coef"].T
    experts = mu.shape[1]
    density = stats.norm(mu, values["sigma"]).logpdf(rows.observed[:, None])
    moves = np.exp(gate.reshape(-1, experts, experts) + sticky * np.eye(experts))
    moves /= moves.sum(axis=2, keepdims=True)
    total, share = 0.0, np.zeros((experts, rows.size))
    for code in np.unique(rows.observation.series):
        at = np.flatnonzero(rows.observation.series == code)
        system = np.vstack([moves[at[0]].T - np.eye(experts), np.ones(experts)])
        first = np.linalg.lstsq(system, np.eye(experts + 1)[-1], rcond=None)[0]
        own, joint = 0.0, np.zeros((experts, len(at)))
        for path in itertools.product(range(experts), repeat=len(at)):
            weight = first[path[0]] * np.exp(density[at, path].sum())
            for j, i in enumerate(at[1:]):
                weight *= moves[i, path[j], path[j + 1]]
            own += weight
            joint[path, np.arange(len(at))] += weight
        total += np.log(own)
        share[:, at] = joint / own
    return total, share


def test_values_are_those_of_all_paths():
    model = chain("~ x", experts=3, series="s")
    objective, theta = small_objective(model, likelihood=True)
    values = objective.vector.variables(theta)
    value, r = objective.value(theta), responsibilities(objective, theta)
    for j in range(2):
        one = {name: v[j] for name, v in values.items()}
        total, share = enumerated(one, objective.rows, 2.0)
        np.testing.assert_allclose(value[j], total, rtol=1e-11)
        np.testing.assert_allclose(r[j], share, atol=1e-11)


MODELS = {
    "normal": chain("~ x", experts=3, series="s"),
    "equal": chain(bm.gates.Markov("~ x", initial="equal", sticky=0.5), experts=3, series="s"),
    "student": chain("~ x", family="studentt", series="s"),
    "classes": chain("~ x", "c ~ x", family="categorical", series="s"),
    "vectors": chain("~ x", "cbind(y, v) ~ x", family="mvnormal", series="s"),
    "counts": bm.MixtureOfExperts(
        bm.gates.Markov("~ x"),
        [bm.Expert("n ~ x", family="poisson"), bm.Expert("n ~ 1", family="negativebinomial")],
        time="t",
        series="s",
    ),
    "shared": chain("~ x", experts=3, series="s", shared=["sigma"]),
    "offset": chain("~ x + offset(v, x, n, v)", series="s"),
}


@pytest.mark.parametrize("name", [*MODELS])
def test_derivatives_are_differences(name):
    objective, theta = small_objective(MODELS[name])
    found = objective.evaluate(theta, Curvature.OBSERVED)
    gradient, information = np.empty_like(theta), np.empty_like(found.curvature)
    for i in range(theta.shape[1]):
        step = H * np.eye(theta.shape[1])[i]
        up, down = theta + step, theta - step
        gradient[:, i] = (objective.value(up) - objective.value(down)) / (2 * H)
        away = objective.slope(down).gradient - objective.slope(up).gradient
        information[:, i] = away / (2 * H)
    np.testing.assert_allclose(found.gradient, gradient, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.curvature, information, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stationary", [True, False])
def test_first_states(stationary):
    rng = np.random.default_rng(4)
    eta, share = rng.normal(size=9), rng.dirichlet(np.ones(3))

    def log_first(eta):
        moves = np.exp(eta.reshape(3, 3))
        moves /= moves.sum(axis=1, keepdims=True)
        if not stationary:
            return np.log(np.full(3, 1 / 3))
        value, vectors = np.linalg.eig(moves.T)
        first = np.real(vectors[:, np.argmax(np.real(value))])
        return np.log(first / first.sum())

    moves = np.exp(eta.reshape(1, 1, 3, 3))
    found = InitialStates(moves / moves.sum(axis=-1, keepdims=True), stationary)
    np.testing.assert_allclose(np.log(found.probabilities[0, 0]), log_first(eta), rtol=1e-10)
    steps = 1e-4 * np.eye(9)
    slopes = [(log_first(eta + d) - log_first(eta - d)) / 2e-4 for d in steps]
    np.testing.assert_allclose(found.scores[0, 0], slopes, atol=1e-7)

    def mean(eta):
        return share @ log_first(eta)

    seconds = [
        [
            mean(eta + d + e) - mean(eta + d - e) - mean(eta - d + e) + mean(eta - d - e)
            for e in steps
        ]
        for d in steps
    ]
    information = found.information(share[None, None])[0, 0]
    np.testing.assert_allclose(information, -np.array(seconds) / 4e-8, atol=1e-6)


def test_states_are_those_of_smoothers():
    rng = np.random.default_rng(5)
    transitions = MODELS["normal"].structure.gate.chain
    eta, log_f = rng.normal(size=(2, 9, 40)), 30 * rng.normal(size=(2, 3, 40))
    sequences = Sequences.of(np.repeat([0, 1, 2], [1, 24, 15]), 40)
    stay = 2.0 * np.eye(3)[..., None]
    moves = np.exp(eta.reshape(2, 3, 3, 40) + stay)
    moves /= moves.sum(axis=2, keepdims=True)
    first = InitialStates(np.moveaxis(moves[..., sequences.starts], -1, 1), True)
    found = states(first.probabilities, moves.reshape(2, 9, 40), log_f, sequences.starts)
    other = smoothers(transitions, eta, log_f, sequences)
    for one, reference in zip(found, (other.log_density, other.shares, other.moves), strict=True):
        np.testing.assert_allclose(one, reference, atol=1e-9)


def test_an_expert_that_is_never_reached_has_no_row_however_well_it_fits():
    first, moves = np.array([[[1.0, 0.0]]]), np.repeat(np.eye(2).reshape(1, 4, 1), 3, axis=2)
    log_f = np.array([[[-1.0, -2000.0, -2.0], [0.0, 0.0, 0.0]]])
    value, r, pairs = states(first, moves, log_f, np.array([0]))
    np.testing.assert_allclose(value, log_f[:, 0])
    np.testing.assert_array_equal(r[0], [[1, 1, 1], [0, 0, 0]])
    np.testing.assert_array_equal(pairs[0], [[0, 1, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
    log_f[..., 1] = -np.inf  # no expert can have the row: it says nothing of the others
    value, r, _ = states(first, moves, log_f, np.array([0]))
    np.testing.assert_array_equal(value[0], [-1.0, -np.inf, -2.0])
    np.testing.assert_array_equal(r[0], [[1, 1, 1], [0, 0, 0]])


# --- starts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*STRETCHES])
def test_stretches_are_longer_than_rows_at_random(kind):
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(300, 1)), rng.normal(size=(300, 1))
    for _ in range(5):
        label = STRETCHES[kind](x, y, 3, rng)
        assert set(label) <= {0, 1, 2}
        assert (np.diff(label) != 0).sum() < 150


def test_a_subsample_consists_of_windows():
    rows = chain(series="s").design(simulated(3000, 2, seed=7, series=3)[0]).rows
    part = window_rows(rows, 500, np.random.default_rng(8))
    series = part.observation.series
    assert part.size == 500
    for code in np.unique(series):
        own = part.observation.time[series == code]
        assert (np.diff(own) == 1).all()
        assert (np.diff(np.flatnonzero(series == code)) == 1).all()
    assert 5 <= len(np.unique(series)) <= 8


# --- fits -----------------------------------------------------------------------------------------


def test_em_ends_at_a_maximum(fit, table):
    figures = fit.idata["fit"]
    assert bool(figures["converged"])
    assert "expert 0" in bm.diagnose(fit).verdict
    assert bm.modes(fit)["hits"].sum() == 6
    log_density = float(bm.log_density(fit, table).sum())
    assert log_density == pytest.approx(float(figures["log_likelihood"]), rel=1e-10)


def test_planted_parameters_are_within_errors(fit):
    posterior, errors = fit.idata["posterior"], fit.idata["standard_error"]
    away = posterior["mu_coef"][0, 0].values - [[-2.0, 1.0], [2.0, -1.0]]
    assert (np.abs(away) < 4 * errors["mu_coef"].values).all()
    odds = 2.0 + 2 * posterior["gate_coef"].values.ravel()[0]
    assert odds == pytest.approx(np.log(9), abs=4 * 2 * errors["gate_coef"].values.ravel()[0])


def test_the_order_of_the_table_does_not_matter(fit, spec, table):
    apart = table.sort_values(["t", "s"])
    other = bm.fit(spec, apart, "em", restarts=6, random_seed=1)
    for name in spec.variables:
        one, two = (f.idata["posterior"][name].values for f in (fit, other))
        np.testing.assert_allclose(two, one, atol=1e-6)
    again = bm.fit(spec, apart, "em", start=bm.responsibilities(other), random_seed=1)
    assert int(again.idata["fit"]["iterations"]) < 12


def test_map_is_em(fit, spec, table):
    other = bm.fit(spec, table, "map", restarts=4, random_seed=3)
    for name in spec.variables:
        one, two = (f.idata["posterior"][name].values for f in (fit, other))
        np.testing.assert_allclose(two, one, atol=1e-6)


def test_laplace_draws_have_the_errors_of_its_mode(spec, table):
    draws = bm.fit(spec, table, "laplace", restarts=4, random_seed=4)
    spread = draws.idata["posterior"]["mu_coef"].std(["chain", "draw"])
    np.testing.assert_allclose(spread, draws.idata["standard_error"]["mu_coef"], rtol=0.06)
    assert float(draws.idata["fit"]["pareto_k"]) < 0.7


def test_a_file_holds_the_fit(fit, table, tmp_path):
    bm.save(fit, tmp_path / "fit.nc")
    loaded = bm.load(tmp_path / "fit.nc")
    assert repr(loaded) == repr(fit)
    refitted = bm.refit(loaded, table, random_seed=5)
    one, two = (f.idata["posterior"]["mu_coef"].values for f in (fit, refitted))
    np.testing.assert_allclose(two, one, atol=1e-6)


def test_the_preference_for_staying_does_not_change_the_likelihood(table):
    sticky = [chain(bm.gates.Markov("~ 1", sticky=s), series="s") for s in (0.0, 3.0)]
    found = [
        bm.fit(m, table, "em", objective="likelihood", restarts=4, random_seed=1) for m in sticky
    ]
    one, two = (float(f.idata["fit"]["log_likelihood"]) for f in found)
    assert one == pytest.approx(two, abs=1e-7)


def test_one_expert_is_a_regression(table):
    under, plain = (
        bm.MixtureOfExperts(gate, [bm.Expert("y ~ x", family="normal")], **settings)
        for gate, settings in (
            (bm.gates.Markov("~ 1"), {"time": "t", "series": "s"}),
            (bm.gates.Softmax("~ 1"), {}),
        )
    )
    one, two = (bm.fit(m, table, "em", restarts=2, random_seed=1) for m in (under, plain))
    for name in plain.variables:
        np.testing.assert_allclose(
            one.idata["posterior"][name].values, two.idata["posterior"][name].values, rtol=1e-8
        )


def test_shared_and_held_parameters(table):
    model = chain(series="s", shared=["sigma"], fixed={"mu_coef[x]": 1.0})
    found = bm.fit(model, table, "em", restarts=4, random_seed=1).idata["posterior"]
    sigma, mu = found["sigma"].values.ravel(), found["mu_coef"].values[0, 0]
    assert sigma[0] == sigma[1]
    np.testing.assert_array_equal(mu[:, 1], 1.0)


def test_lags_are_columns_of_earlier_rows(table):
    by_series = table.groupby("s")["y"]
    known = table.assign(before=by_series.shift(1)).dropna()
    one = bm.fit(chain("~ 1", "y ~ lag(y, 1)", series="s"), table, "em", restarts=4, random_seed=1)
    two = bm.fit(chain("~ 1", "y ~ before", series="s"), known, "em", restarts=4, random_seed=1)
    likelihoods = [float(f.idata["fit"]["log_likelihood"]) for f in (one, two)]
    assert likelihoods[0] == pytest.approx(likelihoods[1], abs=1e-6)


# --- what is refused ------------------------------------------------------------------------------


def test_effects_of_groups_are_refused(table):
    model = chain("~ 1", "y ~ x + (1 | s)", series="s")
    for method in ("em", "map", "laplace"):
        with pytest.raises(SpecError, match=r"beside a Markov\s+gate"):
            bm.fit(model, table, method, random_seed=1)


def test_sparse_columns_are_refused(table):
    from scipy import sparse

    rng = np.random.default_rng(9)
    words = sparse.csr_array(rng.poisson(0.2, (len(table), 6)).astype(float))
    data = {name: table[name].to_numpy() for name in table} | {"words": words}
    with pytest.raises(SpecError, match="toarray"):
        bm.fit(chain("~ 1", "y ~ words", series="s"), data, "em", random_seed=1)


def test_adam_and_ensembles_are_refused(spec, table):
    with pytest.raises(SpecError, match="Adam holds rows out"):
        bm.fit(spec, table, "map", optimizer="adam", random_seed=1)
    with pytest.raises(SpecError, match="leaves rows out"):
        bm.fit(spec, table, "ensemble", random_seed=1)


# --- statsmodels, and size ------------------------------------------------------------------------


def best_of_starts(model, starts=50):
    """Best log likelihood of statsmodels from random starts, and the result there."""
    np.random.seed(0)  # noqa: NPY002  (statsmodels reads the global generator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = model.fit(search_reps=starts, disp=False)
    return found


def of_statsmodels(name):
    """A series that the tests of statsmodels hold as numbers, from their text."""
    tests = importlib.util.find_spec("statsmodels.tsa.regime_switching.tests")
    text = Path(tests.submodule_search_locations[0], "test_markov_regression.py").read_text()
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            numbers = next(n for n in ast.walk(node) if isinstance(n, ast.List))
            values = eval(ast.unparse(numbers), {"np": np, "nan": np.nan})
            return np.asarray(values, dtype=float)
    raise LookupError(name)


def macro():
    """Rows of the federal funds rate with its lag, the output gap and inflation."""
    rate, gap, inflation = (of_statsmodels(name) for name in ("fedfunds", "ogap", "inf"))
    columns = {"y": rate[5:], "lag": rate[4:-1], "gap": gap[5:], "inflation": inflation[5:]}
    return pd.DataFrame(columns).assign(t=np.arange(len(rate) - 5))


def returns():
    """Rows of absolute returns with their lag."""
    values = of_statsmodels("areturns")
    return pd.DataFrame({"y": values[1:], "lag": values[:-1]}).assign(t=np.arange(len(values) - 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "formula", "gate", "settings"),
    [
        (macro, "y ~ 1", "~ 1", {"shared": ["sigma"]}),
        (macro, "y ~ lag + gap + inflation", "~ 1", {"shared": ["sigma"]}),
        (macro, "y ~ lag", "~ lag", {"shared": ["sigma"]}),
        (returns, "y ~ lag", "~ 1", {}),
        (returns, "y ~ lag", "~ lag", {}),
    ],
)
def test_maxima_are_at_least_those_of_statsmodels(data, formula, gate, settings):
    from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

    table = data()
    terms = [] if formula.endswith("1") else formula.split("~")[1].replace(" ", "").split("+")
    moved_by = None if gate == "~ 1" else np.column_stack([np.ones(len(table)), table["lag"]])
    other = best_of_starts(
        MarkovRegression(
            table["y"].to_numpy(),
            2,
            exog=table[terms].to_numpy() if terms else None,
            switching_variance=not settings,
            exog_tvtp=moved_by,
        )
    )
    model = chain(gate, formula, **settings)
    found = bm.fit(model, table, "em", objective="likelihood", random_seed=1)
    reached = float(found.idata["fit"]["log_likelihood"])
    assert reached >= other.llf - 1e-3
    if reached < other.llf + 1e-3:
        errors = np.sort(found.idata["standard_error"]["mu_coef"].values.ravel())
        names = [i for i, n in enumerate(other.model.param_names) if n.startswith(("const", "x"))]
        np.testing.assert_allclose(errors, np.sort(np.asarray(other.bse)[names]), rtol=0.05)


@pytest.mark.slow
def test_many_rows_take_seconds():
    table, path = simulated(20_000, 4, seed=10)
    model = chain(experts=4)
    began = time.process_time()
    found = bm.fit(model, table, "em", random_seed=1)
    assert time.process_time() - began < 20  # of the processors, so that others do not count
    shares = bm.responsibilities(found)[0, 0].values
    assert (shares.argmax(axis=1) == path).mean() > 0.98
    mu, errors = (found.idata[g]["mu_coef"].values for g in ("posterior", "standard_error"))
    planted = np.column_stack([np.linspace(-2, 2, 4), np.linspace(1, -1, 4)])
    assert (np.abs(mu[0, 0] - planted) < 5 * errors).all()

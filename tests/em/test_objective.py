"""The objective is the log density of the model; its derivatives are those of differences."""

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import bayes_moe as bm
from bayes_moe.core import registry
from bayes_moe.em import objective as module
from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.vector_layout import coordinates
from bayes_moe.gates import Gaussian, Softmax, StickBreaking, Tree
from bayes_moe.model.evaluation import evaluate

FAMILIES = list(registry.TABLE["family"])
OWN = {"binomial": {"trials": "n"}}
ROWS = 60


def table():
    rng = np.random.default_rng(0)
    x, z = rng.normal(5, 2, ROWS), rng.uniform(-1, 3, ROWS)
    y = np.where(z > 1, 1 + x, 8 - x) + rng.normal(0, 0.7, ROWS)
    n = rng.integers(2, 12, ROWS)
    count = rng.poisson(np.exp(0.2 * x))
    return pd.DataFrame(
        {
            "x": x,
            "z": z,
            "n": n,
            "normal": 30 + 4 * y,
            "studentt": 30 + 4 * y,
            "poisson": count,
            "bernoulli": (count > 3).astype(int),
            "binomial": np.minimum(count, n),
        }
    )


def plain(family, **more):
    formula = more.pop("formula", f"{family} ~ x")
    return bm.mixture_of_experts(formula, family=family, **{"gate": "~ z", **more})


P = bm.Prior
CASES = {
    f"{family}-{k}": plain(family, experts=k, **OWN.get(family, {}))
    for family in FAMILIES
    for k in (1, 2, 4)
} | {
    "sigma formula": plain("normal", experts=3, sigma="~ z"),
    "all formulas": plain("studentt", sigma="~ x", nu="~ z"),
    "constant gate": plain("normal", experts=3, gate="~ 1"),
    "no intercept": plain("normal", formula="normal ~ 0 + x + z", gate="~ 0 + z"),
    "no centring": plain("normal", center=False),
    "two kinds": bm.MixtureOfExperts(
        bm.gates.Softmax("~ x"),
        [
            bm.Expert("normal ~ x", name="line", sigma="~ z"),
            bm.Expert("normal ~ x + z", "studentt", name="curve"),
            bm.Expert("normal ~ x", name="line", sigma="~ z"),
        ],
    ),
    "normal gate prior": plain(
        "normal",
        experts=3,
        priors={
            "gate_coef": P("Normal", mu=[0.5, 0.1], sigma=1.5),
            "sigma": P("Gamma", alpha=2, beta=1),
        },
    ),
    "heavy priors": plain(
        "studentt",
        priors={
            "gate_coef": P("StudentT", nu=4, sigma=[1.0, 2.0]),
            "mu_coef": P("Cauchy", alpha=[30, 1], beta=[20, 5]),
            "sigma": P("HalfNormal", sigma=5),
            "nu": P("InverseGamma", alpha=2, beta=8),
        },
    ),
    "binary tree": plain("normal", experts=4, gate=Tree(branching=(2, 2), formula="~ z")),
    "deep tree of counts": plain("poisson", experts=6, gate=Tree([[0, [1, 2, 3]], [4, 5]])),
    "tree with own formulas": plain(
        "normal",
        experts=4,
        sigma="~ z",
        gate=Tree([[0, 1], [2, 3]], formula="~ z", formulas={"1": "~ x + z", "root": "~ 1"}),
    ),
    "tree of two kinds": bm.MixtureOfExperts(
        Tree([[0, 1], 2], formula="~ x"),
        [
            bm.Expert("normal ~ x", name="line", sigma="~ z"),
            bm.Expert("normal ~ x + z", "studentt", name="curve"),
            bm.Expert("normal ~ x", name="line", sigma="~ z"),
        ],
    ),
    "tree with a normal prior": plain(
        "normal",
        experts=3,
        gate=Tree([0, [1, 2]], formula="~ z", shrink=0.5),
        priors={"gate_coef": P("Normal", mu=[0.5, 0.1], sigma=1.5)},
    ),
    "sticks": plain("normal", experts=5, gate=StickBreaking("~ z")),
    "gaussian gate": plain("normal", experts=3, gate=Gaussian("~ x + z"), sigma="~ z"),
    "gaussian gate, two kinds": bm.MixtureOfExperts(
        Gaussian("~ z + x", covariance="diag"),
        [
            bm.Expert("normal ~ x", name="line", sigma="~ z"),
            bm.Expert("normal ~ x + z", "studentt", name="curve"),
            bm.Expert("normal ~ x", name="line", sigma="~ z"),
        ],
    ),
    "gaussian gate of counts": plain("poisson", experts=2, gate=Gaussian("~ log(x + 9)")),
    "a warm gate": plain("normal", experts=3, gate=Softmax("~ z", temperature=2.5)),
    "a kinked prior": plain("poisson", priors={"mu_coef": P("Laplace", mu=[1, 0], b=[2, 0.3])}),
}


@pytest.fixture(scope="module", params=list(CASES))
def spec(request):
    return CASES[request.param]


@pytest.fixture(scope="module")
def design(spec):
    return spec.design(table())


def points(moving, count=3):
    """Points at which all experts matter."""
    theta = 0.4 * np.random.default_rng(1).standard_normal((count, moving.size))
    for slot in moving.slots:
        if slot.scaling is None:
            level = np.log(np.std(moving.design.response)) if slot.role == "scale" else 1.5
            theta[:, slot.where] += level
    return theta


def log_weights(spec, values, eta, data):
    """Gate weights by recursion, from their definition."""
    gate = spec.gate
    if isinstance(gate, Softmax):
        logits = np.array([eta(c, gate.formula) for c in values["gate_coef"]])
        return special.log_softmax(logits / gate.temperature, axis=0)
    if isinstance(gate, Gaussian):
        return log_joint(gate, values, data)
    if isinstance(gate, StickBreaking):
        sticks = special.expit([eta(c, gate.formula) for c in values["gate_coef"]])
        left = np.cumprod(np.vstack([np.ones_like(sticks[:1]), 1 - sticks]), axis=0)
        return np.log(left * np.vstack([sticks, np.ones_like(sticks[:1])]))
    rows = {}
    for head in gate.heads(spec.n_experts):
        formula = spec.formulas[head.stem]
        for label, coef in zip(head.labels, values[f"{head.stem}_coef"], strict=True):
            rows[label] = eta(coef, formula)
    found = {}

    def walk(node, name, weight):
        if isinstance(node, int):
            found[node] = np.log(weight)
            return
        paths = [str(c) if name is None else f"{name}.{c}" for c in range(len(node))]
        shares = special.softmax([rows[path] for path in paths], axis=0)
        for child, path, share in zip(node, paths, shares, strict=True):
            walk(child, path, weight * share)

    walk(gate.tree, None, 1.0)
    return np.array([found[k] for k in range(spec.n_experts)])


def log_joint(gate, values, data):
    """Log weight of every expert and density of its features, from mean and covariance."""
    columns = {"x": data["x"], "z": data["z"], "log(x + 9)": np.log(data["x"] + 9)}
    features = np.column_stack([columns[t] for t in gate.terms])
    derived = gate.derived(3, {n: v[None] for n, v in values.items()})
    return np.array(
        [
            np.log(weight) + stats.multivariate_normal(mean, cov).logpdf(features)
            for weight, mean, cov in zip(
                *(derived[f"gate_{n}"][0] for n in ("weight", "mean", "cov")), strict=True
            )
        ]
    )


def log_likelihood(spec, data, values):
    """The mixture's log likelihood from SciPy's distributions."""
    features = {"1": np.ones(len(data)), "x": data["x"], "z": data["z"]}

    def eta(coef, formula):
        terms = [t.strip() for t in formula.split("~")[1].split("+")]
        terms = terms[1:] if terms[0] == "0" else ["1"] + [t for t in terms if t != "1"]
        return sum(b * np.asarray(features[t]) for b, t in zip(coef, terms, strict=True))

    y, k = data[spec.response].to_numpy(), 0
    found = np.empty((spec.n_experts, len(data)))
    for block in spec.blocks:
        for j in range(len(block.positions)):
            own = {}
            for c in block.components:
                value = values[c.variable][j]
                own[c.parameter.name] = value if c.formula is None else eta(value, c.formula)
                if c.formula is not None and c.parameter.role in ("scale", "shape"):
                    own[c.parameter.name] = np.exp(own[c.parameter.name])
            law = {
                "normal": lambda o: stats.norm(o["mu"], o["sigma"]).logpdf(y),
                "studentt": lambda o: stats.t(o["nu"], o["mu"], o["sigma"]).logpdf(y),
                "poisson": lambda o: stats.poisson(np.exp(o["mu"])).logpmf(y),
                "bernoulli": lambda o: stats.bernoulli(special.expit(o["p"])).logpmf(y),
                "binomial": lambda o: stats.binom(data["n"], special.expit(o["p"])).logpmf(y),
            }[block.kind.family]
            found[k] = law(own)
            k += 1
    if spec.n_experts > 1:
        found += log_weights(spec, values, eta, data)
    return special.logsumexp(found, axis=0).sum()


def test_the_likelihood_is_scipy_s(spec, design):
    moving = coordinates(spec, design, likelihood=True)
    theta = points(moving)
    values = moving.variables(theta)
    found = Objective(moving)
    for j, value in enumerate(found.value(theta)):
        own = {name: v[j] for name, v in values.items()}
        assert value == pytest.approx(log_likelihood(spec, table(), own), rel=1e-9)


def test_the_posterior_is_pymc_s(spec, design):
    graph = bm.build(spec, design)
    for jacobian in (False, True):
        logp = graph.model.compile_logp(jacobian=jacobian, mode="FAST_COMPILE")
        moving = coordinates(spec, design, jacobian=jacobian)
        theta = points(moving)
        values = moving.variables(theta)
        for j, value in enumerate(Objective(moving).value(theta)):
            point = graph.unconstrained({name: v[j] for name, v in values.items()})
            assert value == pytest.approx(float(logp(point)), rel=1e-8)


def test_points_and_variables_are_inverse(spec, design):
    for likelihood in (False, True):
        moving = coordinates(spec, design, likelihood=likelihood)
        theta = points(moving)
        np.testing.assert_allclose(moving.points(moving.variables(theta)), theta, atol=1e-10)


def differences(function, theta, step=1e-4):
    """Slopes (point, ..., coordinate) by differences of fourth order."""
    found = []
    for e in np.eye(theta.shape[1]) * step:
        near, far = (
            function(theta + e) - function(theta - e),
            function(theta + 2 * e) - function(theta - 2 * e),
        )
        found.append((8 * near - far) / (12 * step))
    return np.stack(found, axis=-1)


@pytest.mark.parametrize("likelihood", [False, True])
def test_derivatives_are_those_of_differences(spec, design, likelihood):
    moving = coordinates(spec, design, likelihood=likelihood)
    objective, theta = Objective(moving), points(moving)
    found = objective.evaluate(theta, Curvature.OBSERVED)
    np.testing.assert_allclose(found.value, objective.value(theta), rtol=1e-12)
    scale = np.abs(found.gradient).max()
    np.testing.assert_allclose(
        found.gradient, differences(objective.value, theta, 1e-3), rtol=1e-6, atol=1e-6 * scale
    )

    def gradient(at):
        return objective.evaluate(at, Curvature.COMPLETE).gradient

    bend = -differences(gradient, theta)
    scale = np.abs(bend).max()
    np.testing.assert_allclose(found.curvature, bend, rtol=1e-6, atol=1e-7 * scale)
    symmetric = np.swapaxes(found.curvature, 1, 2)
    np.testing.assert_allclose(found.curvature, symmetric, atol=1e-12 * scale)


def test_complete_information_is_that_of_the_complete_data(spec, design):
    """Its gradient is that of the observed data; for canonical links its curvature is exact."""
    moving = coordinates(spec, design)
    objective, theta = Objective(moving), points(moving)
    complete = objective.evaluate(theta, Curvature.COMPLETE)
    observed = objective.evaluate(theta, Curvature.OBSERVED)
    np.testing.assert_allclose(complete.gradient, observed.gradient, rtol=1e-9, atol=1e-9)
    for matrix in complete.curvature:
        assert np.linalg.eigvalsh(matrix).min() > -1e-8 * np.abs(matrix).max()
    np.testing.assert_allclose(complete.rows.sum(axis=1), ROWS)
    mixture = evaluate(spec, moving.variables(theta), design.rows)
    held = mixture.responsibilities(design.response)
    again = objective.evaluate(theta, Curvature.COMPLETE, held)
    np.testing.assert_allclose(again.gradient, complete.gradient, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(again.curvature, complete.curvature, rtol=1e-9, atol=1e-9)


def test_one_point_as_many(spec, design):
    objective = Objective(coordinates(spec, design))
    theta = points(objective.coordinates, 4)
    for curvature in (Curvature.COMPLETE, Curvature.OBSERVED):
        together = objective.evaluate(theta, curvature)
        for j in range(4):
            alone = objective.evaluate(theta[[j]], curvature)
            for field in ("value", "gradient", "curvature"):
                one, many = getattr(alone, field)[0], getattr(together, field)[j]
                np.testing.assert_allclose(one, many, rtol=1e-9, atol=1e-9 * np.abs(many).max())


@pytest.mark.parametrize("name", ["two kinds", "binomial-4", "sigma formula"])
def test_chunks_and_threads_change_nothing(monkeypatch, name):
    design = CASES[name].design(table())
    moving = coordinates(CASES[name], design)
    theta = points(moving)
    whole = Objective(moving).evaluate(theta, Curvature.OBSERVED)
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 2**10)
    one, two = (Objective(moving, cores=c).evaluate(theta, Curvature.OBSERVED) for c in (1, 2))
    assert len(list(Objective(moving)._places(len(theta), 100))) > 2
    for field in ("value", "gradient", "curvature", "rows"):
        chunked = getattr(one, field)
        np.testing.assert_array_equal(getattr(two, field), chunked)
        scale = np.abs(chunked).max()
        np.testing.assert_allclose(getattr(whole, field), chunked, rtol=1e-12, atol=1e-12 * scale)


def test_rows_at_the_floor_have_no_slope_and_are_counted(tone, tone_spec):
    design = tone_spec.design(tone)
    moving = coordinates(tone_spec, design, likelihood=True)
    slot = next(s for s in moving.slots if s.role == "scale")
    objective, theta = Objective(moving), points(moving, 1)
    theta[:, slot.where] = [slot.floor - 1, 0.0]
    found = objective.evaluate(theta, Curvature.OBSERVED)
    at_floor = theta.copy()
    at_floor[:, slot.where] = [slot.floor, 0.0]
    np.testing.assert_array_equal(found.value, objective.value(at_floor))
    assert found.gradient[0, slot.where][0] == 0
    np.testing.assert_allclose(found.at_floor, found.rows[:, 0])
    assert moving.variables(theta)["sigma"][0, 0] == pytest.approx(np.exp(slot.floor))


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_overflows_far_away(family):
    spec = plain(family, experts=2, **OWN.get(family, {}))
    moving = coordinates(spec, spec.design(table()), likelihood=True)
    objective, theta = Objective(moving), points(moving, 1)
    location = next(s for s in moving.slots if s.block is not None)
    theta[:, location.where.start : location.where.start + 2] = 5e3  # of the first expert
    found = objective.evaluate(theta, Curvature.OBSERVED)
    for part in (found.value, found.gradient, found.curvature):
        assert np.isfinite(part).all()


def test_standard_errors_are_those_of_the_information_and_the_delta_method(tone, tone_spec):
    fit = bm.fit(tone_spec, tone, method="em", random_seed=1)
    design = tone_spec.design(tone)
    moving = coordinates(tone_spec, design)
    values = {n: fit.idata["posterior"][n].values[0] for n in tone_spec.variables}
    theta = moving.points(values)

    def gradient(at):
        return Objective(moving).evaluate(at, Curvature.COMPLETE).gradient

    spread = np.linalg.inv(-differences(gradient, theta)[0])
    for name in tone_spec.variables:
        slope = differences(lambda at, n=name: moving.variables(at)[n].reshape(len(at), -1), theta)[
            0
        ]
        sd = np.sqrt(np.einsum("ij,jk,ik->i", slope, spread, slope))
        found = fit.idata["standard_error"][name].values.ravel()
        np.testing.assert_allclose(found, sd, rtol=1e-5)

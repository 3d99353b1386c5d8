"""The objective is the log density of the model; its derivatives are those of differences."""

import re

import numpy as np
import pytest
from scipy import special, stats

import bayes_moe as bm
from bayes_moe.em import objective as module
from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.gates import Gaussian, Softmax, StickBreaking
from bayes_moe.model.evaluation import evaluate
from tests.support import contracts
from tests.support.examples import CUSPED, FAMILIES
from tests.support.linear_models import MODELS, ROWS, plain, points, table


@pytest.fixture(scope="module", params=list(MODELS))
def spec(request):
    return MODELS[request.param]


@pytest.fixture(scope="module")
def design(spec):
    return spec.design(table())


def log_weights(spec, values, eta, data):
    """Gate weights by recursion, from their definition."""
    gate = spec.gate
    if isinstance(gate, Softmax):
        logits = np.array([eta(c, gate.formula, j) for j, c in enumerate(values["gate_coef"])])
        return special.log_softmax(logits / gate.temperature, axis=0)
    if isinstance(gate, Gaussian):
        return log_joint(gate, values, data)
    if isinstance(gate, StickBreaking):
        sticks = special.expit([eta(c, gate.formula) for c in values["gate_coef"]])
        left = np.cumprod(np.vstack([np.ones_like(sticks[:1]), 1 - sticks]), axis=0)
        return np.log(left * np.vstack([sticks, np.ones_like(sticks[:1])]))
    rows = {}
    for head in gate.structure(spec.n_experts).heads:
        formula = spec.formulas[head.stem]
        for j, (label, coef) in enumerate(
            zip(head.labels, values[f"{head.stem}_coef"], strict=True)
        ):
            rows[label] = eta(coef, formula, j)
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
    derived = gate.structure(3).features.derived({n: v[None] for n, v in values.items()})
    return np.array(
        [
            np.log(weight) + stats.multivariate_normal(mean, cov).logpdf(features)
            for weight, mean, cov in zip(
                *(derived[f"gate_{n}"][0] for n in ("weight", "mean", "cov")), strict=True
            )
        ]
    )


def without_offsets(formula, data, output):
    """A formula without its offsets, and their sum (obs,) for one output, by Python itself."""
    names = {"x": data["x"], "z": data["z"], "n": data["n"], "log": np.log}
    total = np.zeros(len(data))
    for text in re.findall(r"offset\(((?:[^()]|\([^()]*\))*)\)", formula):
        columns = eval(f"[{text}]", names)
        total = total + columns[output if len(columns) > 1 else 0]
    return re.sub(r"\+ offset\((?:[^()]|\([^()]*\))*\)", "", formula), np.asarray(total)


def log_likelihood(spec, data, values):
    """The mixture's log likelihood from SciPy's distributions."""
    features = {"1": np.ones(len(data)), "x": data["x"], "z": data["z"]}

    def eta(coef, formula, output=0):
        formula, offset = without_offsets(formula, data, output)
        terms = [t.strip() for t in formula.split("~")[1].split("+")]
        terms = terms[1:] if terms[0] == "0" else ["1"] + [t for t in terms if t != "1"]
        return offset + sum(b * np.asarray(features[t]) for b, t in zip(coef, terms, strict=True))

    y, k = spec.design(data).response, 0
    found = np.empty((spec.n_experts, len(data)))
    for block in spec.structure.blocks:
        for j in range(len(block.positions)):
            own = {}
            for c in block.components:
                value = values[c.variable][j]
                own[c.parameter.name] = value if c.formula is None else eta(value, c.formula)
                if (
                    c.formula is not None
                    and c.parameter.link.natural
                    and c.parameter.link.name == "log"
                ):
                    own[c.parameter.name] = np.exp(own[c.parameter.name])
            known = {name: data["n"] for name in block.family.known_counts}
            if block.family.takes_responses:
                found[k] = log_normals(y, block.family.names, own)
            else:
                found[k] = FAMILIES[block.family.kind].log_density(y, **own, **known)
            k += 1
    if spec.n_experts > 1:
        found += log_weights(spec, values, eta, data)
    return special.logsumexp(found, axis=0).sum()


def log_normals(y, names, own):
    """Log density (obs,) of responses that are normal together, by SciPy."""
    n = y.shape[1]
    mean, sigma = (
        np.stack([np.broadcast_to(own[f"{stem}_{name}"], (n,)) for name in names], axis=-1)
        for stem in ("mu", "sigma")
    )
    found = np.empty(n)
    for i in range(n):
        correlation = np.eye(len(names))
        for k in range(len(names)):
            for j in range(k):
                rho = np.broadcast_to(own[f"rho_{names[j]}_{names[k]}"], (n,))[i]
                if isinstance(own[f"rho_{names[j]}_{names[k]}"], np.ndarray):
                    rho = np.tanh(rho / 2)
                for before in reversed(range(j)):  # from the partial correlation given these
                    a, b = correlation[before, j], correlation[before, k]
                    assert before == 0  # recursion for three responses
                    rho = rho * np.sqrt((1 - a**2) * (1 - b**2)) + a * b
                correlation[j, k] = correlation[k, j] = rho
        covariance = correlation * np.outer(sigma[i], sigma[i])
        found[i] = stats.multivariate_normal(mean[i], covariance).logpdf(y[:, i])
    return found


def test_the_likelihood_is_scipy_s(spec, design):
    moving = parameter_vector(spec, design, likelihood=True)
    theta = points(moving)
    values = moving.variables(theta)
    found = Objective(moving)
    for j, value in enumerate(found.value(theta)):
        own = {name: v[j] for name, v in values.items()}
        assert value == pytest.approx(log_likelihood(spec, table(), own), rel=1e-9)


def test_the_posterior_is_pymc_s(spec, design):
    contracts.objective_is_the_graphs_log_density(spec, design)


def test_points_and_variables_are_inverse(spec, design):
    for likelihood in (False, True):
        moving = parameter_vector(spec, design, likelihood=likelihood)
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
    if any(block.family.kind in CUSPED for block in spec.structure.blocks):
        pytest.skip("the slope of a row jumps at its kink, or is vertical at its cusp")
    moving = parameter_vector(spec, design, likelihood=likelihood)
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
    moving = parameter_vector(spec, design)
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
    objective = Objective(parameter_vector(spec, design))
    theta = points(objective.vector, 4)
    for curvature in (Curvature.COMPLETE, Curvature.OBSERVED):
        together = objective.evaluate(theta, curvature)
        for j in range(4):
            alone = objective.evaluate(theta[[j]], curvature)
            for field in ("value", "gradient", "curvature"):
                one, many = getattr(alone, field)[0], getattr(together, field)[j]
                np.testing.assert_allclose(one, many, rtol=1e-9, atol=1e-9 * np.abs(many).max())


@pytest.mark.parametrize("name", ["two kinds", "binomial-4", "sigma formula"])
@pytest.mark.parametrize("shared", [False, True])
def test_chunks_and_threads_change_nothing(monkeypatch, name, shared):
    design = MODELS[name].design(table())
    moving = parameter_vector(MODELS[name], design)
    theta = points(moving)
    whole = Objective(moving).evaluate(theta, Curvature.OBSERVED)
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 2**8 if shared else 2**10)
    if shared:
        monkeypatch.setattr(module, "SHARED_ROWS", design.rows.size)
    asked, in_threads = [], module.in_threads

    def counted(function, items, workers):
        asked.append(workers)
        return in_threads(function, items, workers)

    monkeypatch.setattr(module, "in_threads", counted)
    one, two = (Objective(moving, cores=c).evaluate(theta, Curvature.OBSERVED) for c in (1, 2))
    assert max(asked) == (2 if shared else 1)
    assert len(list(Objective(moving)._slices(len(theta), 100))) > 2
    for field in ("value", "gradient", "curvature", "rows"):
        chunked = getattr(one, field)
        np.testing.assert_array_equal(getattr(two, field), chunked)
        scale = np.abs(chunked).max()
        np.testing.assert_allclose(getattr(whole, field), chunked, rtol=1e-12, atol=1e-12 * scale)


def test_rows_at_the_floor_have_no_slope_and_are_counted(tone, tone_spec):
    design = tone_spec.design(tone)
    moving = parameter_vector(tone_spec, design, likelihood=True)
    slot = next(s for s in moving.blocks if s.role == "scale")
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
    spec = plain(family, experts=2, **FAMILIES[family].options)
    moving = parameter_vector(spec, spec.design(table()), likelihood=True)
    objective, theta = Objective(moving), points(moving, 1)
    location = next(s for s in moving.blocks if s.factor is not None)
    theta[:, location.where.start : location.where.start + 2] = 5e3  # of the first expert
    found = objective.evaluate(theta, Curvature.OBSERVED)
    for part in (found.value, found.gradient, found.curvature):
        assert np.isfinite(part).all()


def test_standard_errors_are_those_of_the_information_and_the_delta_method(tone, tone_spec):
    fit = bm.fit(tone_spec, tone, method="em", random_seed=1)
    design = tone_spec.design(tone)
    moving = parameter_vector(tone_spec, design)
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

"""Mixture density networks: their description, what they reduce to, and a fit through the graph."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.graph.log_density import GraphLogDensity
from tests.support.graphs import internal_graph


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(1)
    x, z = rng.uniform(-2, 2, 120), rng.normal(size=120)
    upper = rng.random(120) < 0.5
    y = np.where(upper, np.sin(x), -1.5) + 0.2 * rng.normal(size=120)
    return pd.DataFrame({"x": x, "z": z, "y": y, "count": rng.poisson(np.exp(0.5 * x))})


@pytest.fixture(scope="module")
def fit(table):
    spec = bm.mixture_density("y ~ x", components=2, hidden=(4,))
    options = {"optimizer": "adam", "epochs": 400, "restarts": 2, "progressbar": False}
    return bm.fit(spec, table, method="map", random_seed=1, **options)


def values_of(spec, table, seed=0, scale=0.3):
    """Random values of a model's reported variables."""
    rng = np.random.default_rng(seed)
    graph = bm.build(spec, table)
    shapes = {name: graph.model[name].shape.eval() for name in spec.variables}
    found = {name: scale * rng.standard_normal(shape) for name, shape in shapes.items()}
    found["gate_coef"] -= found["gate_coef"].mean(axis=0)
    return found


def test_heads_share_the_trunk():
    spec = bm.mixture_density("y ~ x + z", components=3, hidden=(5, 4))
    assert spec.n_experts == 3
    assert len(spec.structure.blocks) == 1
    assert spec.structure.dims["trunk_hidden0"] == ("trunk_unit0", "trunk_term")
    assert spec.structure.dims["trunk_hidden1"] == ("trunk_unit1", "trunk_input1")
    assert spec.structure.dims["trunk_decay"] == ("trunk_layer",)
    for head in ("gate", "mu", "sigma"):
        assert spec.structure.dims[f"{head}_coef"] == ("expert", f"{head}_basis")
        assert f"{head}_hidden0" not in spec.structure.dims
    assert not spec.structure.is_linear
    assert list(spec.structure.dims).count("trunk_hidden0") == 1


def test_shapes_on_a_table(table):
    spec = bm.mixture_density("y ~ x + z", components=3, hidden=(5, 4))
    shapes = {name: v.shape for name, v in values_of(spec, table).items()}
    assert shapes["trunk_hidden0"] == (5, 3)
    assert shapes["trunk_hidden1"] == (4, 6)
    assert shapes["trunk_decay"] == (2,)
    assert {shapes[f"{head}_coef"] for head in ("gate", "mu", "sigma")} == {(3, 5)}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"components": 1},
        {"hidden": ()},
        {"hidden": [3], "activation": "softplus", "center": False},
        {"family": "studentt", "sigma": "~ 1"},
        {"priors": {"trunk_decay": bm.Prior("Gamma", alpha=3.0, beta=2.0)}},
    ],
)
def test_descriptions_survive_a_round_trip(options):
    spec = bm.mixture_density("y ~ x", **options)
    again = bm.MixtureOfExperts.from_dict(spec.to_dict())
    assert again == spec
    assert again.structure.dims == spec.structure.dims


def test_heads_of_other_families():
    student = bm.mixture_density("y ~ x", 2, (4,), family="studentt")
    assert student.structure.dims["sigma_coef"] == ("expert", "sigma_basis")
    assert student.structure.dims["nu"] == ("expert",)
    counts = bm.mixture_density("count ~ x", 2, (4,), family="poisson")
    heads = {name for name in counts.structure.dims if name.endswith("_coef")}
    assert heads == {"gate_coef", f"{counts.structure.blocks[0].components[0].parameter.name}_coef"}
    constant = bm.mixture_density("y ~ x", 2, (4,), sigma="~ 1")
    assert constant.structure.dims["mu_coef"] == ("expert", "mu_basis")
    assert constant.structure.dims["sigma_coef"] == ("expert", "sigma_term")


def test_one_component_is_one_network(table):
    spec = bm.mixture_density("y ~ x", components=1, hidden=(4,))
    assert {"trunk_hidden0", "mu_coef", "sigma_coef"} <= set(spec.variables)
    graph = bm.build(spec, table)
    assert np.isfinite(graph.model.compile_logp(mode="FAST_COMPILE")(graph.model.initial_point()))


def test_a_network_without_hidden_layers_is_a_linear_mixture(table):
    spec = bm.mixture_density("y ~ x + z", components=3, hidden=())
    linear = bm.mixture_of_experts("y ~ x + z", gate="~ x + z", experts=3, sigma="~ x + z")
    assert spec.structure.is_linear
    assert not any(name.startswith("trunk") for name in spec.structure.dims)
    assert spec.variables == linear.variables
    surfaces = [GraphLogDensity(internal_graph(described, table)) for described in (spec, linear)]
    gaps, features = [], table[["x", "z"]].to_numpy()
    for seed in (0, 1):
        values = values_of(linear, table, seed)
        net = {name: standardised(coef, features) for name, coef in values.items()}
        (prior, own, _), (theirs, likelihood, _) = (
            surface.weighted(surface.point(at), 1.0)
            for surface, at in zip(surfaces, (net, values), strict=True)
        )
        np.testing.assert_allclose(own, likelihood, rtol=1e-10)
        gaps.append(prior - theirs)
    np.testing.assert_allclose(*gaps, rtol=1e-10)  # of units


def standardised(coef, features):
    """Coefficients of standardised features, from those of features; intercepts come first."""
    centre, spread = features.mean(axis=0), features.std(axis=0)
    return np.column_stack([coef[:, 0] + coef[:, 1:] @ centre, coef[:, 1:] * spread])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"components": 0}, "whole number >= 1"),
        ({"components": 2.0}, "whole number >= 1"),
        ({"components": True}, "whole number >= 1"),
        ({"hidden": 16}, "sequence of whole numbers"),
        ({"hidden": (4, 0)}, "hidden"),
        ({"activation": "tanhh"}, "Did you mean 'tanh'"),
        ({"family": "norml"}, "Did you mean 'normal'"),
        ({"tau": "~ x"}, "tau"),
    ],
)
def test_settings_are_checked(options, message):
    with pytest.raises(bm.SpecError, match=message):
        bm.mixture_density("y ~ x", **options)


def test_a_network_needs_an_intercept(table):
    with pytest.raises(bm.SpecError, match="intercept"):
        bm.build(bm.mixture_density("y ~ 0 + x", 2, (4,)), table)


def test_a_density_network_learns_two_branches(fit, table):
    assert fit.idata["posterior"]["trunk_hidden0"].shape[2:] == (4, 2)
    prediction = bm.predict(fit, table)
    score = float(prediction.logpdf(table["y"].to_numpy()).mean())
    spread = table["y"].std()
    one = -0.5 * np.log(2 * np.pi * np.e * spread**2)
    assert score > one + 0.3
    weights = prediction.weights()
    np.testing.assert_allclose(weights.sum("expert"), 1.0)
    assert np.isfinite(prediction.interval(0.9)).all()


def test_a_saved_fit_predicts_the_same(fit, table, tmp_path):
    bm.save(fit, tmp_path / "net.nc")
    again = bm.load(tmp_path / "net.nc")
    assert again.spec == fit.spec
    new = {"x": [-1.0, 0.5]}
    np.testing.assert_array_equal(bm.predict(again, new).mean(), bm.predict(fit, new).mean())


def test_a_density_network_fits_other_rows(fit, table):
    options = {"optimizer": "adam", "epochs": 400, "restarts": 2, "progressbar": False}
    again = bm.fit(fit.spec, table.iloc[:100], method="map", random_seed=1, **options)
    assert again.spec == fit.spec
    assert np.isfinite(bm.predict(again, table.iloc[100:]).mean()).all()

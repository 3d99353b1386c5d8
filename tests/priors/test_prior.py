"""Priors: a checked, frozen record in the user's units, and defaults that follow the data."""

import copy
import pickle

import numpy as np
import pytest
from scipy import stats

import bayes_moe as bm
from bayes_moe.core.errors import SpecError
from bayes_moe.priors.defaults import default_constant, units_of
from bayes_moe.priors.prior import DISTRIBUTIONS, Prior

VALUES = {"eta": 1.7} | {
    "mu": -0.7,
    "sigma": 1.3,
    "nu": 4.0,
    "b": 0.8,
    "alpha": 2.0,
    "beta": 1.5,
    "s": 0.6,
}
VALUES["lam"] = 2.0

SCIPY = {
    "Normal": lambda mu, sigma: stats.norm(mu, sigma),
    "StudentT": lambda nu, mu, sigma: stats.t(nu, mu, sigma),
    "Laplace": lambda mu, b: stats.laplace(mu, b),
    "Cauchy": lambda alpha, beta: stats.cauchy(alpha, beta),
    "Logistic": lambda mu, s: stats.logistic(mu, s),
}


def prior(name):
    return Prior(name, **{a: VALUES[a] for a in DISTRIBUTIONS[name].arguments})


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_round_trips(name):
    one = prior(name)
    vector = Prior(name, **{a: [v, 2 * abs(v)] for a, v in one.arguments.items()})
    for p in (one, vector):
        for again in (
            Prior.from_dict(p.to_dict()),
            Prior.from_json(p.to_json()),
            pickle.loads(pickle.dumps(p)),
            copy.deepcopy(p),
            eval(repr(p), {"Prior": Prior}),
        ):
            assert again == p
            assert hash(again) == hash(p)
    assert one != vector
    assert one != name


@pytest.mark.parametrize(
    "name", [n for n, k in DISTRIBUTIONS.items() if k.support != "correlation"]
)
def test_the_table_speaks_pymc(name):
    import pymc as pm

    distribution = getattr(pm, name)
    arguments = dict(prior(name).arguments)
    if name == "ZeroSumNormal":
        arguments["shape"] = 3
    distribution.dist(**arguments)
    assert DISTRIBUTIONS[name].support in ("real", "positive", "unit", "zero-sum")


@pytest.mark.parametrize("name", [n for n, k in DISTRIBUTIONS.items() if k.location])
def test_rescaling_moves_the_density_with_the_unit(name):
    loc, scale = np.array([3.0, -1.0]), np.array([0.2, 40.0])
    given = prior(name).over_terms("mu_coef", ("a", "b"))
    inner = given.rescaled(loc, scale)
    value = np.array([0.4, -2.0])
    outer = SCIPY[name](**given.arguments).logpdf(value)
    assert outer.shape == (2,)
    found = SCIPY[name](**inner.arguments).logpdf((value - loc) / scale) - np.log(scale)
    np.testing.assert_allclose(found, outer)


def test_one_number_for_all_terms_or_one_a_term():
    terms = ("Intercept", "x", "z")
    spread = Prior("Normal", mu=1, sigma=[1, 2, 3]).over_terms("mu_coef", terms)
    assert spread == Prior("Normal", mu=[1, 1, 1], sigma=[1, 2, 3])
    with pytest.raises(SpecError, match=r"'mu_coef' has 2 values for 'sigma'.* 3 terms: Intercept"):
        Prior("Normal", sigma=[1, 2]).over_terms("mu_coef", terms)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("Normall", {}, "Unknown prior distribution 'Normall'. Did you mean 'Normal'"),
        ("halfnormal", {"sigma": 1}, "Did you mean 'HalfNormal'"),
        (None, {}, "Unknown prior distribution None"),
        (["Normal"], {}, r"Unknown prior distribution \['Normal'\]"),
        (
            "Normal",
            {"sd": 1},
            "Unknown argument of Normal 'sd'. Did you mean 'sigma'",
        ),
        ("Normal", {"sigm": 1}, "Did you mean 'sigma'"),
        ("Normal", {"mu": 0}, "'Normal' needs sigma"),
        ("Gamma", {}, "'Gamma' needs alpha, beta"),
        ("Normal", {"sigma": "2"}, "'sigma' of prior 'Normal' is no number: '2'"),
        ("Normal", {"sigma": True}, "is no number: True"),
        ("Normal", {"sigma": None}, "is no number: None"),
        ("Normal", {"sigma": 1j}, "is no number: 1j"),
        ("Normal", {"sigma": [1, [2]]}, r"is no number: \[1, \[2\]\]"),
        ("Normal", {"sigma": []}, r"finite number, or one number a term; it is \[\]"),
        ("Normal", {"sigma": [[1]]}, "one number a term"),
        ("Normal", {"sigma": np.inf}, "finite number.*it is inf"),
        ("Normal", {"mu": np.nan, "sigma": 1}, "'mu' of prior 'Normal' must be a finite.*nan"),
        ("Normal", {"sigma": 0}, "'sigma' of prior 'Normal' must be positive; it is 0"),
        ("Normal", {"sigma": [1, -1]}, r"must be positive; it is \[1, -1\]"),
        ("Gamma", {"alpha": -1, "beta": 1}, "'alpha' of prior 'Gamma' must be positive"),
    ],
)
def test_priors_that_are_none(name, arguments, message):
    with pytest.raises(SpecError, match=message):
        Prior(name, **arguments)


def test_a_location_is_zero_unless_given_and_may_be_negative():
    assert Prior("Normal", sigma=1) == Prior("Normal", mu=0, sigma=1)
    assert Prior("Cauchy", beta=1).arguments["alpha"] == 0
    assert Prior("Cauchy", alpha=-3, beta=1).arguments["alpha"] == -3


def test_nothing_can_be_changed():
    sigma = np.array([1.0, 2.0])
    p = Prior("Normal", sigma=sigma)
    sigma[0] = 99
    assert p.arguments["sigma"] == (1.0, 2.0)
    with pytest.raises(AttributeError, match="Prior is frozen"):
        p.distribution = "Laplace"
    with pytest.raises(AttributeError, match="Prior is frozen"):
        del p.arguments
    with pytest.raises(TypeError):
        p.arguments["mu"] = 3.0


@pytest.mark.parametrize("text", ["", "{}", "[]", "3", '{"distribution": "Normal", "sd": 1}'])
def test_texts_that_describe_no_prior(text):
    with pytest.raises(SpecError):
        Prior.from_json(text)


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_default_widths_follow_the_response(unit):
    """Defaults mean the same whatever the unit: only what carries the unit scales with it."""
    y = np.random.default_rng(0).normal(5, 2, 100)
    for has_intercept in (True, False):
        for role in ("gate", "location", "rate", "scale", "shape", "precision"):
            old = units_of(role, y, has_intercept)
            new = units_of(role, y * unit, has_intercept)
            assert (new.intercept, new.slope) == (old.intercept, old.slope)
            if role == "location":
                np.testing.assert_allclose(
                    [new.unit, new.offset], [old.unit * unit, old.offset * unit]
                )
            elif role in ("rate", "scale") and has_intercept:
                np.testing.assert_allclose(new.offset, old.offset + np.log(unit))
                np.testing.assert_allclose(new.unit, old.unit)
            else:
                np.testing.assert_allclose([new.unit, new.offset], [old.unit, old.offset])
    np.testing.assert_allclose(
        np.exp(default_constant("scale", y * unit).arguments["mu"]), np.std(y) / 2 * unit
    )


def test_default_priors_are_what_the_documentation_says():
    rng = np.random.default_rng(3)
    data = {"y": rng.normal(10, 3, 60), "x": rng.normal(2, 0.1, 60)}
    spec = bm.mixture_of_experts("y ~ x", family="studentt", sigma="~ x")
    found = spec.resolve_priors(spec.design(data))
    m, s_y, s_x = data["y"].mean(), data["y"].std(), data["x"].std()
    expected = {
        "gate_coef": Prior("ZeroSumNormal", sigma=[1.5, 2.5 / s_x]),
        "mu_coef": Prior("Normal", mu=[m, 0], sigma=[2.5 * s_y, 2.5 * s_y / s_x]),
        "sigma_coef": Prior("Normal", mu=[np.log(s_y / 2), 0], sigma=[1, 1 / s_x]),
        "nu": Prior("Gamma", alpha=2, beta=0.1),
    }
    assert list(found) == list(expected)
    for name, prior in expected.items():
        assert found[name].distribution == prior.distribution
        for argument, value in prior.arguments.items():
            np.testing.assert_allclose(found[name].arguments[argument], value)
    mine = bm.mixture_of_experts("y ~ x", priors={"mu_coef": Prior("Laplace", b=1)})
    assert mine.resolve_priors(mine.design(data))["mu_coef"] == Prior("Laplace", b=1)


@pytest.mark.parametrize(
    ("y", "unit"),
    [
        (np.array([90.0, 100.0, 110.0]), np.sqrt(np.log1p(2 / 300))),
        (np.array([0.0, 0.0, 0.0, 1.0]), 1.0),
        (np.array([0.0, 1.0, 1.0, 2.0]), np.sqrt(np.log(1.5))),
    ],
)
def test_means_on_the_log_vary_as_the_response_does(y, unit):
    """A log-normal of that spread has the response's coefficient of variation; one is the most."""
    table = {"y": y, "x": np.array([0.0, 1.0, 4.0, 2.0])[: len(y)]}
    spec = bm.mixture_of_experts("y ~ x", experts=1, family="negativebinomial")
    prior = spec.resolve_priors(spec.design(table))["mu_coef"].arguments
    widths = np.array([2.5, 2.5 / table["x"].std()]) * unit
    np.testing.assert_allclose(prior["sigma"], widths)
    np.testing.assert_allclose(prior["mu"], [np.log(y.mean()), 0])
    assert units_of("rate", y, has_intercept=False).unit == 1


def test_a_collapsing_expert_is_no_mode():
    """The default beats the likelihood's spike, any power of 1 / sigma, on the way to zero."""
    default = default_constant("scale", np.array([0.0, 1.0, 3.0]))
    assert default.distribution == "LogNormal"
    sigma = np.logspace(-8, -20, 13)
    density = stats.lognorm(default.arguments["sigma"], scale=np.exp(default.arguments["mu"]))
    assert np.all(np.diff(density.logpdf(sigma) - 10 * np.log(sigma)) < 0)


def test_an_unknown_role_is_refused_and_not_taken_for_a_shape():
    with pytest.raises(SpecError, match="role"):
        units_of("precission", np.arange(3.0), True)
    with pytest.raises(SpecError, match="role"):
        default_constant("location", np.arange(3.0))

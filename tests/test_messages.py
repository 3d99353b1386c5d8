"""Messages about misspelt names, names of other packages, and values of another type."""

import inspect
import warnings
from dataclasses import fields

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe import families
from bayes_moe.core import registry
from bayes_moe.core.errors import closest
from bayes_moe.core.other_names import ABSENT, SAME, folded
from bayes_moe.inference.base import FIT_ARGUMENTS
from bayes_moe.plots.canvas import PLOT_ARGUMENTS
from bayes_moe.prediction.extension import GROUPS
from bayes_moe.priors.prior import DISTRIBUTIONS

RECIPES = (bm.mixture_of_experts, bm.hierarchical_mixture, bm.mixture_density)
CURVES = (bm.plot_gate, bm.plot_experts, bm.plot_predictive)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 40)
    codes = np.arange(40) % 3 + 1
    return pd.DataFrame(
        {"x": x, "y": x + rng.normal(size=40), "g": codes, "k": codes, "n": 3 + codes % 2}
    ).assign(s=rng.permutation(codes).astype(str))


@pytest.fixture(scope="module")
def fits(table):
    specs = {
        "codes": bm.mixture_of_experts("y ~ x + C(g) + s", gate="~ x", experts=2),
        "trials": bm.mixture_of_experts("k ~ 1", "~ x", 2, "binomial", trials="n"),
        "trials only": bm.mixture_of_experts("k ~ x", "~ 1", 2, "binomial", trials="n"),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {k: bm.fit(s, table, "em", random_seed=1, restarts=3) for k, s in specs.items()}


def own_arguments(function):
    """Arguments of a function, without that of further ones."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]


def misspelt(name):
    """Two misspellings of a name: two letters exchanged, and one left out."""
    middle = len(name) // 2
    exchanged = name[: middle - 1] + name[middle] + name[middle - 1] + name[middle + 1 :]
    return [w for w in (exchanged, name[:middle] + name[middle + 1 :]) if w != name]


def message(function, *args, **kwargs):
    with pytest.raises((bm.SpecError, bm.DataError)) as raised:
        function(*args, **kwargs)
    return str(raised.value)


# --- misspelt keywords, over all functions that take further settings ----------------------------


SETTINGS = [
    (method, f.name)
    for method in registry.TABLE["method"]
    for f in fields(registry.resolve("method", method))
]


@pytest.mark.parametrize(("method", "name"), SETTINGS)
def test_misspelt_settings_of_methods(fits, table, method, name):
    spec = fits["codes"].spec
    for wrong in misspelt(name):
        assert f"Did you mean {name!r}?" in message(bm.fit, spec, table, method, **{wrong: 1})


def test_the_arguments_of_fit_are_known_to_the_suggester():
    assert {*own_arguments(bm.fit)} - {"spec"} == {*FIT_ARGUMENTS}


@pytest.mark.parametrize("name", FIT_ARGUMENTS)
def test_misspelt_arguments_of_fit_and_refit(fits, table, name):
    fit = fits["codes"]
    for wrong in misspelt(name):
        expected = f"Did you mean {name!r}?"
        for method in ("nuts", "em"):
            assert expected in message(bm.fit, fit.spec, table, method, **{wrong: 1})
        assert expected in message(bm.refit, fit, table, **{wrong: 1})


@pytest.mark.parametrize("name", ["method", "relabel", "log_likelihood"])
def test_what_refit_cannot_change(fits, table, name):
    text = message(bm.refit, fits["codes"], table, **{name: "em"})
    assert f"{name!r} cannot be changed by bm.refit" in text


@pytest.mark.parametrize(
    ("recipe", "name"), [(r, n) for r in RECIPES for n in own_arguments(r)[1:]]
)
def test_misspelt_arguments_of_recipes(recipe, name):
    for wrong in misspelt(name):
        text = message(recipe, "y ~ x", **{wrong: 1})
        assert f"Did you mean {name!r}?" in text
        assert f"argument of bm.{recipe.__name__}" in text


PARAMETERS = [
    (name, p.name)
    for name in registry.TABLE["family"]
    for p in families.by_name(name).parameters[1:]
    if len(p.name) > 2
]


@pytest.mark.parametrize(("family", "name"), PARAMETERS)
def test_misspelt_parameters_of_families(family, name):
    for wrong in misspelt(name):
        options = {"trials": 3} if family == "binomial" else {}
        several = families.by_name(family).takes_responses
        formula = "cbind(y1, y2) ~ x" if several else "y ~ x"
        text = message(bm.Expert, formula, family, **{wrong: "~ x"}, **options)
        assert f"Did you mean {name!r}?" in text


def test_parameters_of_another_family_are_named_with_it():
    found = message(bm.mixture_of_experts, "y ~ x", nu="~ x")
    assert "Families with it: 'studentt', 'beta'." in found
    found = message(bm.mixture_of_experts, "y ~ x", trials="n")
    assert "Families with it: 'binomial', 'betabinomial', 'multinomial'." in found


@pytest.mark.parametrize(
    ("plot", "name"), [(p, n) for p in CURVES for n in own_arguments(p)[1:] if len(n) > 2]
)
def test_misspelt_arguments_of_plots(fits, plot, name):
    assert {*own_arguments(plot)} - {"fit"} <= {*PLOT_ARGUMENTS}
    for wrong in misspelt(name):
        text = message(plot, fits["codes"], **{"feature": "x", wrong: 1})
        assert f"Did you mean {name!r}?" in text


def test_misspelt_arguments_of_plot_tree(fits):
    for name in own_arguments(bm.plot_tree)[1:]:
        for wrong in misspelt(name) if len(name) > 2 else ():
            assert f"Did you mean {name!r}?" in message(bm.plot_tree, fits["codes"], **{wrong: 1})


# --- names of other packages ---------------------------------------------------------------------


OFFERED = {
    "family": {
        "gaussian": "normal",
        "t": "studentt",
        "Student-t": "studentt",
        "norm": "normal",
        "ordinal": "orderedlogistic",
        "negbin": "negativebinomial",
    },
    "argument": {"seed": "random_seed", "random_state": "random_seed", "n_init": "restarts"},
    "setting of EM": {"iter": "max_iter", "n_iter": "max_iter"},
    "setting of NUTS": {"iter": "draws", "niter": "draws", "warmup": "tune", "burnin": "tune"},
    "setting of ADVI": {"iter": "iterations", "num_iter": "iterations"},
    "method": {"mcmc": "nuts", "MLE": "em", "vi": "advi"},
    "missing": {"omit": "drop", "impute": "model"},
    "recipe": {"n_experts": "experts", "n_components": "experts", "concomitant": "gate"},
    "prior": {"gaussian": "Normal", "student_t": "StudentT"},
    "group": {"ppc": "posterior_predictive"},
}


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k, rows in OFFERED.items() for n in rows])
def test_names_of_other_packages_are_understood(fits, table, kind, name):
    spec = fits["codes"].spec
    text = {
        "family": lambda: message(bm.mixture_of_experts, "y ~ x", family=name),
        "argument": lambda: message(bm.fit, spec, table, "em", **{name: 1}),
        "setting of EM": lambda: message(bm.fit, spec, table, "em", **{name: 1}),
        "setting of NUTS": lambda: message(bm.fit, spec, table, "nuts", **{name: 1}),
        "setting of ADVI": lambda: message(bm.fit, spec, table, "advi", **{name: 1}),
        "method": lambda: message(bm.fit, spec, table, name),
        "missing": lambda: message(bm.fit, spec, table, "em", missing=name),
        "recipe": lambda: message(bm.mixture_of_experts, "y ~ x", **{name: 3}),
        "prior": lambda: message(bm.Prior, name, mu=0),
        "group": lambda: message(bm.extend, fits["codes"], name),
    }[kind]()
    assert f"Did you mean {OFFERED[kind][name]!r}?" in text


@pytest.mark.parametrize("name", [n for n in SAME if "_" in n])
def test_the_words_of_a_name_may_be_joined_in_any_way(name):
    for written in (name.replace("_", ""), name.replace("_", "-"), name.title()):
        assert closest(written, SAME[name]) == SAME[name][0]


@pytest.mark.parametrize("name", ABSENT["family"])
def test_families_that_are_not_here_are_not_mistaken_for_others(name):
    assert not registry.has("family", name)
    parts = (name, name.upper(), name.replace("_", "-"), name.replace("_", ""))
    for written in (*parts, name.replace("binomial", "_binomial")):
        text = message(bm.mixture_of_experts, "y ~ x", family=written)
        assert f"The package has no {written!r}: {ABSENT['family'][name]}." in text
        assert "Did you mean" not in text
        assert all(repr(valid) in text for valid in registry.TABLE["family"])


def test_every_name_offered_is_a_name_here():
    known = {*FIT_ARGUMENTS, *PLOT_ARGUMENTS, *GROUPS, *DISTRIBUTIONS, "drop", "model", "rows"}
    known |= {n for rows in registry.TABLE.values() for n in rows}
    known |= {a for d in DISTRIBUTIONS.values() for a in d.arguments}
    known |= {name for _, name in SETTINGS} | {"mu_coef"}
    known |= {n for r in RECIPES for n in own_arguments(r)}
    for family in map(families.by_name, registry.TABLE["family"]):
        known |= {*family.known_counts, *(p.name for p in family.parameters)}
    assert {ours for names in SAME.values() for ours in names} <= known
    assert all(name == folded(name) for name in SAME)


def test_settings_of_another_method_are_named_with_it(fits, table):
    text = message(bm.fit, fits["codes"].spec, table, "em", draws=10)
    having = "method='laplace', method='ensemble', method='nuts'"
    assert f"Unknown setting of EM 'draws': it is one of {having}" in text
    text = message(bm.fit, fits["codes"].spec, table, "nuts", batch_size=10)
    having = "method='map', method='ensemble', method='advi'"
    assert f"Unknown setting of NUTS 'batch_size': it is one of {having}." in text


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["shared", "common", "equal", "constant"])
@pytest.mark.parametrize(("family", "name"), [("normal", "sigma"), ("gamma", "alpha")])
def test_words_in_place_of_formulas(word, family, name):
    text = message(bm.mixture_of_experts, "y ~ x", family=family, **{name: word})
    assert f"{name}={word!r} is no formula" in text
    assert f"shared=({name!r},)" in text
    bm.mixture_of_experts("y ~ x", family=family, **{name: f"~ {word}"})


@pytest.mark.parametrize("number", [1, 0.5, np.float64(2.0), None])
def test_numbers_in_place_of_formulas(number):
    text = message(bm.mixture_of_experts, "y ~ x", sigma=number)
    assert f"'sigma' of an expert is a formula; it is {number!r}." in text
    assert "sigma='~ x'" in text
    assert "fixed={'sigma': ...}" in text


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ({"g": "1"}, "Unknown category of 'g' in `at` '1'. Did you mean 1? Valid: 1, 2, 3."),
        ({"g": 7}, "Unknown category of 'g' in `at` 7. Valid: 1, 2, 3."),
        ({"s": 1}, "Unknown category of 's' in `at` 1. Did you mean '1'? Valid: '1', '2', '3'."),
        ({"h": 1}, "Unknown column in `at` 'h'."),
    ],
)
def test_held_categories_of_another_type(fits, at, expected):
    for plot in CURVES:
        assert expected in message(plot, fits["codes"], "x", at=at)


def test_new_categories_of_another_type(fits, table):
    text = message(bm.predict, fits["codes"], table.assign(s=["4", *table["s"][1:]]))
    assert "Known: '1', '2', '3'." in text


def test_the_number_of_trials_is_not_offered_as_a_feature(fits):
    for name in ("trials", "trials only"):
        for plot in CURVES:
            axes = plot(fits[name], backend="matplotlib").get_viz("plot")
            assert axes.get_xlabel() == "x"
            plt.close("all")
            assert "'q'. Valid: 'x'." in message(plot, fits[name], "q")

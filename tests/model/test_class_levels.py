"""Descriptions of classes: labels that are listed, labels of the table, and files with them."""

import json

import h5netcdf
import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe import families
from bayes_moe.core import registry
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.model.class_levels import families_of_classes
from bayes_moe.model.spec import with_levels
from tests.support import class_families

pytestmark = pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")

N = 160


@pytest.fixture
def toys(monkeypatch):
    """The registry with families of any number of classes."""
    monkeypatch.setitem(registry.TABLE, "family", registry.TABLE["family"] | class_families.ROWS)


def table(seed=0):
    """Numbers 0 and 1 that depend on x, and what else the two classes may be called."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=N)
    ones = rng.uniform(size=N) < 1 / (1 + np.exp(-2 * np.abs(x) + 1))
    return pd.DataFrame({"x": x, "number": ones * 1, "truth": ones}).assign(
        text=np.where(ones, "yes", "no"),
        category=pd.Categorical(np.where(ones, "a", "b"), ["b", "a"]),
    )


def grades(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=N)
    code = rng.binomial(2, 1 / (1 + np.exp(-x)))
    return pd.DataFrame({"x": x, "y": np.array(["bad", "fair", "good"])[code], "code": code})


def model(response, family="bernoulli", **settings):
    return bm.mixture_of_experts(f"{response} ~ x", family=family, **settings)


def fitted(response, data=None, **settings):
    return bm.fit(model(response, **settings), table() if data is None else data, "em",
                  random_seed=1)  # fmt: skip


def coefficients(fit):
    return fit.idata["posterior"]["p_coef"].values


@pytest.mark.parametrize(
    ("response", "levels"),
    [("text", ("no", "yes")), ("truth", (False, True)), ("category", ("b", "a"))],
)
def test_labels_are_fitted_as_their_codes(response, levels):
    numbers, labels = fitted("number"), fitted(response)
    np.testing.assert_array_equal(coefficients(labels), coefficients(numbers))
    assert labels.spec.response_rule.given == labels.design.levels == levels
    assert numbers.spec.response_rule.given is numbers.design.levels is None
    assert numbers.spec == model("number")
    assert labels.spec == model(response, levels=levels)
    assert f"levels={levels!r}" in repr(labels.spec)
    np.testing.assert_allclose(
        bm.log_density(labels).values, bm.log_density(numbers).values, rtol=1e-12
    )


def test_the_second_label_is_the_one_with_probability_p():
    ordinary, turned = fitted("text"), fitted("text", levels=("yes", "no"))
    np.testing.assert_array_equal(turned.design.response, 1 - ordinary.design.response)
    np.testing.assert_allclose(
        bm.predict(turned).mean().values, 1 - bm.predict(ordinary).mean().values, atol=1e-6
    )


def test_any_number_of_classes_is_that_of_the_table(toys):
    for data in (grades(), grades().assign(y=lambda t: t["y"].astype("category"))):
        fit = fitted("y", data, family="kinds")
        assert fit.design.levels == ("bad", "fair", "good")
        assert [b.family.trials({}) for b in fit.spec.structure.blocks] == [2.0]
        binomial = fitted("code", data, family="binomial", trials=2)
        np.testing.assert_array_equal(coefficients(fit), coefficients(binomial))
    assert model("y", "kinds").response_rule.given is None


def test_ordered_families_need_an_order(toys):
    with pytest.raises(DataError, match="ordered levels of 'y' are missing: family 'grades'"):
        fitted("y", grades(), family="grades")
    order = ["good", "fair", "bad"]
    listed = fitted("y", grades(), family="grades", levels=order)
    data = grades().assign(y=lambda t: pd.Categorical(t["y"], order, ordered=True))
    stated = fitted("y", data, family="grades")
    assert listed.design.levels == stated.design.levels == tuple(order)
    np.testing.assert_array_equal(coefficients(listed), coefficients(stated))


def test_the_families_of_classes_are_bound_to_the_table():
    order = ("bad", "fair", "good")
    plain, listed = model("y", "categorical"), model("y", "categorical", levels=order)
    fit = bm.fit(plain, grades(), "em", restarts=2, random_seed=1)
    assert fit.spec == listed != plain
    assert fit.spec == with_levels(plain, order)
    given = model("y", families.by_name("categorical", levels=order))
    assert given == listed
    assert bm.MixtureOfExperts.from_json(listed.to_json()) == listed
    assert plain.experts[0].levels is None
    classes = fit.idata["posterior"]["p_coef"]["class"]
    assert [*classes.values] == [*order]
    with pytest.raises(DataError, match="ordered levels of 'y' are missing"):
        model("y", "orderedlogistic").design(grades())
    with pytest.raises(DataError, match=r"3 classes.*family='categorical'"):
        model("y").design(grades())


def test_refits_keep_the_classes(toys):
    data = grades()
    fit = fitted("y", data, family="kinds")
    again = bm.refit(fit, data[data["y"] != "fair"], random_seed=1)
    assert again.design.levels == ("bad", "fair", "good")
    assert {*again.design.response} == {0.0, 2.0}
    with pytest.raises(DataError, match=r"class 'best' at row 3"):
        bm.refit(fit, data.assign(y=data["y"].where(data.index != 3, "best")))
    with pytest.raises(DataError, match="has one class, 'bad'"):
        bm.refit(fit, data[data["y"] == "bad"])


def fits_of_files():
    return {
        "turned": (fitted("text", levels=("yes", "no")), 3),
        "codes": (fitted("code", grades(), family="kinds"), 3),
        "number": (fitted("number"), 1),
    }


def test_files_hold_the_labels(toys, tmp_path):
    """And only files with labels need this version of the package."""
    for name, (fit, version) in fits_of_files().items():
        path = bm.save(fit, tmp_path / f"{name}.nc")
        with h5netcdf.File(path) as file:
            assert json.loads(file.attrs["bayes_moe"])["version"] == version
        loaded = bm.load(path)
        assert loaded.spec == fit.spec
        assert loaded.design.levels == fit.design.levels
        assert [*map(type, loaded.design.levels or ())] == [*map(type, fit.design.levels or ())]
        np.testing.assert_array_equal(loaded.design.response, fit.design.response)
        rows = fit.design.columns.iloc[:5]
        np.testing.assert_array_equal(bm.log_density(loaded, rows), bm.log_density(fit, rows))


def test_descriptions_round_trip():
    spec = model("y", levels=np.array(["b", "a"]))
    assert bm.MixtureOfExperts.from_json(spec.to_json()) == spec
    assert spec.experts[0].levels == ("b", "a")
    assert with_levels(spec, ("b", "a")) is spec
    assert with_levels(model("y"), ("b", "a")) == spec
    named = bm.MixtureOfExperts(
        bm.gates.Softmax("~ x"),
        [
            bm.Expert("y ~ x", "bernoulli", "first", levels=("n", "y")),
            bm.Expert("y ~ 1", "bernoulli", "second", levels=("n", "y")),
        ],
    )
    assert with_levels(named, ("y", "n")).expert_labels == named.expert_labels
    tree = bm.hierarchical_mixture("y ~ x", family="bernoulli", levels=("n", "y"))
    net = bm.mixture_density("y ~ x", family="bernoulli", levels=("n", "y"))
    assert tree.response_rule.given == net.response_rule.given == ("n", "y")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: model("y", "normal", levels=("a", "b")),
            "response of family 'normal' is a number",
        ),
        (lambda: model("y", levels=("a", "b", "c")), "'bernoulli' needs two classes; .* has 3"),
        (lambda: model("y", levels=("a",)), "at least two classes"),
        (
            lambda: bm.MixtureOfExperts(
                bm.gates.Softmax("~ x"),
                [
                    bm.Expert("y ~ x", "bernoulli", levels=("a", "b")),
                    bm.Expert("y ~ 1", "bernoulli", levels=("b", "a")),
                ],
            ),
            "Experts must share one list of classes",
        ),
    ],
)
def test_labels_that_a_description_cannot_have(make, message):
    with pytest.raises(SpecError, match=message):
        make()


def test_messages_name_the_families_of_classes(toys):
    wanted = {"bernoulli": "two", "kinds": "any", "grades": "any"}
    assert families_of_classes() | wanted == families_of_classes()
    with pytest.raises(DataError, match=r"3 classes.*Use .*family='kinds' or family='grades'"):
        fitted("y", grades())
    with pytest.raises(SpecError, match=r"Use .*family='kinds' or family='grades' for more"):
        model("y", levels=("a", "b", "c"))
    with pytest.raises(DataError, match=r"Families of classes: .*'bernoulli'.*'kinds', 'grades'"):
        fitted("text", family="normal")


def test_experts_with_numbers_have_no_labels():
    spec = bm.MixtureOfExperts(
        bm.gates.Softmax("~ x"),
        [bm.Expert("text ~ x", "bernoulli"), bm.Expert("text ~ x", "poisson")],
    )
    with pytest.raises(DataError, match="must be numeric under family 'poisson'"):
        spec.design(table())


def test_simulated_classes_are_labels():
    truth = {"gate_coef": [[0.0, 0.0], [0.0, 0.0]], "p_coef": [[0.0, 2.0], [0.0, 2.0]]}
    numbers = bm.simulate(model("y"), table(), truth, random_seed=1)["y"]
    for levels in (("no", "yes"), ("yes", "no"), (False, True)):
        made = bm.simulate(model("y", levels=levels), table(), truth, random_seed=1)["y"]
        assert made.tolist() == [levels[int(code)] for code in numbers]
        assert fitted("y", table().assign(y=made)).design.levels == levels


def test_graphs_are_those_of_codes():
    graph = bm.build(model("text"), table())
    numbers = bm.build(model("number"), table())
    point = numbers.model.initial_point()
    values = [g.model.compile_logp(mode="FAST_COMPILE")(point) for g in (graph, numbers)]
    assert values[0] == values[1]

"""Rows of each expert with their texts."""

import numpy as np
import pytest

import bayes_moe as bm
from bayes_moe.core.errors import DataError, SpecError


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x, far = rng.normal(size=120), rng.random(120) < 0.5
    y = np.where(far, 5 + x, -5 - x) + 0.5 * rng.normal(size=120)
    return {
        "y": y,
        "x": x,
        "z": np.where(far, 1.0, -1.0) + 0.1 * x,
        "label": np.array(list("ab"))[far * 1],
    }


@pytest.fixture(scope="module")
def fit(table):
    spec = bm.mixture_of_experts("y ~ x", gate="~ z")
    return bm.fit(spec, table, "em", random_seed=0, restarts=2, progressbar=False)


def test_rows_of_the_highest_responsibility(fit, table):
    texts = [f"text {j}" for j in range(120)]
    found = bm.text.example_rows(fit, texts, 4)
    weight = bm.responsibilities(fit)[0, 0].values
    shown = bm.predict(fit)
    for expert in range(2):
        of_expert = found[found.expert == expert]
        best = np.argsort(-weight[:, expert], kind="stable")[:4]
        assert list(of_expert.row) == list(best)
        assert list(of_expert.text) == [texts[j] for j in best]
        np.testing.assert_allclose(of_expert.weight, weight[best, expert])
        np.testing.assert_allclose(of_expert.response, table["y"][best])
        np.testing.assert_allclose(of_expert.prediction, shown.mean().values[best])
        alone = shown.expert_means().sel(expert=expert).values[best]
        np.testing.assert_allclose(of_expert.expert_prediction, alone)


def test_new_rows(fit, table):
    new = {name: values[:7] for name, values in table.items()}
    found = bm.text.example_rows(fit, list("abcdefg"), 20, new)
    assert len(found) == 14
    assert set(found.text) == set("abcdefg")


@pytest.mark.parametrize("family", ["bernoulli", "categorical"])
def test_classes(table, family):
    spec = bm.mixture_of_experts("label ~ x", gate="~ x", family=family)
    fit = bm.fit(spec, table, "em", random_seed=0, restarts=1, progressbar=False)
    found = bm.text.example_rows(fit, [""] * 120, 2)
    assert set(found.response) <= {"a", "b"}
    p = bm.predict(fit).probabilities().sel({"class": "b"}).values
    np.testing.assert_allclose(found.prediction, p[found.row])


def test_most_probable_of_three_classes(table):
    three = table | {"label": np.where(table["x"] > 1, "c", table["label"])}
    spec = bm.mixture_of_experts("label ~ x + z", experts=1, family="categorical")
    fit = bm.fit(spec, three, "em", random_seed=0, progressbar=False)
    found = bm.text.example_rows(fit, [""] * 120)
    assert list(found.prediction) == list(bm.predict(fit).classes().values[found.row])
    assert list(found.prediction) == list(found.expert_prediction)


def test_bad_input(fit):
    with pytest.raises(DataError, match="3 texts and 120 rows"):
        bm.text.example_rows(fit, ["a", "b", "c"])
    with pytest.raises(SpecError, match="`n`"):
        bm.text.example_rows(fit, [""] * 120, 0)

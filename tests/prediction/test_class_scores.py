"""Scores of classes, against sums by hand, scikit-learn's numbers and known extremes."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayes_moe as bm
from bayes_moe.core import registry
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.prediction.class_scores import bin_edges, binned, proportion_interval
from tests.support import class_families
from tests.support.fits import fake_fit

LEVELS = ("bad", "fair", "good")
TRUTH = {"gate_coef": [[0.5, 1.0], [-0.5, -1.0]], "p_coef": [[0.5, 2.0], [-1.0, -1.0]]}
EDGES = [0, 0.2, 0.5, 0.7, 1]


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.setitem(registry.TABLE, "family", registry.TABLE["family"] | class_families.ROWS)


def made(family="kinds", levels=LEVELS):
    table = pd.DataFrame({"x": np.random.default_rng(5).normal(size=120)})
    spec = bm.mixture_of_experts("y ~ x", family=family, levels=levels)
    table["y"] = bm.simulate(spec, table, TRUTH, random_seed=2)["y"]
    return fake_fit(spec, table.iloc[:60], TRUTH, draws=20, spread=0.2), table.iloc[60:]


@pytest.mark.parametrize(("family", "levels"), [("kinds", LEVELS), ("bernoulli", ("no", "yes"))])
def test_scores_are_sums_over_rows(family, levels):
    fit, rows = made(family, levels)
    p = bm.predict(fit, rows).probabilities().values
    y = rows["y"].map(levels.index).to_numpy(dtype=int)
    own = p[np.arange(60), y]
    hit = p.argmax(axis=1) == y
    brier = [sum((p[i, c] - (y[i] == c)) ** 2 for c in range(len(levels))) for i in range(60)]
    scores = bm.class_scores(fit, rows, bins=EDGES)
    for name, by_row in (("log_loss", -np.log(own)), ("brier", brier), ("accuracy", hit)):
        assert scores.loc[name, "value"] == pytest.approx(np.mean(by_row), rel=1e-12)
        assert scores.loc[name, "se"] == pytest.approx(stats.sem(by_row), rel=1e-12)
    best, error = p.max(axis=1), 0.0
    for low, high in itertools.pairwise(EDGES):
        inside = (best >= low) & (best < high)
        if inside.any():
            error += inside.mean() * abs(best[inside].mean() - hit[inside].mean())
    assert scores.loc["calibration_error", "value"] == pytest.approx(error, rel=1e-12)
    assert np.isnan(scores.loc["calibration_error", "se"])
    confused = bm.confusion_matrix(fit, rows)
    assert confused.index.name == "observed"
    assert confused.columns.name == "predicted"
    for (c, one), (d, other) in ((a, b) for a in enumerate(levels) for b in enumerate(levels)):
        assert confused.loc[one, other] == ((y == c) & (p.argmax(axis=1) == d)).sum()
    assert not confused.equals(bm.confusion_matrix(fit))
    assert bm.class_scores(fit).equals(bm.class_scores(fit, fit.design.columns))


def test_reliability_is_a_table_of_bins():
    fit, rows = made()
    p = bm.predict(fit, rows).probabilities().values
    table = bm.reliability(fit, rows, bins=EDGES, ci_prob=0.8)
    assert [*table["class"].drop_duplicates()] == [*LEVELS]
    assert table.groupby("class")["rows"].sum().tolist() == [60] * 3
    for line in table.itertuples(index=False):
        label, low, high, count, predicted, observed, lower, upper = line
        mine = p[:, LEVELS.index(label)]
        inside = (mine >= low) & (mine < high)
        hits = (rows["y"] == label).to_numpy()[inside]
        assert count == inside.sum() > 0
        assert predicted == pytest.approx(mine[inside].mean(), rel=1e-12)
        assert observed == pytest.approx(hits.mean(), rel=1e-12)
        law = stats.beta(hits.sum() + 0.5, count - hits.sum() + 0.5)
        assert lower == (0 if not hits.any() else pytest.approx(law.ppf(0.1), rel=1e-9))
        assert upper == (1 if hits.all() else pytest.approx(law.ppf(0.9), rel=1e-9))
    two, binary_rows = made("bernoulli", ("no", "yes"))
    assert {*bm.reliability(two, binary_rows)["class"]} == {"yes"}
    assert bm.reliability(two, binary_rows, bins=1)[["low", "high"]].values.tolist() == [[0, 1]]


def test_classes_are_chosen_by_label():
    fit, rows = made()
    table = bm.reliability(fit, rows)
    for classes in (["good", "bad"], ["fair"], "fair"):
        chosen = bm.reliability(fit, rows, classes=classes)
        wanted = [classes] if isinstance(classes, str) else classes
        parts = [table[table["class"] == label] for label in wanted]
        pd.testing.assert_frame_equal(chosen, pd.concat(parts, ignore_index=True))
    for classes, says in ((["god"], "Unknown class 'god'. Did you mean 'good'"), ([], "at least")):
        with pytest.raises(SpecError, match=says):
            bm.reliability(fit, rows, classes=classes)


def test_jeffreys_intervals_cover():
    """The average coverage over proportions is that of the interval, which Bayes makes exact."""
    count = np.full(21, 20.0)
    lower, upper = proportion_interval(np.arange(21.0), count, 0.9)
    share = np.linspace(0.005, 0.995, 100)[:, None]
    mass = stats.binom.pmf(np.arange(21), 20, share)
    covered = (mass * ((lower <= share) & (share <= upper))).sum(axis=1)
    assert covered.mean() == pytest.approx(0.9, abs=0.02)
    assert lower[0] == 0 < lower[1]
    assert upper[-1] == 1 > upper[-2]


def test_extreme_predictions_have_finite_scores():
    spec = bm.mixture_of_experts("y ~ x", family="bernoulli", levels=("no", "yes"), experts=1)
    truth = {"p_coef": [[0.0, 1.0]]}
    table = pd.DataFrame({"x": [-2000.0, 2000.0, 3000.0], "y": ["no", "yes", "no"]})
    fit = fake_fit(spec, pd.DataFrame({"x": [-1, 1, 2.0], "y": ["no", "yes", "no"]}), truth,
                   spread=0.0)  # fmt: skip
    right, wrong = bm.class_scores(fit, table.iloc[:2]), bm.class_scores(fit, table.iloc[[2]])
    assert right["value"].tolist() == [0, 0, 1, 0]
    assert wrong["value"].tolist() == [3000, 2, 0, 1]
    assert wrong["se"].isna().all()


def test_the_last_bin_has_its_upper_edge():
    edges = bin_edges(4)
    np.testing.assert_array_equal(edges, [0, 0.25, 0.5, 0.75, 1])
    p = np.array([0, 0.2, 0.25, 0.5, 0.99, 1])
    np.testing.assert_array_equal(binned(p, edges, np.ones(6)), [2, 1, 1, 2])


@pytest.mark.parametrize("bins", [0, 1.5, np.nan, [0, 1, 0.5], [0.1, 1], [0, 0.5], [0], "ab", -3])
def test_bins_that_cannot_be(bins):
    with pytest.raises(SpecError, match="`bins` must be a number"):
        bin_edges(bins)


def test_rows_that_cannot_be_scored():
    fit, rows = made()
    with pytest.raises(DataError, match="class 'fine' at row 0"):
        bm.class_scores(fit, rows.assign(y="fine"))
    with pytest.raises(DataError, match="'y'"):
        bm.confusion_matrix(fit, rows[["x"]])
    with pytest.raises(SpecError, match="no rows: there is nothing to score"):
        bm.reliability(fit, rows.iloc[:0])
    with pytest.raises(SpecError, match="`ci_prob` must lie"):
        bm.reliability(fit, rows, ci_prob=2)
    numeric = bm.mixture_of_experts("y ~ x", experts=1)
    truth = {"mu_coef": [[0.0, 1.0]], "sigma": [1.0]}
    table = pd.DataFrame({"x": rows["x"], "y": rows["x"] + 1})
    with pytest.raises(SpecError, match="is a number under family 'normal'"):
        bm.class_scores(fake_fit(numeric, table, truth))

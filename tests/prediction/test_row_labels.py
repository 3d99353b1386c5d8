"""Predictions are assigned to the user's table by label, with pandas as the oracle."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from tests.support.fits import fake_fit, parallel_lines

INDEXES = {
    "positions": pd.RangeIndex(6),
    "steps": pd.RangeIndex(10, 22, 2),
    "shuffled": pd.Index([3, 1, 5, 0, 2, 4]),
    "text": pd.Index(list("fedcba")),
    "dates": pd.date_range("2024-05-01", periods=6)[::-1],
    "zones": pd.date_range("2024-05-01", periods=6, tz="Europe/Berlin")[::-1],
    "floats": pd.Index([0.5, 0.1, 2.0, -1.0, 7.0, 3.0]),
    "two levels": pd.MultiIndex.from_product([["a", "b"], [1, 2, 3]]),
    "not unique": pd.Index([7, 7, 1, 0, 2, 3]),
}


@pytest.fixture(scope="module")
def fit():
    spec, table, truth = parallel_lines(2, n=30)
    return fake_fit(spec, table, truth, chains=1, draws=4)


@pytest.mark.parametrize("kind", INDEXES)
def test_predictions_are_assigned_by_label(fit, kind):
    table = pd.DataFrame({"x": np.linspace(-1, 1, 6)}, index=INDEXES[kind])
    plain = bm.predict(fit, table.reset_index(drop=True))
    predictive = bm.predict(fit, table)
    expected = {
        "mean": plain.mean().values,
        "lower": plain.interval(0.9).values[:, 0],
        "weight": plain.weights().values[:, 1],
        "mode": plain.modes()["location"].values[:, 0],
        "p": plain.cdf(0.3).values,
        "density": bm.log_density(fit, table.reset_index(drop=True).assign(y=0.1)).values[0, 1],
    }
    found = {
        "mean": predictive.mean(),
        "lower": predictive.interval(0.9).sel(ci_bound="lower"),
        "weight": predictive.weights()[:, 1],
        "mode": predictive.modes()["location"].sel(mode=0),
        "p": predictive.cdf(0.3),
        "density": bm.log_density(fit, table.assign(y=0.1))[0, 1],
    }
    order = [4, 2, 0, 5, 1, 3]
    for name, values in found.items():
        result = table.assign(p=values.to_series())
        np.testing.assert_allclose(result["p"], expected[name], err_msg=name)
        if kind != "not unique":
            result = table.iloc[order].assign(p=values.to_series())
            np.testing.assert_allclose(result["p"], expected[name][order], err_msg=name)
            result = table.iloc[order].assign(p=values.to_pandas())
            np.testing.assert_allclose(result["p"], expected[name][order], err_msg=name)
        else:
            with pytest.raises(ValueError, match="duplicate"):
                table.iloc[order].assign(p=values.to_series())
        if kind != "positions":
            assert values["row"].values.tolist() == [0, 1, 2, 3, 4, 5]


def test_labels_follow_rows_through_chunks(fit, monkeypatch):
    from bayes_moe.model import evaluation

    table = pd.DataFrame({"x": np.linspace(-1, 1, 6)}, index=list("fedcba"))
    whole = bm.predict(fit, table).mean()
    monkeypatch.setattr(evaluation, "CHUNK_ELEMENTS", 1)
    parts = bm.predict(fit, table).mean()
    np.testing.assert_allclose(parts, whole, rtol=1e-12)
    assert parts["obs_id"].values.tolist() == list("fedcba")

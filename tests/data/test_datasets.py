"""Data sets that ship with the package are what their citation says, and yours to change."""

import hashlib
from importlib import resources

import pytest

import bayes_moe as bm
from bayes_moe.core.errors import DataError
from bayes_moe.data.datasets import SOURCES


@pytest.mark.parametrize("name", SOURCES)
def test_every_data_set_loads_and_names_its_source(name):
    table = bm.load_dataset(name)
    source = table.attrs["source"]
    assert f"{len(table)} rows" in source
    assert all(column in source for column in table)
    assert not table.isna().any(axis=None)


def test_tone_is_cohens_experiment():
    tone = bm.load_dataset("tone")
    assert tone.shape == (150, 2)
    assert "Cohen, E. A. (1980)" in tone.attrs["source"]
    assert tone["stretchratio"].agg(["min", "max"]).tolist() == [1.35, 3.0]
    assert tone.sum().round(3).tolist() == [324.78, 310.832]
    # Two ways of tuning: to the octave, or to the stretched overtone.
    octave = (tone["tuned"] - 2).abs() < 0.1
    overtone = (tone["tuned"] - tone["stretchratio"]).abs() < 0.1
    assert (octave | overtone).mean() > 0.9
    assert (octave & ~overtone).sum() > 50


def test_mcycle_is_silvermans_crash():
    crash = bm.load_dataset("mcycle")
    assert crash.shape == (133, 2)
    assert "Silverman, B. W. (1985)" in crash.attrs["source"]
    assert "Schmidt, G., Mattern, R., & Schueler, F. (1981)" in crash.attrs["source"]
    assert crash.agg(["min", "max"]).to_numpy().tolist() == [[2.4, -134.0], [57.6, 75.0]]
    # Repeated measurements of a few instants; still before the impact is felt.
    assert crash["times"].is_monotonic_increasing
    assert crash["times"].nunique() == 94
    assert crash.loc[crash["times"] < 13, "accel"].abs().max() < 6
    assert crash.loc[crash["times"] > 14, "accel"].std() > 45


def test_lidar_is_sigrists_mercury():
    lidar = bm.load_dataset("lidar")
    assert lidar.shape == (221, 2)
    assert "Sigrist, M. W. (1994)" in lidar.attrs["source"]
    assert "Ruppert, D., Wand, M. P., & Carroll, R. J. (2003)" in lidar.attrs["source"]
    assert lidar["range"].agg(["min", "max"]).tolist() == [390, 720]
    assert lidar["range"].is_monotonic_increasing
    # Flat and quiet at first, then lower and noisier.
    near, far = lidar["range"] < 550, lidar["range"] > 620
    assert lidar.loc[near, "logratio"].std() < 0.035
    assert lidar.loc[far, "logratio"].std() > 0.1
    assert lidar.loc[far, "logratio"].mean() < -0.5


@pytest.mark.parametrize(
    ("name", "checked"),
    [
        ("tone", "4cab22eee3892a5d03a649809ea90fb2592c3acbcf2afdc63e58210269aa658b"),
        ("mcycle", "1303710411a874f7fe90e588a67e3fc2f098b903b0ea96c1ab9c719dafd8d068"),
        ("lidar", "b5a3f28e88aa9f456f08d4b40848609fddfd39f393334244109a87aa70ad8baa"),
    ],
)
def test_the_file_is_the_one_that_was_checked(name, checked):
    text = (resources.files("bayes_moe") / "data" / "csv" / f"{name}.csv").read_bytes()
    digest = hashlib.sha256(text.replace(b"\r\n", b"\n")).hexdigest()
    assert digest == checked


def test_each_load_is_a_table_of_your_own():
    first = bm.load_dataset("tone")
    first["tuned"] = 0.0
    first.attrs.clear()
    again = bm.load_dataset("tone")
    assert again["tuned"].min() > 1
    assert again.attrs["source"]


@pytest.mark.parametrize("name", ["tonne", "Tone", "", None, ["tone"], "../data/tone"])
def test_unknown_data_sets(name):
    valid = r"Unknown data set .*Valid: 'lidar', 'mcycle', 'tone'\."
    with pytest.raises(DataError, match=valid) as raised:
        bm.load_dataset(name)
    assert repr(name) in str(raised.value)

"""Data sets that ship with the package are what their citation says, and yours to change."""

import hashlib
from importlib import resources

import pytest

import bayes_moe as bm
from bayes_moe.datasets import SOURCES
from bayes_moe.errors import DataError


@pytest.mark.parametrize("name", SOURCES)
def test_every_data_set_loads_and_says_where_it_is_from(name):
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


def test_the_file_is_the_one_that_was_checked():
    text = (resources.files("bayes_moe") / "data" / "tone.csv").read_bytes()
    digest = hashlib.sha256(text.replace(b"\r\n", b"\n")).hexdigest()
    assert digest == "4cab22eee3892a5d03a649809ea90fb2592c3acbcf2afdc63e58210269aa658b"


def test_each_load_is_a_table_of_your_own():
    first = bm.load_dataset("tone")
    first["tuned"] = 0.0
    first.attrs.clear()
    again = bm.load_dataset("tone")
    assert again["tuned"].min() > 1
    assert again.attrs["source"]


@pytest.mark.parametrize("name", ["tonne", "Tone", "", None, ["tone"], "../data/tone"])
def test_unknown_data_sets(name):
    with pytest.raises(DataError, match=r"Unknown data set .*Valid: 'tone'\.") as raised:
        bm.load_dataset(name)
    assert repr(name) in str(raised.value)

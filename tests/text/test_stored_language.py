"""Saved language models are the same, and damaged files are refused."""

import json
import zipfile
from io import BytesIO

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from tests.support.verses import VERSES


@pytest.fixture(scope="module")
def model():
    experts = [bm.text.Ngram(2), bm.text.Ngram(2, "dirichlet", concentration=2.0)]
    found = bm.text.language_model(VERSES, 2, level="word", experts=experts, gate="~ 1")
    return found.fit(random_seed=1)


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    return bm.text.save(model, tmp_path_factory.mktemp("saved") / "model.zip")


def test_a_loaded_model_is_the_same(model, path):
    loaded = bm.text.load(path)
    pd.testing.assert_frame_equal(loaded.next("the"), model.next("the"))
    pd.testing.assert_frame_equal(loaded.scores(VERSES), model.scores(VERSES))
    assert loaded.sample(9, random_seed=1) == model.sample(9, random_seed=1)


def test_a_file_stays_when_a_new_one_cannot_be_written(model, path, tmp_path, monkeypatch):
    target = tmp_path / "model.zip"
    target.write_bytes(path.read_bytes())
    monkeypatch.setattr(zipfile.ZipFile, "write", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bm.text.save(model, target)
    assert target.read_bytes() == path.read_bytes()
    assert [*tmp_path.iterdir()] == [target]


def changed(path, target, name, edit):
    """The file with one member changed."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.namelist():
            data = old.read(member)
            new.writestr(member, edit(data) if member == name else data)
    return target


def edited(**fields):
    return lambda data: json.dumps(json.loads(data) | fields).encode()


def shuffled(data):
    with np.load(BytesIO(data)) as arrays:
        values = dict(arrays)
    values["keys1"] = values["keys1"][::-1]
    out = BytesIO()
    np.savez(out, **values)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("model.json", edited(format="other")),
        ("model.json", edited(version=2)),
        ("model.json", edited(level="byte")),
        ("model.json", edited(tokens=["a", "b"])),
        ("model.json", edited(experts=[])),
        ("model.json", edited(contexts=[])),
        ("model.json", edited(contexts=[1, 7])),
        ("model.json", lambda data: b"{"),
        ("counts.npz", shuffled),
        ("counts.npz", lambda data: data[:50]),
    ],
)
def test_damaged_files_are_refused(path, tmp_path, name, edit):
    with pytest.raises(bm.FitFileError):
        bm.text.load(changed(path, tmp_path / "bad.zip", name, edit))


def test_other_files_and_objects_are_refused(tmp_path, model):
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(bm.FitFileError, match=r"no file of bm.text.save"):
        bm.text.load(tmp_path / "text.zip")
    with pytest.raises(FileNotFoundError):
        bm.text.load(tmp_path / "nowhere.zip")
    with pytest.raises(bm.SpecError, match="fitted language model"):
        bm.text.save(model.fit, tmp_path / "fit.zip")

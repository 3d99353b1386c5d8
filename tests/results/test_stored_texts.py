"""Text terms in saved fits: the same features, without scikit-learn for the fitted rows."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import bayes_moe as bm
from bayes_moe.core.errors import FitFileError
from bayes_moe.results import storage
from tests.support.given_draws import fit_with
from tests.support.texts import reviews

TABLE, NEW = reviews(60), reviews(10, seed=1)
FORMULAS = {
    "terms": "y ~ text(review, ngrams=(1, 2))",
    "hashed": "y ~ text(review, hashing=32, components=2)",
    "counts": "y ~ x + text(review, weighting='count') + text(review, 2)",
}


def given(formula, gate="~ text(review, components=3)"):
    spec = bm.mixture_of_experts(formula, gate=gate, family="bernoulli", experts=2)
    design, rng = spec.design(TABLE), np.random.default_rng(0)
    widths = {stem: len(m.terms) for stem, m in design.rows.matrices.items()}
    draws = {f"{stem}_coef": rng.normal(size=(1, 2, width)) for stem, width in widths.items()}
    return fit_with(spec, TABLE, **draws)


@pytest.fixture(scope="module")
def known():
    return given(FORMULAS["terms"])


@pytest.fixture(scope="module")
def saved(known, tmp_path_factory):
    return bm.save(known, tmp_path_factory.mktemp("texts") / "fit.nc")


@pytest.mark.parametrize("name", FORMULAS)
def test_predictions_are_the_same(name, tmp_path, monkeypatch):
    fit = given(FORMULAS[name])
    path = bm.save(fit, tmp_path / "fit.nc")
    with monkeypatch.context() as without:
        without.setattr("bayes_moe.core.errors.find_spec", lambda package: None)
        loaded = bm.load(path)
        with pytest.raises(ImportError, match="needs sklearn"):
            bm.predict(loaded, NEW)
    for stem, matrix in fit.design.rows.matrices.items():
        assert loaded.design.rows.matrices[stem].equals(matrix)
    for rows in (None, NEW):
        own, other = (bm.predict(f, rows).mean() for f in (fit, loaded))
        np.testing.assert_array_equal(own, other)
    again = bm.save(loaded, tmp_path / "again.nc")
    np.testing.assert_array_equal(bm.predict(bm.load(again), NEW).mean(), other)


@pytest.mark.slow
def test_predictions_are_the_same_in_another_process(known, saved):
    script = (
        "import sys, json, bayes_moe as bm\n"
        "fit = bm.load(sys.argv[1])\n"
        "assert 'sklearn.feature_extraction.text' not in sys.modules\n"
        "new = json.loads(sys.argv[2])\n"
        "print(json.dumps(bm.predict(fit, new).mean().values.tolist()))"
    )
    new = json.dumps({"review": NEW["review"].tolist()})
    command = [sys.executable, "-c", script, str(saved), new]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path.cwd())
    found = np.array(json.loads(done.stdout))
    np.testing.assert_allclose(found, bm.predict(known, NEW).mean().values, rtol=1e-12)


def test_the_file_has_arrays_and_a_version(saved):
    with h5py.File(saved) as file:
        header = json.loads(file.attrs["bayes_moe"])
        names = {name for name in file["fitted_data"] if name.startswith("text_")}
        rows = file["fitted_data/0"].asstr()[:].tolist()
    assert header["version"] == 5
    assert header["design"]["texts"] == [
        "text(review, components=3)",
        "text(review, ngrams=(1, 2))",
    ]
    parts = {"terms", "idf", "data", "indices", "indptr"}
    assert {f"text_1_{part}" for part in parts} <= names
    assert "text_0_components" in names
    assert rows == TABLE["review"].tolist()


def damaged(saved, path, change):
    path.write_bytes(saved.read_bytes())
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def changed(name, values):
    def change(file):
        group = file["fitted_data"]
        stored = group[f"text_{name}"]
        stored[:] = values(stored[:])

    return change


def header(change):
    def apply(file):
        record = json.loads(file.attrs["bayes_moe"])
        change(record)
        file.attrs["bayes_moe"] = json.dumps(record)

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("0_indices", lambda v: v + 10_000), "entries beyond its columns"),
        (changed("0_indptr", lambda v: v[::-1]), "do not fit its entries"),
        (changed("0_idf", lambda v: np.where(np.arange(len(v)), v, np.nan)), "not all finite"),
        (changed("0_components", lambda v: np.inf * v), "not all finite"),
        (changed("1_terms", lambda v: [v[0]] * len(v)), "one of them is there twice"),
        (header(lambda r: r["design"].pop("texts")), "the text terms are others"),
        (header(lambda r: r["design"].update(texts=["text(x)"])), "the text terms are others"),
        (lambda file: file["fitted_data"].pop("text_0_idf"), "text_0_idf|columns are stored"),
    ],
)
def test_damaged_files_are_refused(change, message, saved, tmp_path):
    with pytest.raises(FitFileError, match=message):
        bm.load(damaged(saved, tmp_path / "bad.nc", change))


def test_dense_columns_count_as_memory(saved):
    with pytest.raises(FitFileError, match=r"take [\d,]+ bytes; 100 are allowed"):
        bm.load(saved, max_bytes=100)


def test_models_without_texts_keep_their_version(tmp_path):
    spec = bm.mixture_of_experts("y ~ x", experts=1, family="bernoulli")
    path = bm.save(fit_with(spec, TABLE, p_coef=[[[0.0, 1.0]]]), tmp_path / "fit.nc")
    header = storage._header(path)
    assert header["version"] == 1
    assert "texts" not in header["design"]

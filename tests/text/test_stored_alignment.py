"""Alignments in files: they come back the same, and damaged ones are refused."""

import json
import zipfile
from io import BytesIO

import numpy as np
import pytest

import bayes_moe as bm
from bayes_moe.core.errors import FitFileError, SpecError
from tests.support.parallel_texts import NLTK


@pytest.mark.parametrize("model", ["ibm1", "ibm2", "diagonal"])
def test_an_alignment_comes_back(tmp_path, model):
    fit = bm.text.alignment(NLTK["source"], NLTK["target"], model, null_probability=0.1)
    bm.text.save(fit, tmp_path / "text.npz")
    again = bm.text.load(tmp_path / "text.npz")
    assert str(again) == str(fit)
    assert again.alignments() == fit.alignments()
    new = ["the zoo is big"], ["das haus ist tier"]
    assert again.log_likelihood(*new).equals(fit.log_likelihood(*new))
    assert again.translation_table("the").equals(fit.translation_table("the"))
    np.testing.assert_array_equal(again.trace, fit.trace)


def test_files_of_something_else_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        bm.text.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(FitFileError, match=r"no file of bm.text.save"):
        bm.text.load(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(FitFileError, match=r"no file of bm.text.save"):
        bm.text.load(tmp_path / "other.npz")


def test_a_tokenizer_is_asked_for(tmp_path):
    fit = bm.text.alignment(["A b", "b"], ["X y", "y"], tokenizer=str.split)
    with pytest.raises(FileNotFoundError, match="no folder"):
        bm.text.save(fit, tmp_path / "none" / "text.npz")
    bm.text.save(fit, tmp_path / "text.npz")
    with pytest.raises(FitFileError, match="give it as `tokenizer`"):
        bm.text.load(tmp_path / "text.npz")
    again = bm.text.load(tmp_path / "text.npz", tokenizer=str.split)
    assert again.gloss("A").equals(fit.gloss("A"))
    with pytest.raises(SpecError, match="`tokenizer` must be a function"):
        bm.text.load(tmp_path / "text.npz", tokenizer="words")


MODELS = ("ibm1", "ibm2", "diagonal")
SOURCE, TARGET = ["a b", "b c a", "c"], ["x y", "y z x", "z z"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Fits and their files, by model."""
    folder = tmp_path_factory.mktemp("saved")
    fits = {model: bm.text.alignment(SOURCE, TARGET, model) for model in MODELS}
    return {m: (fit, bm.text.save(fit, folder / f"{m}.npz")) for m, fit in fits.items()}


def edited(path, target, edit):
    """File with edited parts: ``edit`` changes the record and the arrays in place."""
    with np.load(path) as archive:
        arrays = dict(archive)
    record, before = json.loads(arrays["record"].tobytes()), arrays["record"]
    edit(record, arrays)
    if arrays["record"] is before:
        arrays["record"] = np.frombuffer(json.dumps(record).encode(), dtype=np.uint8)
    np.savez(target, **arrays)
    return target


def put(*keys, to):
    """Edit of a field of the record, or of a field within it."""

    def edit(record, arrays):
        for key in keys[:-1]:
            record = record[key]
        record[keys[-1]] = to

    return edit


def array(name, change):
    """Edit of an array."""

    def edit(record, arrays):
        arrays[name] = np.asarray(change(arrays[name].copy()))

    return edit


def at(index, value):
    """Change of one element."""

    def change(x):
        x[index] = value
        return x

    return change


def longer(x):
    return np.append(x, x[-1])


EDITS = {
    "ibm1": [
        *[put("model", to=to) for to in ("ibm3", "diagonal", "ibm2", None, ["ibm1"])],
        put("format", to="other"),
        put("version", to=2),
        put("settings", to=None),
        *[put("settings", "concentration", to=to) for to in (0, -1.0, "1", None, True, 10**24)],
        *[put("settings", "variational", to=to) for to in (1, None, False)],
        *[put("settings", "iterations", to=to) for to in (0, 1.5)],
        put("settings", "start_iterations", to=-1),
        *[put("settings", "tolerance", to=to) for to in (-1, "0", float("nan"))],
        put("settings", "other", to=1),
        *[put("source", to=to) for to in ("abc", ["a", "b"], ["a", "b", "c", "d"], ["a", "b", 3])],
        *[put("target", to=to) for to in (None, [], ["x", "y", "y"], {"x": 0, "y": 1, "z": 2})],
        *[put("tokenizer", to=to) for to in (0, None, "no")],
        *[put("log_likelihood", to=to) for to in (None, "1", float("inf"))],
        put("settled", to=1),
        *[put("gate", to=to) for to in (None, [], {}, "null", {"null": None, "x": 1})],
        *[put("gate", "null", to=to) for to in (1, -0.1, "0", True)],
        *[array("starts", at(n, v)) for n, v in ((0, 1), (1, 0), (1, 9), (-1, 5), (2, -3))],
        *[array("starts", c) for c in (longer, lambda x: x[:-1], lambda x: x + 0.0)],
        array("starts", lambda x: x[:0]),
        array("pairs", at(0, -1)),
        array("pairs", at(-1, 3)),
        array("pairs", at(slice(0, 2), [1, 0])),
        array("pairs", at(1, 0)),
        *[array("pairs", c) for c in (longer, lambda x: x[None], lambda x: x.astype("U1"))],
        *[array("counts", at(0, v)) for v in (np.nan, np.inf, -0.5, 50.0)],
        *[array("counts", c) for c in (longer, lambda x: x[:, None], lambda x: x.astype(int))],
        *[array("trace", c) for c in (at(-1, np.nan), lambda x: x[:0], lambda x: x[0])],
        array("trace", lambda x: x + 0j),
        *[array("source_words", at(0, v)) for v in (0, 4, -1)],
        *[array("target_words", at(0, v)) for v in (3, -1)],
        array("target_words", lambda x: x[:-1]),
        *[array("source_lengths", at(0, v)) for v in (0, 3, -2, 2**31 - 1)],
        array("source_lengths", lambda x: x[:0]),
        array("source_lengths", lambda x: [2, 4]),
        array("target_lengths", lambda x: [2, 1, 2, 2]),
        *[array("record", c) for c in (lambda x: x[:9], lambda x: x[:0], lambda x: 1.5)],
    ],
    "ibm2": [
        *[put("gate", "concentration", to=to) for to in (0.5, None, "1")],
        put("gate", "values", to=[]),
        *[array("positions", at(0, v)) for v in (-0.5, 1.5, np.nan, 0.9)],
        *[array("positions", c) for c in (longer, lambda x: x[:-1], lambda x: x[:0])],
        *[array("source_lengths_seen", at(0, v)) for v in (0, -1, 7)],
        array("target_lengths_seen", longer),
    ],
    "diagonal": [
        *[put("gate", "null", to=to) for to in (None, 1.5, -0.1, "0")],
        *[put("gate", "strength", to=to) for to in (None, "1", float("nan"))],
        *[put("gate", "fixed_null", to=to) for to in (None, 0)],
    ],
}


@pytest.mark.parametrize("model", MODELS)
def test_damaged_parts_are_refused(saved, tmp_path, model):
    path = saved[model][1]
    bm.text.load(edited(path, tmp_path / "same.npz", lambda record, arrays: None))
    for number, edit in enumerate(EDITS[model]):
        bad = edited(path, tmp_path / "bad.npz", edit)
        try:
            bm.text.load(bad)
        except FitFileError as error:
            assert "or damaged: " in str(error)  # noqa: PT017
        else:
            pytest.fail(f"Edit {number} of {model} was not seen.")


@pytest.mark.parametrize("model", MODELS)
def test_missing_parts_are_refused(saved, tmp_path, model):
    path = saved[model][1]
    with np.load(path) as archive:
        record, arrays = json.loads(archive["record"].tobytes()), set(archive.files) - {"record"}
    edits = [lambda r, a, name=name: a.pop(name) for name in arrays]
    edits += [lambda r, a, name=name: r.pop(name) for name in record]
    for part in ("settings", "gate"):
        edits += [lambda r, a, p=part, name=name: r[p].pop(name) for name in record[part]]
    assert len(edits) >= 8 + 10 + 5 + 1
    for edit in edits:
        with pytest.raises(FitFileError, match="or damaged: "):
            bm.text.load(edited(path, tmp_path / "bad.npz", edit))


def is_refused_or_the_same(path, fit):
    try:
        again = bm.text.load(path)
    except FitFileError:
        return True
    assert str(again) == str(fit)
    assert again.alignments(threshold=0.3) == fit.alignments(threshold=0.3)
    assert again.translation_table("a").equals(fit.translation_table("a"))
    np.testing.assert_array_equal(again.trace, fit.trace)
    return False


@pytest.mark.parametrize("model", MODELS)
def test_flipped_bits_and_cut_files_are_refused_or_do_no_harm(saved, tmp_path, model):
    fit, path = saved[model]
    data, rng = path.read_bytes(), np.random.default_rng(MODELS.index(model))
    refused = 0
    for _ in range(80):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        (tmp_path / "bad.npz").write_bytes(damaged)
        refused += is_refused_or_the_same(tmp_path / "bad.npz", fit)
    assert refused > 40
    for length in rng.integers(0, len(data), 20):
        (tmp_path / "bad.npz").write_bytes(data[:length])
        assert is_refused_or_the_same(tmp_path / "bad.npz", fit)


def test_headers_of_arrays_that_cannot_be_read_are_refused(saved, tmp_path):
    # The checksums are right: only the text within an array's member is wrong.
    path, rng = saved["ibm1"][1], np.random.default_rng(5)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for _ in range(80):
        changed = bytearray(members["starts.npy"])
        changed[rng.integers(80)] = rng.integers(256)
        buffer = BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, data in (members | {"starts.npy": bytes(changed)}).items():
                archive.writestr(name, data)
        (tmp_path / "bad.npz").write_bytes(buffer.getvalue())
        is_refused_or_the_same(tmp_path / "bad.npz", saved["ibm1"][0])

"""Alignments in files."""

import numpy as np
import pytest

import bayes_moe as bm
from bayes_moe.core.errors import FitFileError
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

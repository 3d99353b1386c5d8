"""The picture of an alignment."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

import bayes_moe as bm
from bayes_moe.core.errors import SpecError
from tests.support.parallel_texts import NLTK


@pytest.fixture(scope="module")
def fit():
    return bm.text.alignment(NLTK["source"], NLTK["target"])


def test_cells_have_the_posterior_probabilities(fit):
    pc = bm.text.plot_alignment(fit, 0, backend="matplotlib")
    axes = pc.viz["plot"].item()
    assert [t.get_text() for t in axes.get_xticklabels()] == NLTK["target"][0]
    assert [t.get_text() for t in axes.get_yticklabels()] == [*NLTK["source"][0], "NULL"]
    assert axes.yaxis_inverted()
    shares = fit.posterior(0).values[[1, 2, 3, 4, 0]]
    texts = {(round(x), round(y)): t.get_text() for t in axes.texts for x, y in [t.get_position()]}
    wanted = {
        (j, i): f"{share:.2f}".removeprefix("0")
        for (i, j), share in np.ndenumerate(shares)
        if share >= 0.05
    }
    assert texts == wanted
    assert len(axes.lines) == len(NLTK["target"][0])
    plt.close("all")


def test_parts_are_left_out_and_long_sentences_have_no_numbers(fit):
    pc = bm.text.plot_alignment(
        fit, (["the"] * 20, ["das"]), backend="matplotlib", visuals={"likeliest": False}
    )
    axes = pc.viz["plot"].item()
    assert not axes.texts
    assert not axes.lines
    plt.close("all")
    with pytest.raises(SpecError, match="'number'"):
        bm.text.plot_alignment(fit, visuals={"number": False}, backend="matplotlib")
    with pytest.raises(SpecError, match="must be an Alignment"):
        bm.text.plot_alignment("fit")


def test_an_alignment_in_plotly(fit):
    pytest.importorskip("plotly")
    bm.text.plot_alignment(fit, 0, backend="plotly")

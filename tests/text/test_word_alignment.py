"""Word alignment as users see it: planted dictionaries, tables, links, new pairs, bad input."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta

import bayes_moe as bm
from bayes_moe.core.errors import DataError, SpecError
from tests.support.parallel_texts import NLTK, planted

MODELS = ("ibm1", "ibm2", "diagonal")


@pytest.fixture(scope="module")
def text():
    return planted()


@pytest.fixture(scope="module")
def fits(text):
    return {model: bm.text.alignment(*text[:2], model) for model in MODELS}


@pytest.fixture(scope="module")
def small():
    return {
        method: bm.text.alignment(NLTK["source"], NLTK["target"], "diagonal", method=method)
        for method in ("em", "variational")
    }


def test_nltks_alignments_are_found():
    fit = bm.text.alignment(
        NLTK["source"], NLTK["target"], method="em", iterations=5, tolerance=0.0
    )
    wanted = [sorted((i, j) for j, i in links) for links in NLTK["ibm1"]["alignments"]]
    assert [sorted(links) for links in fit.alignments()] == wanted


@pytest.mark.parametrize("model", MODELS)
def test_a_planted_dictionary_is_recovered(fits, model):
    fit = fits[model]
    best = [fit.translation_table(f"s{i}", 1).index[0] for i in range(40)]
    assert np.mean([word == f"t{i}" for i, word in enumerate(best)]) >= 0.95
    assert fit.translation_table(None, 1).index[0] == "of"
    assert fit.gloss("s3 s4")["target"].tolist() == ["t3", "t4"]


def test_position_gates_lower_the_error_rate(fits, text):
    rates = {m: bm.text.alignment_error_rate(f.alignments(), text[2]) for m, f in fits.items()}
    assert rates["diagonal"] < rates["ibm1"] - 0.02
    assert rates["ibm1"] < 0.2
    scores = bm.text.alignment_scores(fits["ibm1"].alignments(threshold=0.9), text[2])
    assert scores["precision"] > 0.95


def test_a_table_lowers_the_error_rate_of_number_words():
    table = bm.load_dataset("numerals")
    gold = [[tuple(map(int, p.split("-"))) for p in row.split()] for row in table["links"]]
    texts = table["english"], table["german"]
    first = bm.text.alignment(*texts, "ibm1")
    second = bm.text.alignment(*texts, "ibm2")
    assert bm.text.alignment_error_rate(first.alignments(), gold) == pytest.approx(0.044, abs=0.01)
    assert bm.text.alignment_error_rate(second.alignments(), gold) < 0.005
    assert second.gloss("Seventy one")["target"].tolist() == ["siebzig", "ein"]


@pytest.mark.parametrize("method", ["em", "variational"])
def test_intervals_are_quantiles_of_beta_distributions(small, method):
    fit = small[method]
    table = fit.translation_table("the", None, ci_prob=0.8)
    assert table.index.name == "the"
    prior = 1 / 8 if method == "variational" else 0.0
    a = table["count"] + prior
    total = table["count"].sum() + 8 * prior
    np.testing.assert_allclose(table["probability"], a / total)
    line = table.iloc[0]
    wanted = beta.ppf([0.1, 0.9], a.iloc[0], total - a.iloc[0])
    np.testing.assert_allclose([line["lower"], line["upper"]], wanted)
    assert (table["lower"] <= table["upper"]).all()
    assert table["probability"].is_monotonic_decreasing


def test_a_word_without_expected_counts_has_no_limits():
    fit = bm.text.alignment(["b c", "b"], ["x", "y"], method="em", null_probability=0)
    run = fit.run
    # Counts underflow to zero after many iterations.
    counts = np.where(run.table.pairs.source == 2, 0.0, run.table.counts)
    fit = replace(fit, run=replace(run, table=replace(run.table, counts=counts)))
    table = fit.translation_table("c")
    assert table["probability"].tolist() == [0.5]
    assert table[["lower", "upper"]].isna().all(axis=None)
    assert fit.translation_table("b")[["lower", "upper"]].notna().all(axis=None)


@pytest.mark.parametrize("model", MODELS)
def test_null_that_is_left_out_has_no_table(model):
    left = bm.text.alignment(["a b", "b"], ["x y", "y"], model, null_probability=0)
    for question in (
        lambda: left.translation_table(None),
        lambda: left.sampled_table(["a", None], random_seed=1),
    ):
        with pytest.raises(SpecError, match="`null_probability=0` left NULL out"):
            question()
    assert len(left.translation_table("a"))


def test_responsibilities_are_those_of_all_alignments(small):
    fit = small["em"]
    source, target = ["the", "small", "book"], ["das", "klein"]
    shares = fit.posterior((source, target))
    assert shares["source"].values.tolist() == ["NULL", *source]
    tables = [fit.translation_table(word, None)["probability"] for word in (None, *source)]
    gate = fit.run.gate
    total, sums = 0.0, np.zeros((4, 2))
    for which in itertools.product(range(4), repeat=2):
        chance = 1.0
        for j, i in enumerate(which):
            tilt = np.exp(-gate.strength * np.abs(np.arange(1, 4) / 3 - (j + 1) / 2))
            place = gate.null if i == 0 else (1 - gate.null) * tilt[i - 1] / tilt.sum()
            chance *= place * tables[i].get(target[j], 0.0)
        total += chance
        for j, i in enumerate(which):
            sums[i, j] += chance
    np.testing.assert_allclose(shares, sums / total, atol=1e-12)
    logs = fit.log_likelihood([source], [target])
    assert logs["log_likelihood"][0] == pytest.approx(np.log(total), abs=1e-12)


def test_fitted_pairs_have_the_fits_log_likelihood(small):
    fit = small["em"]
    logs = fit.log_likelihood(NLTK["source"], NLTK["target"])
    assert logs["log_likelihood"].sum() == pytest.approx(fit.run.log_likelihood)
    assert fit.perplexity(NLTK["source"], NLTK["target"]) == pytest.approx(
        np.exp(-fit.run.log_likelihood / logs["words"].sum())
    )
    assert fit.alignments() == fit.alignments(NLTK["source"], NLTK["target"])
    np.testing.assert_array_equal(
        fit.posterior(2), fit.posterior((NLTK["source"][2], NLTK["target"][2]))
    )


def test_unknown_words_are_counted_and_have_the_priors_mean(small):
    fit = small["variational"]
    logs = fit.log_likelihood([["zoo"], ["the"]], [["haus", "tier"], ["tier"]])
    assert logs["unknown"].tolist() == [1, 1]
    assert logs["words"].tolist() == [1, 0]
    null = fit.translation_table(None, None)["probability"]["haus"]
    p0 = fit.run.gate.null
    assert logs["log_likelihood"].tolist() == pytest.approx([np.log(p0 * null + (1 - p0) / 8), 0.0])
    # The gate alone says what an unknown target word comes from.
    np.testing.assert_allclose(fit.posterior((["the"], ["tier"]))[:, 0], [p0, 1 - p0])
    assert pd.isna(fit.gloss("zoo")["target"][0])
    with pytest.raises(DataError, match="no word of `target`"):
        fit.perplexity(["the"], ["tier"])


def test_it_says_what_was_fitted(small):
    text = str(small["em"])
    assert "Diagonal model" in text
    assert "6 pairs, 20 target words" in text
    assert "7 source, 8 target" in text
    assert "<table" in small["em"]._repr_html_()
    assert small["em"].method == "em"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "ibm3"}, "Unknown model of alignment 'ibm3'"),
        ({"method": "nuts"}, "Unknown method 'nuts'"),
        ({"method": "em", "concentration": 0.5}, "method='variational' takes less"),
        ({"concentration": 0.0}, "`concentration` must be a positive number"),
        ({"null_probability": 1.0}, "`null_probability` must be at least 0 and below 1"),
        ({"position_concentration": 0.5, "model": "ibm2"}, "must be at least 1"),
        ({"position_concentration": 2.0}, "is of model 'ibm2'"),
        ({"iterations": 0}, "`iterations`"),
        ({"start_iterations": -1}, "`start_iterations`"),
        ({"tolerance": "no"}, "`tolerance`"),
        ({"tolerance": -1}, "`tolerance` must be at least 0"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(SpecError, match=message):
        bm.text.alignment(["a"], ["x"], **settings)


def test_bad_questions_are_named(small):
    fit = small["em"]
    with pytest.raises(SpecError, match=r"no word 'bok'. Did you mean 'book'\?"):
        fit.translation_table("bok")
    with pytest.raises(SpecError, match="both `source` and `target`"):
        fit.alignments(["a"])
    for threshold in (1.5, 0, "a", True, np.nan, [0.5]):
        with pytest.raises(SpecError, match="`threshold`"):
            fit.alignments(threshold=threshold)
    with pytest.raises(SpecError, match="`pair` must be at most 5"):
        fit.posterior(6)
    with pytest.raises(SpecError, match="a number or"):
        fit.posterior("the")

"""Language models: the rows, the fit of the gate, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special

import bayes_moe as bm
from bayes_moe.em.climb import run_em
from bayes_moe.em.objective import Objective
from bayes_moe.em.partitions import initial_partitions
from bayes_moe.em.starting_points import initial_points
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.text import Ngram
from bayes_moe.text.context_table import Scorer
from bayes_moe.text.corpus import whole
from tests.support.verses import VERSES

EXPERTS = [Ngram(2), Ngram(3), Ngram(3, "dirichlet", concentration=2.0)]
LETTERS = "".join(sorted({*"".join(VERSES)}))
"""A text with every letter, so that vocabularies are the same."""


@pytest.fixture(scope="module")
def fixed():
    return bm.text.language_model(VERSES, 3, experts=EXPERTS, gate="~ 1")


@pytest.fixture(scope="module")
def table(fixed):
    return fixed.table()


def logs(table):
    return table[[c for c in table if c.startswith("log_p_")]].to_numpy()


def test_the_rows_are_every_token_by_the_counts_of_other_folds(fixed, table):
    assert table["occurrences"].sum() == sum(len(verse) + 1 for verse in VERSES)
    # One document a fold, so that its counts are those of a model of all others.
    rows = bm.text.language_model(VERSES, 3, experts=EXPERTS, gate="~ 1", folds=len(VERSES)).table()
    expected = []
    for verse in VERSES:
        others = [other for other in VERSES if other != verse]
        model = bm.text.language_model([*others, LETTERS], 3, experts=EXPERTS, folds=2)
        counts = model.count([whole(codes) for codes in model.documents[:-1]])
        scorer = Scorer(counts, model.experts)
        stream = model.stream(verse)
        expected.append(logs(scorer.table(stream, np.flatnonzero(stream.predicted))).sum(axis=0))
    found = (logs(rows) * rows[["occurrences"]].to_numpy()).sum(axis=0)
    np.testing.assert_allclose(found, np.sum(expected, axis=0), rtol=1e-10)


def test_fixed_weights_are_those_of_plain_em(fixed, table):
    fit = fixed.fit(objective="likelihood", tol=1e-13, random_seed=1).fit
    density, times = np.exp(logs(table)), table["occurrences"].to_numpy()
    weights = np.full(3, 1 / 3)
    for _ in range(5_000):
        joint = density * weights
        weights = times @ (joint / joint.sum(axis=1, keepdims=True)) / times.sum()
    found = bm.predict(fit, table.head(1)).weights().values[0]
    np.testing.assert_allclose(found, weights, atol=1e-10)
    expected = times @ np.log(density @ weights)
    assert bm.information(fit)["log_likelihood"] == pytest.approx(expected, abs=1e-8)


def test_the_gate_of_the_context_has_the_best_posterior_that_scipy_finds(table):
    prior = bm.Prior("Normal", mu=0.0, sigma=2.0)
    settings = {"experts": EXPERTS, "gate": "~ backoff_1 + backoff_2"}
    model = bm.text.language_model(VERSES, 3, priors={"gate_coef": prior}, **settings)
    fit = model.fit(restarts=4, random_seed=1).fit
    slopes = table[["backoff_1", "backoff_2"]].to_numpy()
    times = table["occurrences"].to_numpy()
    # The prior of intercepts is at average features.
    centred = slopes - np.average(slopes, axis=0, weights=times)
    features = np.column_stack([np.ones(len(table)), centred])

    def loss(theta):
        gate = special.log_softmax(features @ theta.reshape(3, 3).T, axis=1)
        joint = gate + logs(table)
        total = special.logsumexp(joint, axis=1, keepdims=True)
        slope = (times[:, None] * (np.exp(joint - total) - np.exp(gate))).T @ features
        return theta @ theta / 8 - times @ total[:, 0], theta / 4 - slope.ravel()

    starts = np.random.default_rng(1).normal(size=(4, 9))
    ends = [optimize.minimize(loss, start, jac=True, options={"gtol": 1e-7}) for start in starts]
    best = min(ends, key=lambda end: end.fun)
    weights = special.softmax(features @ best.x.reshape(3, 3).T, axis=1)
    np.testing.assert_allclose(bm.predict(fit, table).weights(), weights, atol=1e-5)


def test_the_log_likelihood_never_falls(fixed, table):
    gated = bm.text.language_model(VERSES, 3, experts=EXPERTS)
    for spec in (fixed.spec, gated.spec):
        design = spec.design(table)
        objective = Objective(parameter_vector(spec, design, likelihood=True))
        split = initial_partitions(spec, design.rows, 6, np.random.default_rng(1))
        climbed = run_em(objective, initial_points(objective, split), max_iter=60)
        falls = np.diff(climbed.path, axis=0) < -1e-9 * np.abs(climbed.path[:-1])
        assert not falls.any()  # the path is NaN from where it ends


def test_the_table_is_that_of_an_ordinary_mixture(fixed, table):
    assert isinstance(fixed.spec, bm.MixtureOfExperts)
    fit = bm.fit(fixed.spec, table, "em", random_seed=1)
    same = fixed.fit(random_seed=1).fit
    ours, theirs = (bm.predict(f, table.head(1)).weights().values for f in (same, fit))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    new = fixed.table("a new text")
    assert isinstance(new, pd.DataFrame)
    assert len(new) == len("a new text") + 1
    assert bm.responsibilities(fit, new).sizes["obs_id"] == len(new)


@pytest.mark.filterwarnings("ignore::bayes_moe.ConvergenceWarning")  # so few tokens
def test_laplace_and_a_corpus_of_one_text():
    model = bm.text.language_model(" ".join(VERSES), 2)
    fitted = model.fit("laplace", draws=20, chains=2, random_seed=1)
    found = fitted.next("the ")
    assert (found["lower"] <= found["probability"]).all()
    assert (found["upper"] >= found["probability"]).all()
    assert found["upper"].sum() > found["lower"].sum()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"level": "byte"}, "`level` must be"),
        ({"order": 1}, "`order` must be a whole number >= 2"),
        ({"folds": 1}, "`folds`"),
        ({"min_count": 0}, "`min_count`"),
        ({"lowercase": 1}, "`lowercase`"),
        ({"experts": [Ngram(2)]}, "at least two experts"),
        ({"experts": [Ngram(2), Ngram(7)]}, "above order=3"),
        ({"experts": [Ngram(2), Ngram(2, discount=0.5)]}, "differ in name"),
        ({"experts": 3}, "must be a list of bm.text.Ngram"),
        ({"experts": "kn3"}, "must be a list of bm.text.Ngram"),
        ({"experts": Ngram(2)}, "must be a list of bm.text.Ngram"),
        ({"experts": ["kn2", "kn3"]}, r"must be bm.text.Ngram"),
        ({"gate": 3}, "`gate` must be a formula"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(bm.SpecError, match=words):
        bm.text.language_model(VERSES, **{"order": 3} | settings)


@pytest.mark.parametrize(
    ("gate", "name"),
    [
        ("~ unseen", "unseen"),
        ("~ log_p_kn2", "log_p_kn2"),
        ("~ count_1 + occurrences", "occurrences"),
        ("~ count_1 + offset(log_p_kn1, log_p_kn2)", "log_p_kn1"),
        ("~ count_1 + (1 | occurrences)", "occurrences"),
        ("~ count_2", "count_2"),
        (bm.gates.Gaussian("~ count_1 + log_p_kn1"), "log_p_kn1"),
        (bm.gates.StickBreaking("~ exp(log_p_kn1)"), "log_p_kn1"),
        (bm.gates.Softmax("~ log_p_kn1", predictor="mlp"), "log_p_kn1"),
    ],
    ids=str,
)
def test_gates_of_the_predicted_token_are_refused(gate, name):
    with pytest.raises(bm.SpecError, match=r"Valid: count_1, followers_1, backoff_1\.") as error:
        bm.text.language_model(VERSES, 2, gate=gate)
    assert repr(name) in str(error.value)


def test_bad_corpora_are_refused():
    with pytest.raises(bm.DataError, match="fewer tokens than folds"):
        bm.text.language_model("ab")


def test_a_corpus_too_short_for_the_default_gate_is_refused():
    with pytest.raises(bm.DataError, match=r"too short for the default gate.* gate='~ 1'"):
        bm.text.language_model("abcdefgh", 2, folds=2).fit(random_seed=1)
    model = bm.text.language_model("abcdefgh", 2, folds=2, gate="~ count_1 + followers_1")
    with pytest.raises(bm.DataError, match=r"^The design column"):
        model.fit(random_seed=1)

"""Fitted language models: scores, next tokens, random texts, and responsibilities."""

import numpy as np
import pytest

import bayes_moe as bm
from tests.support.verses import VERSES

NEW = "the king and the cat sing to the moon; when the dog was not in the house"


@pytest.fixture(scope="module")
def chars():
    return bm.text.language_model(VERSES, 3, gate="~ backoff_1 + backoff_2").fit(random_seed=1)


@pytest.fixture(scope="module")
def words():
    model = bm.text.language_model(VERSES, 2, level="word", gate="~ 1", min_count=2)
    return model.fit(random_seed=1)


def test_scores_are_the_package_s_log_densities(chars):
    table = bm.text.language_model(VERSES, 3).table(NEW)
    bits = -bm.log_density(chars.fit, table).values.sum() / np.log(2)
    found = chars.scores(NEW, blocks=1)
    assert found["bits"].tolist() == pytest.approx([bits])
    assert found["tokens"].tolist() == [len(NEW) + 1]
    blocks = chars.scores(NEW)
    assert len(blocks) == 20
    assert blocks["bits"].sum() == pytest.approx(bits)
    per_token = bits / (len(NEW) + 1)
    assert chars.bits_per_token(NEW).estimate == pytest.approx(per_token)
    assert chars.perplexity(NEW).estimate == pytest.approx(2**per_token)


def test_standard_errors_are_over_documents(chars):
    texts = {"one": NEW, "two": "a song of the moon", "three": VERSES[0]}
    found = chars.scores(texts)
    assert list(found.index) == ["one", "two", "three"]
    estimate = chars.bits_per_character(texts)
    rate = found["bits"].sum() / found["characters"].sum()
    rest = (found["bits"] - rate * found["characters"]).to_numpy()
    se = np.sqrt((rest**2).sum() * 3 / 2) / found["characters"].sum()
    assert estimate == pytest.approx((rate, se))
    assert np.isnan(chars.bits_per_token(NEW, blocks=1).se)
    with pytest.raises(bm.SpecError, match="single document"):
        chars.scores(texts, blocks=3)


def test_one_expert_alone(chars):
    table = bm.text.language_model(VERSES, 3).table(NEW)
    bits = -table["log_p_kn2"].sum() / np.log(2)
    assert chars.scores(NEW, expert="kn2", blocks=1)["bits"].item() == pytest.approx(bits)
    with pytest.raises(bm.SpecError, match="kn9"):
        chars.scores(NEW, expert="kn9")


def test_characters_of_words(words):
    found = words.scores("The king, the  queen", blocks=1)
    assert found[["tokens", "characters"]].to_numpy().tolist() == [[6, 21]]
    # "The", " king", ",", " the", "  queen", and the end.
    tokens = words.scores("The king, the  queen", blocks=6)
    assert tokens["characters"].tolist() == [3, 5, 1, 4, 7, 1]
    spaced = words.scores(" the \n", blocks=2)
    assert spaced["characters"].tolist() == [4, 3]


def test_bits_a_character_are_of_words_that_are_known(words):
    text = "the king , the dish"
    found = words.bits_per_character(iter([text]))
    expected = words.scores([text], blocks=1)["bits"].sum() / (len(text) + 1)
    assert found.estimate == pytest.approx(expected)
    with pytest.raises(bm.DataError, match=r"2 word.s. outside .* first 'zzz' in the document 'b'"):
        words.bits_per_character({"a": text, "b": "the zzz qqq"})


def test_standard_errors_of_words_are_of_their_own_characters(words):
    text = " ".join(["the king was in the house"] * 20)
    found = words.scores(text, blocks=20)
    assert found["characters"].max() / found["characters"].min() < 1.6


def test_next_tokens_have_the_probabilities_of_the_text(chars, words):
    for model, prompt, token in ((chars, "the kin", "g"), (words, "the", "king")):
        found = model.next(prompt, most=model.vocabulary.size)
        assert found["probability"].sum() == pytest.approx(1.0)
        joiner = "" if model is chars else " "
        shares = model.responsibilities(f"{prompt}{joiner}{token}").iloc[-2]
        row = found.set_index("token").loc[token]
        assert row["probability"] == pytest.approx(shares["probability"])
        labels = [str(k) for k in model.fit.spec.expert_labels]
        expected = (row[labels] / row[labels].sum()).to_numpy(dtype=float)
        np.testing.assert_allclose(shares[labels].to_numpy(dtype=float), expected)


def test_responsibilities_are_the_package_s(chars):
    table = bm.text.language_model(VERSES, 3).table(NEW)
    found = chars.responsibilities(NEW)
    expected = bm.responsibilities(chars.fit, table).values[0, 0]
    np.testing.assert_allclose(found[["kn1", "kn2", "kn3"]], expected, atol=1e-12)
    assert found["token"].iloc[-1] == "<end>"


@pytest.mark.parametrize(
    "gate",
    [
        bm.gates.Softmax("~ backoff_1", temperature=0.25),
        "~ backoff_1 + offset(2 * count_1, 0 * count_1)",
    ],
    ids=["temperature", "offset"],
)
def test_next_tokens_are_by_the_whole_gate(gate):
    lm = bm.text.language_model(VERSES, 2, gate=gate).fit(random_seed=1)
    shares = lm.responsibilities("the kin").iloc[-2]  # n after "the ki"
    row = lm.next("the ki", most=lm.vocabulary.size).set_index("token").loc["n"]
    assert row["probability"] == pytest.approx(shares["probability"])
    assert row["kn1"] / row["probability"] == pytest.approx(shares["kn1"])
    table = bm.text.language_model(VERSES, 2, gate=gate).table("the kin").iloc[6:7]
    weights = bm.predict(lm.fit, table).weights().values[0]
    np.testing.assert_allclose(lm._draws(lm._contexts("the ki")).mean(axis=0), weights)


def test_random_texts(chars, words):
    text = chars.sample(40, "the ", random_seed=1)
    assert text.startswith("the ")
    assert text == chars.sample(40, "the ", random_seed=1)
    assert text != chars.sample(40, "the ", random_seed=2)
    assert "<unk>" not in words.sample(15, "the", random_seed=1)
    assert words.sample(15, "The king , 'the ", random_seed=1).startswith("The king , 'the ")


def test_bad_requests_are_refused(chars):
    for ask in (
        lambda: chars.next(3),
        lambda: chars.next("a", most=0),
        lambda: chars.next("a", ci_prob=1.0),
        lambda: chars.sample(0),
        lambda: chars.responsibilities(["a"]),
        lambda: chars.scores("ab", blocks=0),
    ):
        with pytest.raises(bm.SpecError):
            ask()
    with pytest.raises(bm.DataError, match="empty"):
        chars.scores(["a", ""])

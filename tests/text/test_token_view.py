"""Tokens coloured by responsible expert: text escaped, one colour an expert, no script."""

import pandas as pd

from bayes_moe.text.token_view import TokenView, colour


def view(tokens, level="char"):
    shares = [1.0, 0.5, 0.2][: len(tokens)]
    return TokenView(
        pd.DataFrame(
            {
                "token": tokens,
                "probability": [0.5] * len(tokens),
                "kn1": shares,
                "kn2": [1 - s for s in shares],
            }
        ),
        level,
    )


def test_text_is_escaped_and_coloured():
    html = view(["<", "\n", "b"])._repr_html_()
    assert "&lt;" in html
    assert "⏎" in html
    assert colour(0, 0.6) in html
    assert colour(1, 0.6 * 0.6) in html
    assert colour(0, 0.0) in html  # nobody's in particular
    assert "p = 0.5; kn1 0.20, kn2 0.80" in html


def test_words_have_spaces_between_them():
    assert "</span> <span" in view(["a", "b"], "word")._repr_html_()
    assert repr(view(["a", "b"])) == "TokenView of 2 tokens: kn1 75%, kn2 25%"
    assert colour(0, 0.5) == colour(10, 0.5) == "rgba(31,119,180,0.50)"

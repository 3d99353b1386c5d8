"""Translation tables as pandas tables: the likeliest translations of a word, with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.checks import check_whole
from bayes_moe.prediction.class_quantities import probability_inside
from bayes_moe.text.parallel_text import NULL, ParallelText, as_tokens
from bayes_moe.text.translation import TranslationTable

if TYPE_CHECKING:
    import pandas as pd


def translations(
    table: TranslationTable, text: ParallelText, word: Any, n: Any, ci_prob: float | None
) -> pd.DataFrame:
    """Likeliest translations of a source word, None for NULL, with intervals."""
    import pandas as pd

    if n is not None:
        check_whole("n", n, 1)
    inside = probability_inside(ci_prob)
    of = _likeliest(table, 0 if word is None else text.source.check(word) + 1)[:n]
    lower, upper = table.interval(of, inside)
    words = [text.target.words[t] for t in table.pairs.target[of]]
    columns = {
        "probability": table.mean()[0][of],
        "lower": lower,
        "upper": upper,
        "count": table.counts[of],
    }
    return pd.DataFrame(columns, index=pd.Index(words, name=NULL if word is None else word))


def word_for_word(table: TranslationTable, text: ParallelText, sentence: Any) -> pd.DataFrame:
    """Likeliest translation of each word of a source sentence."""
    import pandas as pd

    probabilities = table.mean()[0]
    rows: list[tuple[str, str | None, float]] = []
    for word in as_tokens(sentence, text.tokenizer, "The sentence"):
        if word in text.source:
            best = _likeliest(table, text.source.number(word) + 1)[0]
            target = text.target.words[table.pairs.target[best]]
            rows.append((word, target, float(probabilities[best])))
        else:
            rows.append((word, None, np.nan))
    found = pd.DataFrame(rows, columns=["source", "target", "probability"])
    return found.astype({"probability": float})


def _likeliest(table: TranslationTable, row: int) -> np.ndarray:
    """Pairs of a source word, the likeliest first."""
    of = np.arange(table.pairs.starts[row], table.pairs.starts[row + 1])
    order: np.ndarray = of[np.argsort(-table.counts[of], kind="stable")]
    return order

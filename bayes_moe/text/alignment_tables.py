"""Translation tables as pandas tables: the likeliest translations of a word, with intervals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.checks import check_whole
from bayes_moe.core.errors import SpecError
from bayes_moe.prediction.class_quantities import probability_inside
from bayes_moe.text.alignment_em import Run
from bayes_moe.text.cooccurrence import WordPairs
from bayes_moe.text.parallel_text import NULL, ParallelText, as_tokens
from bayes_moe.text.translation import TranslationTable

if TYPE_CHECKING:
    import pandas as pd


def translations(
    run: Run, text: ParallelText, word: Any, n: Any, ci_prob: float | None
) -> pd.DataFrame:
    """Likeliest translations of a source word, None for NULL, with intervals."""
    import pandas as pd

    if n is not None:
        check_whole("n", n, 1)
    inside = probability_inside(ci_prob)
    table = run.table
    of = _likeliest(table, _row(run, text, word))[:n]
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


Rows = list[tuple[str, int]]
"""Source words with their rows of the table."""


def rows_of(run: Run, text: ParallelText, words: Any) -> Rows:
    """Rows of source words, None for NULL.

    Raises
    ------
    SpecError
        For anything but a list of known words, each once, and for NULL if it is left out.
    """
    if isinstance(words, str) or not isinstance(words, Iterable):
        raise SpecError(f"`words` must be a list of source words; it is {words!r:.100}.")
    rows = [(NULL if w is None else w, _row(run, text, w)) for w in words]
    if not rows or len({row for _, row in rows}) < len(rows):
        raise SpecError("`words` must have at least one word, and each of them once.")
    return rows


def drawn_translations(
    text: ParallelText,
    pairs: WordPairs,
    rows: Rows,
    n: int,
    ci_prob: float | None,
    chain: Iterable[np.ndarray],
    tune: int,
) -> pd.DataFrame:
    """Means and intervals of the rows of some words over the draws of tables after ``tune``."""
    import pandas as pd

    inside = probability_inside(ci_prob)
    of = np.concatenate([np.arange(pairs.starts[r], pairs.starts[r + 1]) for _, r in rows])
    kept = np.array([table[of] for step, table in enumerate(chain) if step >= tune])
    mean = kept.mean(axis=0)
    low, high = np.quantile(kept, [(1 - inside) / 2, (1 + inside) / 2], axis=0)
    halves = np.array_split(kept, 2)
    sizes = [pairs.starts[r + 1] - pairs.starts[r] for _, r in rows]
    source = np.repeat(np.arange(len(rows)), sizes)
    order = np.lexsort((-mean, source))
    rank = np.concatenate([np.arange(size) for size in sizes])
    chosen = order[rank < n]
    index = pd.MultiIndex.from_arrays(
        [
            [rows[k][0] for k in source[chosen]],
            [text.target.words[t] for t in pairs.target[of[chosen]]],
        ],
        names=["source", "target"],
    )
    difference = np.abs(halves[0].mean(axis=0) - halves[1].mean(axis=0))
    columns = {"probability": mean, "lower": low, "upper": high, "half_difference": difference}
    return pd.DataFrame({name: v[chosen] for name, v in columns.items()}, index=index)


def _row(run: Run, text: ParallelText, word: Any) -> int:
    """Row of a source word, None for NULL; :class:`SpecError` if there is none."""
    if word is not None:
        return text.source.check(word) + 1
    if run.gate.leaves_null_out:
        raise SpecError(
            "`null_probability=0` left NULL out of this alignment: it has no translations."
        )
    return 0


def _likeliest(table: TranslationTable, row: int) -> np.ndarray:
    """Pairs of a source word, the likeliest first."""
    of = np.arange(table.pairs.starts[row], table.pairs.starts[row + 1])
    order: np.ndarray = of[np.argsort(-table.counts[of], kind="stable")]
    return order

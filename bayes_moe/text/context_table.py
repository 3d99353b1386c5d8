"""Rows of language models: what is known of a token's context, and log probabilities by expert."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.text.corpus import Stream
from bayes_moe.text.ngrams import Counts, Matches
from bayes_moe.text.smoothing import Ngram, Step, distribution, probabilities, steps_of

if TYPE_CHECKING:
    import pandas as pd

TOKEN, COUNT = "token", "occurrences"
"""Columns of codes, and of the number of tokens that a row stands for."""
FEATURES = ("count", "followers", "backoff")
"""What is known of a context of each length."""


def context_columns(order: int) -> list[str]:
    """Names of the features of contexts."""
    return [f"{name}_{j}" for j in range(1, order) for name in FEATURES]


class Scorer:
    """Features of contexts and probabilities of tokens by counts of n-grams."""

    def __init__(self, counts: Counts, experts: Sequence[Ngram]) -> None:
        self.counts, self.experts = counts, tuple(experts)

    @cached_property
    def steps(self) -> list[list[Step]]:
        """The orders of each expert."""
        return [steps_of(self.counts, expert) for expert in self.experts]

    @cached_property
    def by_context(self) -> list[tuple[np.ndarray, ...]]:
        """The features (context,) of contexts of lengths 1, 2, ...."""
        backoff = steps_of(self.counts, Ngram(self.counts.order))
        return [
            (np.log1p(level.total), np.log1p(level.followers), step.rest)
            for level, step in zip(self.counts.levels[1:], backoff[1:], strict=True)
        ]

    def features(self, context: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Columns of features of contexts (position,) of lengths 0, 1, ..."""
        columns = {}
        for j, values in enumerate(self.by_context, start=1):
            known, at = context[j] >= 0, np.maximum(context[j], 0)
            for name, of_context, without in zip(FEATURES, values, (0.0, 0.0, 1.0), strict=True):
                columns[f"{name}_{j}"] = np.where(known, of_context[at], without)
        return columns

    def log_probabilities(self, matches: Matches) -> dict[str, np.ndarray]:
        """Columns of the experts' log probabilities of matched tokens."""
        return {
            f"log_p_{expert.name}": np.log(probabilities(self.counts, steps, matches))
            for expert, steps in zip(self.experts, self.steps, strict=True)
        }

    def expert(self, stream: Stream, where: np.ndarray, k: int) -> np.ndarray:
        """Probabilities (position,) of tokens at some positions by one expert."""
        return probabilities(self.counts, self.steps[k], self.counts.matches(stream, where))

    def table(
        self, stream: Stream, where: np.ndarray, occurrences: np.ndarray | None = None
    ) -> pd.DataFrame:
        """Rows of some positions of a stream."""
        import pandas as pd

        matches = self.counts.matches(stream, where)
        times = np.ones(len(where)) if occurrences is None else occurrences.astype(float)
        columns = {TOKEN: stream.codes[where], COUNT: times}
        columns |= self.features(matches.context) | self.log_probabilities(matches)
        return pd.DataFrame(columns)

    def row(self, contexts: Sequence[int]) -> pd.DataFrame:
        """The row of a token that is to come: features, and no probabilities."""
        import pandas as pd

        columns = self.features([np.array([c]) for c in contexts])
        columns |= {f"log_p_{expert.name}": np.zeros(1) for expert in self.experts}
        return pd.DataFrame({TOKEN: np.zeros(1)} | columns)

    def distributions(self, contexts: list[int]) -> np.ndarray:
        """Probabilities (expert, token) of all tokens after a context."""
        return np.stack([distribution(self.counts, steps, contexts) for steps in self.steps])


def joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Rows of several tables, numbered anew."""
    import pandas as pd

    return pd.concat(tables, ignore_index=True)

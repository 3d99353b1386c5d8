"""Counts of n-grams: sorted whole numbers, one array an order, and their look-up.

An n-gram is a context, which is the n-gram one shorter that ends before it, and a token. So its key
is ``context * size + token``, with the context's position in the sorted keys one order lower: keys
stay small for any order, and nothing is hashed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bayes_moe.text.corpus import Stream

NOT_FOUND = -1
MOST = 3
"""Counts from this one on have the same discount."""


@dataclass(frozen=True, eq=False)
class Level:
    """The n-grams of one order, in the order of their keys.

    Attributes
    ----------
    keys : array
        Sorted keys (gram,).
    counts : array
        How often each occurs as something that is predicted (gram,); 0 if only as a context.
    preceding : array
        Number of different tokens before each (gram,), the continuation count of Kneser and Ney;
        of the highest order, the counts themselves.
    contexts : int
        Number of contexts, which are the n-grams one order lower.
    size : int
        Size of the vocabulary.
    """

    keys: np.ndarray
    counts: np.ndarray
    preceding: np.ndarray
    contexts: int
    size: int

    @cached_property
    def context(self) -> np.ndarray:
        """Context (gram,) of each."""
        return self.keys // self.size

    @cached_property
    def total(self) -> np.ndarray:
        """How often each context (context,) is followed by something."""
        return self.sums(self.counts)

    @cached_property
    def followers(self) -> np.ndarray:
        """How many different tokens follow each context (context,)."""
        return self.sums(self.counts > 0)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums (context,) of values (gram,) over the tokens that follow each context."""
        return np.bincount(self.context, values, self.contexts)

    def find(self, context: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Positions (position,) of n-grams; -1 if they or their contexts do not occur."""
        wanted = context * self.size + tokens
        at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where((context >= 0) & (self.keys[at] == wanted), at, NOT_FOUND)

    def following(self, context: int) -> slice:
        """Positions of the n-grams of a context."""
        low, high = np.searchsorted(self.keys, [context * self.size, (context + 1) * self.size])
        return slice(int(low), int(high))


@dataclass(frozen=True, eq=False)
class Matches:
    """Where n-grams of each order that end at some positions are in counts: -1 if nowhere.

    ``context`` and ``grams`` are by order (1 first), each (position,).
    """

    context: tuple[np.ndarray, ...]
    grams: tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class Counts:
    """Counts of the n-grams of orders 1, 2, ... of documents."""

    levels: tuple[Level, ...]

    @property
    def size(self) -> int:
        """Size of the vocabulary."""
        return self.levels[0].size

    @property
    def order(self) -> int:
        """Highest order."""
        return len(self.levels)

    @cached_property
    def start(self) -> list[int]:
        """Contexts of lengths 0, 1, ... at the start of a document: boundaries all the way."""
        found = [0]
        for level in self.levels[:-1]:
            found.append(int(level.find(np.array(found[-1:]), np.zeros(1, np.int64))[0]))
        return found

    def advance(self, contexts: Sequence[int], token: int) -> list[int]:
        """Contexts of lengths 0, 1, ... after one more token."""
        at = np.array([token])
        found = [lv.find(np.array([c]), at)[0] for c, lv in zip(contexts, self.levels, strict=True)]
        return [0, *map(int, found[:-1])]

    def matches(self, stream: Stream, where: np.ndarray) -> Matches:
        """Matches of n-grams of another text that end at positions ``where``."""
        context = np.zeros(len(stream.codes), dtype=np.int64)
        contexts, grams = [], []
        for order, level in enumerate(self.levels, start=1):
            found = level.find(context, stream.codes)
            contexts.append(context[where])
            grams.append(found[where])
            if order < self.order:
                found[stream.first] = self.start[order]
                context = shifted(found, stream)
        return Matches(tuple(contexts), tuple(grams))


def shifted(grams: np.ndarray, stream: Stream) -> np.ndarray:
    """Contexts one token longer (position,): the n-gram before each; of a boundary its own."""
    context = np.roll(grams, 1)
    context[stream.first] = grams[stream.first]
    return context


def count_ngrams(stream: Stream, order: int, size: int) -> Counts:
    """Count the n-grams of orders 1 to ``order`` of a stream of codes below ``size``."""
    raw: list[tuple[np.ndarray, np.ndarray, int]] = []
    preceding: list[np.ndarray] = []
    context = np.zeros(len(stream.codes), dtype=np.int64)
    lower, contexts = context, 1
    for k in range(order):
        keys, first, grams = np.unique(
            context * size + stream.codes, return_index=True, return_inverse=True
        )
        counts = np.bincount(grams, stream.predicted, len(keys)).astype(np.int64)
        if k:
            seen = first[counts > 0]
            preceding.append(np.bincount(lower[seen], minlength=len(raw[-1][0])))
        raw.append((keys, counts, contexts))
        lower, contexts, context = grams, len(keys), shifted(grams, stream)
    preceding.append(raw[-1][1])
    return Counts(
        tuple(
            Level(keys, counts, before, n, size)
            for (keys, counts, n), before in zip(raw, preceding, strict=True)
        )
    )


def distinct(stream: Stream, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of different predicted n-grams of one order, and how often each occurs."""
    context = np.zeros(len(stream.codes), dtype=np.int64)
    size = int(stream.codes.max()) + 1
    for _ in range(order):
        grams = np.unique(context * size + stream.codes, return_inverse=True)[1]
        context = shifted(grams, stream)
    where = np.flatnonzero(stream.predicted)
    _, first, counts = np.unique(grams[where], return_index=True, return_counts=True)
    return where[first], counts

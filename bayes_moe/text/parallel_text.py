"""Parallel text: tokens of sentence pairs, and vocabularies of both languages."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bayes_moe.core.errors import DataError, SpecError, nearest
from bayes_moe.text.word_patterns import word_pattern

NULL = "NULL"
"""Label of the empty source word, which stands before the first one."""

INNER = "'’\\-"
"""Characters inside words, written as in a character class."""

Tokenizer = Callable[[str], Iterable[str]]
Sentence = str | Sequence[str]


def tokens(text: str) -> list[str]:
    """Tokens of a text: words in lower case, and marks of punctuation.

    A word is a run of letters with their marks, digits and underscores, with apostrophes and
    hyphens inside it; Unicode text is composed first (NFC).

    Examples
    --------
    >>> tokens("Don't go -- it's twenty-three!")
    ["don't", 'go', '-', '-', "it's", 'twenty-three', '!']
    """
    return word_pattern(INNER).findall(unicodedata.normalize("NFC", text).lower())


def as_tokens(sentence: Any, tokenizer: Tokenizer | None, what: str) -> list[str]:
    """Tokens of a sentence; those of a list or tuple of strings are taken as they are.

    Raises
    ------
    DataError
        For anything but texts and lists of texts, and for sentences without a token.
    """
    if isinstance(sentence, str):
        made = (tokenizer or tokens)(sentence)
        if isinstance(made, str | bytes) or not isinstance(made, Iterable):
            raise DataError(
                f"{what}: `tokenizer` must return a list of words; it returned {made!r:.100}."
            )
        found = list(made)
    elif isinstance(sentence, list | tuple | np.ndarray):
        found = list(sentence)
    else:
        raise DataError(f"{what} must be a text or a list of words; it is {sentence!r:.100}.")
    if not all(isinstance(token, str) for token in found):
        by = ", as `tokenizer` splits it," if tokenizer and isinstance(sentence, str) else ""
        raise DataError(f"{what}{by} must have texts as words; it is {found!r:.100}.")
    if not found:
        raise DataError(f"{what} has no word: leave the pair out.")
    return [str(token) for token in found]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Words of a language by number; words that it lacks have the number ``size``."""

    words: tuple[str, ...]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    @property
    def size(self) -> int:
        """How many words there are."""
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._numbers

    def number(self, word: str) -> int:
        """Return the number of a word, ``size`` if it is unknown."""
        return self._numbers.get(word, self.size)

    def numbers(self, sentence: Iterable[str]) -> np.ndarray:
        """Return the numbers of words (word,)."""
        return np.array([self.number(word) for word in sentence], dtype=np.int64)

    def check(self, word: Any) -> int:
        """Return the number of a word that must be known; :class:`SpecError` if it is not."""
        if not isinstance(word, str) or word not in self:
            hint = nearest(word, self.words) if isinstance(word, str) else ""
            raise SpecError(f"The source texts have no word {word!r}.{hint}")
        return self.number(word)


@dataclass(frozen=True, eq=False)
class SentencePairs:
    """Numbers of the words of sentence pairs, source and target, by pair."""

    source: list[np.ndarray]
    target: list[np.ndarray]

    @property
    def size(self) -> int:
        """How many pairs there are."""
        return len(self.source)


@dataclass(frozen=True, eq=False)
class ParallelText:
    """Sentence pairs as numbers, and the vocabularies; source word 0 is NULL."""

    source: Vocabulary
    target: Vocabulary
    pairs: SentencePairs
    tokenizer: Tokenizer | None = None

    @classmethod
    def read(cls, source: Any, target: Any, tokenizer: Tokenizer | None = None) -> ParallelText:
        """Parallel text of sentences, with the vocabularies in the order of first use.

        Raises
        ------
        SpecError
            For a tokenizer that is no function.
        DataError
            For texts that are no pairs of sentences, with the number of the sentence.
        """
        if tokenizer is not None and not callable(tokenizer):
            raise SpecError(f"`tokenizer` must be a function of a text; it is {tokenizer!r:.100}.")
        ours, theirs = paired(source, target, tokenizer)
        # The empty word's label may also be a word of the text: NULL is number 0 by its place.
        words = [tuple(dict.fromkeys(w for s in side for w in s)) for side in (ours, theirs)]
        vocabularies = Vocabulary(words[0]), Vocabulary(words[1])
        pairs = SentencePairs(
            [vocabularies[0].numbers(s) + 1 for s in ours],
            [vocabularies[1].numbers(s) for s in theirs],
        )
        return cls(*vocabularies, pairs, tokenizer)

    def numbers(self, source: Any, target: Any) -> tuple[SentencePairs, list[list[list[str]]]]:
        """Return further pairs as numbers, and their tokens (side, pair, word)."""
        ours, theirs = paired(source, target, self.tokenizer)
        pairs = SentencePairs(
            [self.source.numbers(s) + 1 for s in ours], [self.target.numbers(s) for s in theirs]
        )
        return pairs, [ours, theirs]

    def words(self, number: int) -> tuple[list[str], list[str]]:
        """Return the tokens of a pair."""
        source, target = self.pairs.source[number], self.pairs.target[number]
        return [self.source.words[i - 1] for i in source], [self.target.words[t] for t in target]


def paired(
    source: Any, target: Any, tokenizer: Tokenizer | None
) -> tuple[list[list[str]], list[list[str]]]:
    """Tokens of the sentences of both sides.

    Raises
    ------
    DataError
        For sides that are no lists of sentences, of unlike numbers, or empty.
    """
    sides = []
    for name, side in (("source", source), ("target", target)):
        if isinstance(side, str) or not isinstance(side, Iterable):
            raise DataError(f"`{name}` must be a list of sentences; it is {side!r:.100}.")
        what = f"Sentence {{}} of `{name}`"
        sides.append([as_tokens(s, tokenizer, what.format(n)) for n, s in enumerate(side)])
    if len(sides[0]) != len(sides[1]):
        raise DataError(
            f"`source` and `target` must have a sentence for each other; they have "
            f"{len(sides[0])} and {len(sides[1])}."
        )
    if not sides[0]:
        raise DataError("`source` and `target` have no sentence.")
    return sides[0], sides[1]

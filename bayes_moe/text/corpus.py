"""Texts as sequences of whole numbers: tokens, their vocabulary, and documents cut into parts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from bayes_moe.core.errors import DataError, SpecError

CHAR, WORD = "char", "word"
BOUNDARY, UNKNOWN = 0, 1
"""Codes of the start and end of a document, and of tokens outside the vocabulary."""
END, UNK = "<end>", "<unk>"
"""How these two are shown."""
WORDS = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
"""A word, with apostrophes inside, or one other character that is no space."""
NO_SPACE_BEFORE = re.compile(r"\s+([.,;:!?)\]}’'])")


def as_documents(corpus: Any, what: str = "corpus") -> dict[Any, str]:
    """Documents by title: of one text, of a sequence of texts (0, 1, ...), or of a mapping.

    Raises
    ------
    DataError
        For what is none of these, and for documents that are no text or empty.
    """
    if isinstance(corpus, str):
        named: dict[Any, Any] = {0: corpus}
    elif isinstance(corpus, Mapping):
        named = dict(corpus)
    elif isinstance(corpus, Sequence) or hasattr(corpus, "tolist"):
        named = dict(enumerate(corpus))
    else:
        raise DataError(
            f"`{what}` must be a text, a list of texts, or a mapping of titles to texts; it is "
            f"{type(corpus).__name__}."
        )
    if not named:
        raise DataError(f"`{what}` has no documents.")
    for title, text in named.items():
        if not isinstance(text, str):
            raise DataError(f"The document {title!r} of `{what}` is no text: {text!r:.80}.")
        if not text.strip():
            raise DataError(f"The document {title!r} of `{what}` is empty.")
    return named


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Tokens and their codes. Code 0 is the boundary of documents, 1 any unknown token.

    Attributes
    ----------
    level : {"char", "word"}
        Tokens are characters, or words and punctuation marks.
    lowercase : bool
        Whether texts are changed to lower case first.
    tokens : tuple of str
        Shown tokens by code, the first two being ``"<end>"`` and ``"<unk>"``.
    """

    level: str
    lowercase: bool
    tokens: tuple[str, ...]

    @classmethod
    def of(
        cls, documents: Mapping[Any, str], level: str, min_count: int, lowercase: bool
    ) -> Vocabulary:
        """Vocabulary of the tokens that occur at least ``min_count`` times, in sorted order."""
        counts: dict[str, int] = {}
        empty = cls(level, lowercase, (END, UNK))
        for text in documents.values():
            for token in empty.split(text):
                counts[token] = counts.get(token, 0) + 1
        kept = sorted(token for token, count in counts.items() if count >= min_count)
        return cls(level, lowercase, (END, UNK, *kept))

    def __post_init__(self) -> None:
        codes = {token: j for j, token in enumerate(self.tokens) if j > UNKNOWN}
        object.__setattr__(self, "codes", codes)

    @property
    def size(self) -> int:
        """Number of codes."""
        return len(self.tokens)

    def split(self, text: str) -> list[str]:
        """Tokens of a text."""
        cased = text.lower() if self.lowercase else text
        return list(cased) if self.level == CHAR else WORDS.findall(cased)

    def encode(self, text: str) -> np.ndarray:
        """Codes (token,) of a text, without boundaries."""
        codes: dict[str, int] = self.codes  # type: ignore[attr-defined]
        split = self.split(text)
        return np.fromiter((codes.get(t, UNKNOWN) for t in split), np.int64, len(split))

    def join(self, tokens: Sequence[str]) -> str:
        """Text of tokens: words with spaces between them."""
        if self.level == CHAR:
            return "".join(tokens)
        return " ".join(tokens)

    def tidy(self, text: str) -> str:
        """A text of words without spaces before punctuation marks."""
        return text if self.level == CHAR else NO_SPACE_BEFORE.sub(r"\1", text)


def check_level(level: Any) -> None:
    """Raise :class:`SpecError` unless it is ``"char"`` or ``"word"``."""
    if level not in (CHAR, WORD):
        raise SpecError(f"`level` must be 'char' or 'word'; it is {level!r}.")


@dataclass(frozen=True, eq=False)
class Stream:
    """Codes of documents one after the other, and which of them are predicted.

    Every part of a document begins with a boundary, of which only the context matters: it stands
    for boundaries all the way before. Tokens that are only context of a part have no weight.

    Attributes
    ----------
    codes : array
        Codes (position,).
    predicted : array
        Whether each position (position,) is predicted.
    first : array
        Whether each position (position,) is the boundary at which a part begins.
    part : array
        Number of the part of each position (position,).
    """

    codes: np.ndarray
    predicted: np.ndarray
    first: np.ndarray
    part: np.ndarray


def stream_of(parts: Sequence[Part]) -> Stream:
    """Stream of parts of documents."""
    codes, predicted, sizes = [], [], []
    for part in parts:
        own = [np.array([BOUNDARY]), part.before, part.codes]
        own += [np.array([BOUNDARY])] if part.ends else []
        codes += own
        size = sum(map(len, own))
        given = 1 + len(part.before)
        predicted += [np.zeros(given, bool), np.ones(size - given, bool)]
        sizes.append(size)
    first = np.zeros(sum(sizes), dtype=bool)
    first[np.cumsum([0, *sizes[:-1]])] = True
    return Stream(
        np.concatenate(codes).astype(np.int64),
        np.concatenate(predicted),
        first,
        np.repeat(np.arange(len(sizes)), sizes),
    )


@dataclass(frozen=True, eq=False)
class Part:
    """Tokens of a document or of a piece of one, which the tokens ``before`` it precede.

    ``ends`` says whether the document ends with it, so that its end is predicted too.
    """

    codes: np.ndarray
    before: np.ndarray
    ends: bool = True


def whole(codes: np.ndarray) -> Part:
    """A document as one part."""
    return Part(codes, codes[:0])


def cut(codes: np.ndarray, pieces: int, context: int) -> list[Part]:
    """A document in pieces of equal length, each with so many tokens of context."""
    edges = np.linspace(0, len(codes), pieces + 1).astype(int)
    return [
        Part(codes[a:b], codes[max(0, a - context) : a], ends=b == len(codes))
        for a, b in pairwise(edges)
    ]


def folds_of(documents: Sequence[np.ndarray], folds: int, context: int) -> list[list[Part]]:
    """Parts of each fold: documents put where there are fewest tokens, the longest first.

    Fewer documents than folds are cut into so many pieces each.
    """
    if len(documents) < folds:
        pieces = [cut(codes, folds, context) for codes in documents]
        return [[own[j] for own in pieces] for j in range(folds)]
    found: list[list[Part]] = [[] for _ in range(folds)]
    sizes = np.zeros(folds)
    for codes in sorted(documents, key=len, reverse=True):
        at = int(np.argmin(sizes))
        found[at].append(whole(codes))
        sizes[at] += len(codes)
    return found

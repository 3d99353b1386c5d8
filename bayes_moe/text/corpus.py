"""Texts as sequences of whole numbers: tokens, their vocabulary, and documents cut into parts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any
from unicodedata import normalize

import numpy as np

from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.text.word_patterns import word_pattern

CHAR, WORD = "char", "word"
BOUNDARY, UNKNOWN = 0, 1
"""Codes of the start and end of a document, and of tokens outside the vocabulary."""
END, UNK = "<end>", "<unk>"
"""How these two are shown."""
APOSTROPHES = "'’"
"""What may be inside words."""
CLOSING = ".,;:!?)]}"
"""What has no space before it. Of quotation marks it is not known whether they open or close."""
NO_SPACE_BEFORE = re.compile(rf"\s+([{re.escape(CLOSING)}])")


def as_documents(corpus: Any, what: str = "corpus") -> dict[Any, str]:
    """Documents by title: of one text, a mapping, or texts in order, which get numbers (0, 1, ...).

    A pandas Series has its index as titles if these are texts.

    Raises
    ------
    DataError
        For what is none of these, and for documents that are no text, empty, or of one title.
    """
    named = _titled(corpus, what)
    if not named:
        raise DataError(f"`{what}` has no documents.")
    for title, text in named.items():
        if not isinstance(text, str):
            raise DataError(f"The document {title!r} of `{what}` is no text: {text!r:.80}.")
        if not text.strip():
            raise DataError(f"The document {title!r} of `{what}` is empty.")
    return named


def _titled(corpus: Any, what: str) -> dict[Any, Any]:
    """Documents by title, unchecked."""
    if isinstance(corpus, str):
        return {0: corpus}
    if isinstance(corpus, Mapping):
        return dict(corpus)
    # A set has no order that stays; a table is iterated by its columns.
    several = isinstance(corpus, Iterable) and not hasattr(corpus, "columns")
    if not several or isinstance(corpus, Set | bytes) or getattr(corpus, "ndim", 1) != 1:
        raise DataError(
            f"`{what}` must be a text, a list, column or other sequence of texts, or a mapping of "
            f"titles to texts; it is {type(corpus).__name__}."
        )
    titles, texts = getattr(corpus, "index", None), list(corpus)
    if not isinstance(titles, Iterable) or not all(isinstance(t, str) for t in titles):
        return dict(enumerate(texts))
    doubled = [title for title, count in Counter(titles).items() if count > 1]
    if doubled:
        raise DataError(f"`{what}` has several documents of the title {doubled[0]!r}.")
    return dict(zip(titles, texts, strict=True))


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

    @cached_property
    def codes(self) -> dict[str, int]:
        """Codes of the known tokens."""
        return {token: j for j, token in enumerate(self.tokens) if j > UNKNOWN}

    @property
    def size(self) -> int:
        """Number of codes."""
        return len(self.tokens)

    def split(self, text: str) -> list[str]:
        """Tokens of a text, which is composed first (NFC)."""
        composed = normalize("NFC", text)
        if self.level == CHAR:
            return list(composed.lower() if self.lowercase else composed)
        words = word_pattern(APOSTROPHES).findall(composed)
        return [word.lower() for word in words] if self.lowercase else words

    def lengths(self, text: str) -> np.ndarray:
        """Characters (token + 1,) of a composed text (NFC) that belong to each token and the end.

        They are those from the end of the token before to its own. The document's end has those
        after the last token, and counts as one itself. Some characters are two in lower case, such
        as a capital I with a dot: both together count as one.
        """
        composed = normalize("NFC", text)
        if self.level == CHAR:
            ends = np.arange(1, len(composed) + 1)
            if self.lowercase:
                ends = np.repeat(ends, [len(c.lower()) for c in composed])
        else:
            ends = np.array([w.end() for w in word_pattern(APOSTROPHES).finditer(composed)], int)
        return np.diff(ends, prepend=0, append=len(composed) + 1)

    def encode(self, text: str) -> np.ndarray:
        """Codes (token,) of a text, without boundaries."""
        codes = self.codes
        split = self.split(text)
        return np.fromiter((codes.get(t, UNKNOWN) for t in split), np.int64, len(split))

    def continued(self, text: str, tokens: Sequence[str]) -> str:
        """A text, as it is, and tokens after it: words with spaces, but not before punctuation."""
        if self.level == CHAR:
            return text + "".join(tokens)
        added = NO_SPACE_BEFORE.sub(r"\1", " ".join(tokens))
        spaced = not added or not text or text[-1].isspace() or added[0] in CLOSING
        return text + ("" if spaced else " ") + added


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

"""Settings of text terms: how texts become terms and numbers, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from bayes_moe.core.checks import is_number, is_whole
from bayes_moe.core.errors import SpecError, unknown

ANALYZERS = ("word", "char", "char_wb")
"""What terms are made of: words, characters, or characters within words."""

WEIGHTINGS = ("tfidf", "count", "binary")
"""What the number of a term in a text is."""

MOST_NGRAM = 20
"""Most words or characters of a term."""

MOST_COMPONENTS = 1000
"""Most components of a singular value decomposition."""

MOST_HASHED = 2**20
"""Most numbers that terms are hashed to."""

LEAST_ROWS = 2
"""Rows that a term has to be in, unless something else is asked for."""


@dataclass(frozen=True)
class TextSettings:
    """How texts become features.

    Attributes
    ----------
    components : int or None
        Components of the truncated singular value decomposition; None for the terms themselves.
    analyzer : {"word", "char", "char_wb"}
        What terms are made of.
    ngrams : tuple of int
        Least and largest number of words or characters of a term.
    min_df : int or float
        Rows that a term has to be in: a number of them, or a share below 1.
    max_df : int, float or None
        Rows that a term may be in at most: a number of them, or a share below 1; None for all.
    max_terms : int or None
        Most terms, those with the most occurrences.
    lowercase : bool
        Whether capital letters are made small first.
    sublinear : bool
        Whether the number ``f`` of times that a term is in a text counts as ``1 + log(f)``.
    weighting : {"tfidf", "count", "binary"}
        What the number of a term in a text is.
    hashing : int or None
        Numbers that terms are hashed to, without a vocabulary.
    stop_words : str, tuple of str or None
        Words that are left out: ``"english"``, or these.
    """

    components: int | None = None
    analyzer: str = "word"
    ngrams: tuple[int, int] = (1, 1)
    min_df: int | float = LEAST_ROWS
    max_df: int | float | None = None
    max_terms: int | None = None
    lowercase: bool = True
    sublinear: bool = True
    weighting: str = "tfidf"
    hashing: int | None = None
    stop_words: str | tuple[str, ...] | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any], where: str) -> Self:
        """Settings from those that a user gives; None for one is its default.

        ``where`` says in errors what they are the settings of.

        Raises
        ------
        SpecError
            For values that a setting cannot have, and settings that do not go together.
        """
        known = {name: value for name, value in given.items() if value is not None}
        read: dict[str, Any] = {n: _READ[n](n, value, where) for n, value in known.items()}
        _check_together(read, where)
        if read.get("weighting", "tfidf") != "tfidf":
            read = {"sublinear": False, **read}
        return cls(**read)

    @property
    def of_terms(self) -> Self:
        """The settings without the decomposition."""
        return replace(self, components=None)


@dataclass(frozen=True)
class TextTerm:
    """A term ``text(...)`` of formulas: its text, which names its columns, and what it reads."""

    name: str
    column: str
    settings: TextSettings

    @property
    def source(self) -> tuple[str, TextSettings]:
        """The column and the settings on which the numbers of terms depend."""
        return self.column, self.settings.of_terms


def _check_together(read: Mapping[str, Any], where: str) -> None:
    """Raise :class:`SpecError` for settings of which one would be without effect."""
    hashed = [
        name for name in ("min_df", "max_df", "max_terms") if name in read and "hashing" in read
    ]
    if hashed:
        raise SpecError(
            f"{where} has hashing= and {hashed[0]}=: hashed terms have no vocabulary that could be "
            f"limited. Leave one of them out."
        )
    if "stop_words" in read and read.get("analyzer", "word") != "word":
        raise SpecError(
            f"{where} has stop_words= with analyzer={read['analyzer']!r}: only words are left out."
        )
    if read.get("weighting") == "binary" and read.get("sublinear"):
        raise SpecError(
            f"{where} has sublinear=True with weighting='binary', where each term counts once: "
            "leave one of them out."
        )
    if read.get("components", 0) > read.get("hashing", MOST_HASHED):
        raise SpecError(
            f"{where} has components={read['components']} of hashing={read['hashing']} numbers: "
            "give fewer components."
        )


def _refuse(name: str, value: Any, where: str, wanted: str) -> SpecError:
    return SpecError(f"The argument {name!r} of {where} must be {wanted}; it is {value!r:.80}.")


def _whole(name: str, value: Any, where: str) -> int:
    most = {"components": MOST_COMPONENTS, "hashing": MOST_HASHED}.get(name, 10**9)
    if not is_whole(value) or not 1 <= value <= most:
        raise _refuse(name, value, where, f"a whole number from 1 to {most}")
    return int(value)


def _flag(name: str, value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise _refuse(name, value, where, "True or False")
    return value


def _choice(name: str, value: Any, where: str) -> str:
    valid = ANALYZERS if name == "analyzer" else WEIGHTINGS
    if value not in valid:
        raise SpecError(f"{unknown(f'{name!r} of {where}', value, valid)}")
    return str(value)


def _ngrams(name: str, value: Any, where: str) -> tuple[int, int]:
    ends = (value, value) if is_whole(value) else value
    if isinstance(ends, tuple | list) and len(ends) == 2:
        least, most = ends
        if all(map(is_whole, ends)) and 1 <= least <= most <= MOST_NGRAM:
            return int(least), int(most)
    wanted = f"a whole number, or two such as (1, 2), from 1 to {MOST_NGRAM}"
    raise _refuse(name, value, where, wanted)


def _rows(name: str, value: Any, where: str) -> int | float:
    if is_whole(value) and 1 <= value <= 10**9:
        return int(value)
    if is_number(value) and 0 < value < 1:
        return float(value)
    raise _refuse(name, value, where, "a number of rows from 1, or a share of them such as 0.01")


def _words(name: str, value: Any, where: str) -> str | tuple[str, ...]:
    if value == "english":
        return "english"
    is_list = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    words = tuple(value) if is_list else ()
    if not words or not all(isinstance(word, str) and word for word in words):
        raise _refuse(name, value, where, "'english', or a list of words such as ['the', 'a']")
    return words


_READ = {
    "components": _whole,
    "analyzer": _choice,
    "ngrams": _ngrams,
    "min_df": _rows,
    "max_df": _rows,
    "max_terms": _whole,
    "lowercase": _flag,
    "sublinear": _flag,
    "weighting": _choice,
    "hashing": _whole,
    "stop_words": _words,
}
"""What reads the value of each setting."""

SETTINGS = (*_READ,)
"""Names of the settings."""

"""Group terms of formulas, such as ``(1 + x | g)``: their text, and their columns for rows.

Left of the bar is the design of effects that differ between groups, right of it what tells the
groups apart: a column, or several with ``:``. ``(1 | a/b)`` is ``(1 | a) + (1 | a:b)``. Effects of
a double bar, ``(x || g)``, are independent of each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.core.errors import SpecError

if TYPE_CHECKING:
    pass

AVERAGE, SAMPLE, ERROR = "average", "sample", "error"
UNSEEN = (ERROR, AVERAGE, SAMPLE)
"""What is done with groups that no fitted row has."""

_COLUMN = re.compile(r"`[^`]+`|[^\W\d]\w*")


@dataclass(frozen=True)
class GroupTerm:
    """Effects of one grouping in a formula.

    Attributes
    ----------
    columns : tuple of str
        Columns whose combinations are the groups.
    design : str
        Right-hand side of the design of the effects, ``"~ 1 + x"``.
    correlated : bool
        Whether effects of one group may be correlated.
    """

    columns: tuple[str, ...]
    design: str
    correlated: bool

    @property
    def name(self) -> str:
        """Name of the grouping, ``"g"`` or ``"a:b"``."""
        return ":".join(self.columns)

    @property
    def has_correlations(self) -> bool:
        """Whether there are several effects of a group, which may be correlated."""
        return self.correlated and _has_several(self.design)


@dataclass(frozen=True)
class GroupColumns:
    """Design and groups of some rows, for one group term.

    Attributes
    ----------
    term : GroupTerm
        The group term.
    terms : tuple of str
        Names of the columns of its design.
    labels : tuple of str
        Labels of the fitted rows' groups, ``"1"`` or ``"a:b"``.
    values : array (obs, term)
        The design, on the user's scale.
    codes : array (obs,)
        Position of each row's group among the labels; from their number on, groups that no fitted
        row has. The first of these numbers is a group whose effects are 0.
    scale : array (term,)
        Root mean square of the fitted rows' values.
    new : tuple of str
        Labels of the groups that no fitted row has, but the first, whose effects are to be drawn.
    """

    term: GroupTerm
    terms: tuple[str, ...]
    labels: tuple[str, ...]
    values: np.ndarray
    codes: np.ndarray
    scale: np.ndarray
    new: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the grouping."""
        return self.term.name

    @property
    def dense(self) -> np.ndarray:
        """Design times indicators of the fitted groups (obs, group * term)."""
        rows, terms = self.values.shape
        table = np.zeros((rows, len(self.labels) + 1, terms))
        known = np.minimum(self.codes, len(self.labels))
        table[np.arange(rows), known] = self.values
        return np.ascontiguousarray(table[:, :-1]).reshape(rows, len(self.labels) * terms)

    @property
    def present(self) -> GroupColumns:
        """The same rows, whose groups alone have labels."""
        found, codes = np.unique(self.codes, return_inverse=True)
        return replace(self, labels=tuple(self.labels[j] for j in found), codes=codes)

    def pick(self, which: slice | np.ndarray) -> GroupColumns:
        """Columns of the rows at some positions."""
        return replace(self, values=self.values[which], codes=self.codes[which])


def without_groups(formula: str) -> str:
    """Formula without its group terms; ``"~ 1"`` if nothing else is in it."""
    return _split(formula)[0]


def group_terms(formula: str) -> tuple[GroupTerm, ...]:
    """Group terms of a formula, one for each grouping.

    Raises
    ------
    SpecError
        For a group term that cannot be read, and for effects that are there twice.
    """
    return _split(formula)[1]


def parts(formula: str) -> Iterable[str]:
    """Formula without group terms, then the designs of these and the columns of their groups."""
    fixed, terms = _split(formula)
    yield fixed
    for term in terms:
        yield term.design
        yield "~ " + " + ".join(f"`{c}`" for c in term.columns)


def designs(formula: str) -> Iterable[str]:
    """Formula without group terms, then the designs of these."""
    yield without_groups(formula)
    yield from (term.design for term in group_terms(formula))


def group_columns(formulas: Iterable[str]) -> set[str]:
    """Columns that tell groups apart in formulas."""
    return {c for formula in formulas for t in group_terms(formula) for c in t.columns}


def _split(formula: str) -> tuple[str, tuple[GroupTerm, ...]]:
    """Formula without group terms, and these."""
    # What is no text is refused where formulas are parsed.
    return _cut(formula) if isinstance(formula, str) and "|" in formula else (formula, ())


@lru_cache(maxsize=1024)
def _cut(formula: str) -> tuple[str, tuple[GroupTerm, ...]]:
    bare = _bare(formula)
    found, kept, end, right = [], [], 0, bare.rfind("~")
    for start, stop in _brackets(formula):
        if not 0 <= right < start:
            continue
        inner = formula[start + 1 : stop - 1]
        if "|" not in _bare(inner) or not _is_summand(formula, start, stop):
            continue
        found.append(inner)
        kept.append(formula[end:start])
        end = stop
    if not found:
        return formula, ()
    return _joined([*kept, formula[end:]]), _merged([t for inner in found for t in _read(inner)])


def _bare(text: str) -> str:
    """Text with underscores in place of quoted names and strings."""
    return re.sub(r"`[^`]*`|'[^']*'|\"[^\"]*\"", lambda m: "_" * len(m.group()), text)


def _brackets(formula: str) -> Iterable[tuple[int, int]]:
    """Starts and ends of the outermost brackets."""
    depth, start = 0, 0
    for at, character in enumerate(_bare(formula)):
        if character in "([{":
            start = at if depth == 0 else start
            depth += 1
        elif character in ")]}":
            depth -= 1
            if depth == 0:
                yield start, at + 1


def _is_summand(formula: str, start: int, stop: int) -> bool:
    """Whether what stands between two positions is a term that is added."""
    before, after = formula[:start].rstrip(), formula[stop:].lstrip()
    left, right = before == "" or before[-1] in "+~", after == "" or after[0] in "+-"
    return formula[start] == "(" and left and right


def _joined(kept: list[str]) -> str:
    """The texts around group terms as one formula."""
    head, tilde, _ = kept[0].rpartition("~")
    summands = [kept[0][len(head) + len(tilde) :], *kept[1:]]
    # A sign before or after a group term belonged to it.
    rest = [s.strip() for s in summands]
    rest = [s[:-1].rstrip() if s.endswith("+") else s for s in rest]
    rest = [s[1:].lstrip() if s.startswith("+") else s for s in rest]
    text = ""
    for summand in (s for s in rest if s):
        text += summand if not text else f" {'' if summand[0] == '-' else '+ '}{summand}"
    if text.startswith("-"):
        text = f"1 {text}"
    return f"{head}{tilde} {text or '1'}".strip()


def _read(inner: str) -> list[GroupTerm]:
    """Group terms of the text between two brackets."""
    bare, shown = _bare(inner), f"({inner.strip()})"
    at = bare.index("|")
    double = bare[at : at + 2] == "||"
    design, groups = inner[:at].strip(), inner[at + (2 if double else 1) :].strip()
    if not design or not groups or "|" in bare[at + (2 if double else 1) :]:
        raise SpecError(
            f"Cannot read the group term {shown}: write the effects, a bar and the group, as in "
            "(1 | g) or (1 + x | g)."
        )
    nested = [[_column(c, shown) for c in level.split(":")] for level in groups.split("/")]
    terms = []
    for depth in range(len(nested)):
        columns = tuple(dict.fromkeys(c for level in nested[: depth + 1] for c in level))
        terms.append(GroupTerm(columns, f"~ {design}", not double))
    return terms


def _column(text: str, shown: str) -> str:
    """Name of a column in the group of a group term."""
    name = text.strip()
    if not _COLUMN.fullmatch(name):
        raise SpecError(
            f"The group of {shown} must be a column, several as in a:b, or a/b for b within a; got "
            f"{name!r}. Make other groups a column of the table."
        )
    return name.strip("`")


def _merged(terms: list[GroupTerm]) -> tuple[GroupTerm, ...]:
    """Group terms with those of one grouping made one: their effects are independent."""
    merged: dict[frozenset[str], GroupTerm] = {}
    for term in terms:
        key = frozenset(term.columns)
        if key not in merged:
            merged[key] = term
            continue
        first = merged[key]
        correlated = [t for t in (first, term) if t.correlated and _has_several(t.design)]
        if correlated or _has_constant(first.design) == _has_constant(term.design):
            raise SpecError(
                f"Two group terms have the groups {first.name!r}: write one, as in "
                f"(1 + x | {first.name}), or (x || {first.name}) for independent effects."
            )
        constant = [t for t in (first, term) if _has_constant(t.design)]
        others = [t for t in (first, term) if t not in constant]
        design = f"{constant[0].design} + {_without_constant(others[0].design)}"
        merged[key] = GroupTerm(first.columns, design, correlated=False)
    return tuple(merged.values())


def _has_constant(design: str) -> bool:
    return re.search(r"(~|\+)\s*0\b|-\s*1\b", design) is None


def _without_constant(design: str) -> str:
    """Summands of a design without the 0 that removes the constant."""
    text = re.sub(r"^~\s*0\s*\+\s*", "", design)
    return re.sub(r"\+\s*0\b|-\s*1\b|^~\s*", "", text).strip()


def _has_several(design: str) -> bool:
    """Whether a design has more than one summand, or a constant beside its column."""
    summands = [s for s in design[1:].split("+") if s.strip() not in ("0", "")]
    return len(summands) > 1 or (_has_constant(design) and summands[0].strip() != "1")

"""Entries of reported variables by name: ``sigma[1]``, ``mu_coef[x]``, ``mu_coef[1, x]``.

What stands in brackets is an expert's label, a term, or both; without brackets it is every entry.
In a model of several kinds of experts, whose variables are ``line_sigma`` and ``curve_sigma``,
``sigma`` means both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.gates.structure import GateStructure, Head
from bayes_moe.model.blocks import Block, Component


@dataclass(frozen=True)
class Entry:
    """Some entries of a reported variable.

    Attributes
    ----------
    variable : str
        The variable: coefficients, or a constant of each expert.
    of : Component or Head
        What it belongs to.
    expert : int or None
        Position along its first dimension; None for all.
    term : str or None
        Label along its dimension of terms; None for all.
    positions : tuple of int
        Positions among all experts along its first dimension; empty for branches of a gate.
    """

    variable: str
    of: Component | Head
    expert: int | None = None
    term: str | None = None
    positions: tuple[int, ...] = ()

    @property
    def is_gate(self) -> bool:
        """Whether it is the gate's."""
        return isinstance(self.of, Head)

    @property
    def component(self) -> Component:
        """Family parameter that it belongs to, unless it is the gate's."""
        assert isinstance(self.of, Component)
        return self.of

    @property
    def is_constant(self) -> bool:
        """Whether it is of a parameter that is constant for each expert."""
        return isinstance(self.of, Component) and self.of.formula is None

    @property
    def whole(self) -> bool:
        """Whether it is the whole variable."""
        return self.expert is None and self.term is None

    def covers(self, other: Entry) -> bool:
        """Whether all of another's entries are among these."""
        return self.variable == other.variable and (
            self.expert in (None, other.expert) and self.term in (None, other.term)
        )

    def meets(self, other: Entry) -> bool:
        """Whether it has entries of another's, as far as names tell."""
        pairs = ((self.expert, other.expert), (self.term, other.term))
        return self.variable == other.variable and all(a == b or None in (a, b) for a, b in pairs)


@dataclass(frozen=True)
class Variables:
    """The variables of a model that names may refer to, and the labels of the experts."""

    gate: GateStructure
    blocks: tuple[Block, ...]
    labels: Sequence[Any]

    @property
    def _places(self) -> dict[str, tuple[Entry, list[str]]]:
        """By variable, all of its entries, and the labels along its first dimension."""
        places: dict[str, tuple[Entry, list[str]]] = {}
        for h in self.gate.heads:
            name, every = h.site.coef, tuple(range(len(self.labels)))
            of_outputs = self.labels if h.labels is None else h.labels
            entry = Entry(name, h, positions=every if h.labels is None else ())
            places[name] = entry, [str(label) for label in of_outputs]
        for block in self.blocks:
            for c in block.components:
                labels = [str(self.labels[k]) for k in block.positions]
                places[c.variable] = Entry(c.variable, c, positions=block.positions), labels
        return places

    def entries(self, argument: str, name: Any) -> tuple[Entry, ...]:
        """Entries that a name refers to, one of each variable that it means.

        Raises
        ------
        SpecError
            If it means none, with the ``argument`` that it was given in.
        """
        if not isinstance(name, str):
            raise SpecError(f"`{argument}` needs names of variables; {name!r} is none.")
        base, bracket, rest = name.partition("[")
        if bracket and not rest.endswith("]"):
            raise SpecError(f"`{argument}`: {name!r} lacks its closing bracket.")
        places = self._places
        chosen = [v for v in places if v == base.strip()]
        chosen = chosen or [v for v in places if self._unprefixed(v) == base.strip()]
        if not chosen:
            raise SpecError(unknown(f"variable in `{argument}`", base, places))
        if not bracket:
            return tuple(places[v][0] for v in chosen)
        return tuple(_part(argument, name, *places[v], rest[:-1].strip()) for v in chosen)

    def _unprefixed(self, variable: str) -> str | None:
        """Name of an expert's variable without the name of its block."""
        for block in self.blocks:
            if variable in block.variables and block.name is not None:
                return variable.removeprefix(f"{block.name}_")
        return None


def _part(argument: str, name: str, every: Entry, labels: list[str], inside: str) -> Entry:
    """The entries of a variable that the text in brackets means."""
    first, comma, last = (part.strip() for part in inside.partition(","))
    expert = labels.index(first) if first in labels else None
    constant = isinstance(every.of, Component) and every.of.formula is None
    if not inside or (constant and (expert is None or comma)):
        raise SpecError(f"`{argument}`: {name!r}. {unknown('expert', inside, labels)}")
    if expert is None:
        return replace(every, term=inside)
    return replace(every, expert=expert, term=last or None)


def term_position(entry: Entry, terms: Sequence[str]) -> int | None:
    """Position of an entry's term among those of its predictor; None for all.

    Raises
    ------
    SpecError
        If there is no such term.
    """
    if entry.term is None:
        return None
    if entry.term not in terms:
        raise SpecError(unknown(f"term or expert of {entry.variable!r}", entry.term, terms))
    return list(terms).index(entry.term)

"""Entries of reported variables by name: ``sigma[1]``, ``mu_coef[x]``, ``mu_coef[1, x]``.

What stands in brackets is an expert's label, a term, or both; without brackets it is every entry.
Of a parameter with several numbers, the label of one of these may stand first:
``p_coef[hid, 1, x]``, ``p_coef[hid, x]``, ``gap[fair]``.
In a model of several kinds of experts, whose variables are ``line_sigma`` and ``curve_sigma``,
``sigma`` means both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

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
        Position along its dimension of experts; None for all.
    term : str or None
        Label along its dimension of terms; None for all.
    positions : tuple of int
        Positions among all experts along that dimension; empty for branches of a gate.
    number : int or None
        Position among the numbers of its parameter, such as one a class; None for all.
    """

    variable: str
    of: Component | Head
    expert: int | None = None
    term: str | None = None
    positions: tuple[int, ...] = ()
    number: int | None = None

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
        return self.number is None and self.expert is None and self.term is None

    def outputs(self, size: int, experts: int) -> list[int]:
        """Positions of its entries among ``size`` outputs (number, expert) of its variable."""
        every = np.arange(size).reshape(-1, experts)
        numbers = every if self.number is None else every[self.number : self.number + 1]
        chosen = numbers if self.expert is None else numbers[:, self.expert]
        return [int(k) for k in chosen.ravel()]

    @property
    def rank(self) -> int:
        """How specific it is: a term more than a number, and that more than an expert."""
        named = (self.expert, self.number, self.term)
        return sum(2**j for j, part in enumerate(named) if part is not None)

    @property
    def _place(self) -> tuple[Any, ...]:
        return self.number, self.expert, self.term

    def covers(self, other: Entry) -> bool:
        """Whether all of another's entries are among these."""
        pairs = zip(self._place, other._place, strict=True)
        return self.variable == other.variable and all(a in (None, b) for a, b in pairs)

    def meets(self, other: Entry) -> bool:
        """Whether it has entries of another's, as far as names tell."""
        pairs = zip(self._place, other._place, strict=True)
        return self.variable == other.variable and all(a == b or None in (a, b) for a, b in pairs)


@dataclass(frozen=True)
class Variables:
    """The variables of a model that names may refer to, and the labels of the experts."""

    gate: GateStructure
    blocks: tuple[Block, ...]
    labels: Sequence[Any]

    @property
    def _places(self) -> dict[str, _Place]:
        """By variable, all of its entries and the labels along its dimensions."""
        places: dict[str, _Place] = {}
        for h in self.gate.heads:
            name, every = h.site.coef, tuple(range(len(self.labels)))
            of_outputs = self.labels if h.labels is None else h.labels
            entry = Entry(name, h, positions=every if h.labels is None else ())
            places[name] = _Place(entry, [str(label) for label in of_outputs], [])
        for block in self.blocks:
            for c in block.components:
                labels = [str(self.labels[k]) for k in block.positions]
                own = [str(label) for label in c.parameter.labels]
                unknown_classes = block.family.takes_levels and block.kind.levels is None
                numbers = None if own and unknown_classes else own
                entry = Entry(c.variable, c, positions=block.positions)
                places[c.variable] = _Place(entry, labels, numbers)
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
            return tuple(places[v].every for v in chosen)
        return tuple(places[v].part(argument, name, rest[:-1].strip()) for v in chosen)

    def _unprefixed(self, variable: str) -> str | None:
        """Name of an expert's variable without the name of its block."""
        for block in self.blocks:
            if variable in block.variables and block.name is not None:
                return variable.removeprefix(f"{block.name}_")
        return None


@dataclass(frozen=True, eq=False)
class _Place:
    """All entries of a variable, with the labels of its experts and of its parameter's numbers.

    ``numbers`` are None where they are those of a table that is not known yet.
    """

    every: Entry
    experts: list[str]
    numbers: list[str] | None

    def part(self, argument: str, name: str, inside: str) -> Entry:
        """The entries that the text in brackets means."""
        known, variable = self.numbers or [], self.every.variable
        number, rest = _leading(inside, known)
        expert, rest = _leading(rest, self.experts)
        if number is not None and expert is None and known[number] in self.experts:
            raise SpecError(
                f"`{argument}`: {known[number]!r} in {name!r} is the label of a number and of an "
                f"expert: give both, as in {variable}[{known[number]}, {self.experts[0]}]."
            )
        constant = self.every.is_constant and self.numbers is not None
        if not inside or (constant and rest):
            what, valid = (
                ("number or expert", [*known, *self.experts]) if known else ("expert", self.experts)
            )
            raise SpecError(f"`{argument}`: {name!r}. {unknown(what, rest or inside, valid)}")
        return replace(self.every, number=number, expert=expert, term=rest or None)


def _leading(text: str, labels: Sequence[str]) -> tuple[int | None, str]:
    """Position of the label at the beginning of a list in a text, and what follows it."""
    first, _, rest = (part.strip() for part in text.partition(","))
    return (list(labels).index(first), rest) if first in labels else (None, text)


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

"""Experts: k x family x predictors -> components.

Experts with the same description are exchangeable; together they form a :class:`Block`, whose
parameters are arrays over its experts. A model of k equal experts is one block; different kinds
side by side are several, and only experts of the same block may trade labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_moe import families, names
from bayes_moe.arrays import NUMERIC
from bayes_moe.arrays import symbolic as symbolic_arrays
from bayes_moe.design import Matrix
from bayes_moe.errors import SpecError, unknown
from bayes_moe.families import Family, Parameter
from bayes_moe.formulas import check_right_hand_side, split_formula
from bayes_moe.predictors import Linear, Predictor
from bayes_moe.priors import Prior, default_constant
from bayes_moe.record import Record


class Expert(Record):
    """One expert: a formula for its location, a family, formulas for its other parameters.

    Parameters
    ----------
    formula : str
        ``"response ~ features"``: the predictor of the family's location ``mu``.
    family : str
        ``"normal"`` or ``"studentt"``.
    name : str, optional
        Label of the expert in results (an identifier). Experts of different kinds get the
        prefix ``name_`` on their variables.
    **formulas : str
        Formulas of other family parameters, e.g. ``sigma="~ x"`` (on the log link).

    Raises
    ------
    SpecError
        For an unknown family or parameter, or a formula that cannot be read.
    """

    __slots__ = ("family", "formula", "formulas", "name")

    formula: str
    family: str
    name: str | None
    formulas: tuple[tuple[str, str], ...]

    def __init__(
        self, formula: str, family: str = "normal", name: str | None = None, **formulas: str
    ) -> None:
        split_formula(formula)
        params = [p.name for p in families.by_name(family).PARAMS]
        for parameter, text in formulas.items():
            if parameter not in params[1:]:
                raise SpecError(unknown(f"parameter of family {family!r}", parameter, params[1:]))
            check_right_hand_side(f"The formula of {parameter!r}", text)
        if name is not None and not (isinstance(name, str) and name.isidentifier()):
            raise SpecError(f"The name of an expert must be an identifier; it is {name!r}.")
        self._set(
            formula=formula, family=family, name=name, formulas=tuple(sorted(formulas.items()))
        )

    def __repr__(self) -> str:
        extra = "".join(f", {k}={v!r}" for k, v in self.formulas)
        named = "" if self.name is None else f", name={self.name!r}"
        return f"Expert({self.formula!r}, family={self.family!r}{named}{extra})"

    @property
    def response(self) -> str:
        """Left-hand side of the formula."""
        return split_formula(self.formula)[0]

    @property
    def right_hand_side(self) -> str:
        """Right-hand side of the formula, as ``"~ ..."``."""
        return split_formula(self.formula)[1]

    @property
    def kind(self) -> Expert:
        """The expert without its name: what makes it exchangeable with others."""
        formula = f"{self.response} {self.right_hand_side}"
        return Expert(formula, self.family, None, **dict(self.formulas))

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description."""
        return {
            "formula": self.formula,
            "family": self.family,
            "name": self.name,
            **dict(self.formulas),
        }


@dataclass(frozen=True)
class Component:
    """One family parameter of a block: where its formula and its variables are found."""

    parameter: Parameter
    stem: str
    formula: str | None

    @property
    def predictor(self) -> Predictor:
        """The predictor of a parameter that has a formula."""
        return Linear()

    @property
    def variable(self) -> str:
        """Name of the reported variable."""
        return self.stem if self.formula is None else names.coef(self.stem)


@dataclass(frozen=True)
class Block:
    """Experts of one description, by position among all experts of the model.

    ``name`` is None if the model has only this block.
    """

    kind: Expert
    positions: tuple[int, ...]
    name: str | None

    @property
    def family(self) -> Family:
        """The family of every expert in the block."""
        return families.by_name(self.kind.family)

    @property
    def dim(self) -> str:
        """Dimension over the block's experts."""
        return names.EXPERT if self.name is None else f"{self.name}_{names.EXPERT}"

    @property
    def components(self) -> tuple[Component, ...]:
        """The family's parameters with their formulas."""
        formulas = dict(self.kind.formulas)
        location = self.family.PARAMS[0].name
        formulas[location] = self.kind.right_hand_side
        prefix = "" if self.name is None else f"{self.name}_"
        return tuple(
            Component(p, f"{prefix}{p.name}", formulas.get(p.name)) for p in self.family.PARAMS
        )

    @property
    def formulas(self) -> dict[str, str]:
        """Formulas by predictor stem."""
        return {c.stem: c.formula for c in self.components if c.formula is not None}

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the reported variables."""
        return tuple(c.variable for c in self.components)

    def default_priors(
        self, matrices: Mapping[str, Matrix], response: np.ndarray
    ) -> dict[str, Prior]:
        """Return the data-scaled default prior of each reported variable."""
        return {
            c.variable: (
                default_constant(c.parameter.role, response)
                if c.formula is None
                else c.predictor.default_prior(c.stem, c.parameter.role, matrices[c.stem], response)
            )
            for c in self.components
        }

    def build(
        self, matrices: Mapping[str, Matrix], response: np.ndarray, priors: Mapping[str, Prior]
    ) -> dict[str, Any]:
        """Create the random variables; return each parameter as (expert, obs) or (expert, 1)."""
        xp = symbolic_arrays()
        params = {}
        for c in self.components:
            prior = priors[c.variable]
            if c.formula is None:
                params[c.parameter.name] = prior.rv(c.stem, (self.dim,))[:, None]
            else:
                eta = c.predictor.build(
                    c.stem, c.parameter.role, matrices[c.stem], response, prior, self.dim
                )
                params[c.parameter.name] = c.parameter.link.inverse(eta, xp)
        return params

    def evaluate(
        self, draws: Mapping[str, np.ndarray], matrices: Mapping[str, Matrix]
    ) -> dict[str, np.ndarray]:
        """Return each parameter (sample, expert, obs), or (sample, expert, 1) if constant."""
        params = {}
        for c in self.components:
            if c.formula is None:
                params[c.parameter.name] = draws[c.stem][..., None]
            else:
                eta = c.predictor.evaluate(c.stem, draws, matrices[c.stem])
                params[c.parameter.name] = c.parameter.link.inverse(eta, NUMERIC)
        return params


def blocks(experts: tuple[Expert, ...]) -> tuple[Block, ...]:
    """Group experts of the same kind, in order of first appearance."""
    positions: dict[Expert, list[int]] = {}
    for k, expert in enumerate(experts):
        positions.setdefault(expert.kind, []).append(k)
    if len(positions) == 1:
        return (Block(experts[0].kind, tuple(range(len(experts))), None),)
    return tuple(
        Block(kind, tuple(where), experts[where[0]].name or f"block{j}")
        for j, (kind, where) in enumerate(positions.items())
    )

"""Experts: k x family x predictors -> components.

Experts with the same description are exchangeable; together they form a :class:`Block`, whose
parameters are arrays over its experts. A model of k equal experts is one block; different kinds
side by side are several, and only experts of the same block may trade labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from bayes_moe import families, predictors
from bayes_moe.core import names
from bayes_moe.core.arrays import NUMERIC
from bayes_moe.core.arrays import symbolic as symbolic_arrays
from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.core.records import Record
from bayes_moe.data.design import Matrix, Rows
from bayes_moe.data.formulas import check_right_hand_side, split_formula
from bayes_moe.data.observation import Known, checked
from bayes_moe.families import Family, Parameter
from bayes_moe.predictors import Linear, Place, Predictor
from bayes_moe.priors.prior import Prior, default_constant


class Expert(Record):
    """One expert: a formula for its location, a family, formulas for its other parameters.

    Parameters
    ----------
    formula : str
        ``"response ~ features"``: the predictor of the family's location, ``mu`` or ``p``, on its
        link scale.
    family : str
        ``"normal"``, ``"studentt"``, ``"poisson"``, ``"bernoulli"`` or ``"binomial"``.
    name : str, optional
        Label of the expert in results (an identifier). Experts of different kinds get the
        prefix ``name_`` on their variables.
    predictor : Predictor, str or mapping, optional
        What makes predictors of features: ``"linear"`` (the default), ``"spline"``, ``"fourier"``,
        ``"hsgp"``, ``"mlp"``, ``"softtree"``, ``"bart"``, a linear one under a shrinkage prior
        (``"horseshoe"``, ``"r2d2"``, ``"normalgamma"``), or one with settings, such as
        ``bm.predictors.HSGP(m=20)``: that of the location, or of several parameters by name,
        ``{"mu": "hsgp", "sigma": "spline"}``. Every expert has one of its own.
    **own : str or int
        Formulas of other family parameters, e.g. ``sigma="~ x"`` (on the log link), and what the
        family must know of a row: ``trials="n"``, a column or an expression such as ``"I(a + b)"``,
        or ``trials=4`` (binomial).

    Raises
    ------
    SpecError
        For an unknown family, parameter or predictor, a formula that cannot be read, or a binomial
        family without trials.
    """

    __slots__ = ("family", "formula", "formulas", "known", "name", "predictors")

    formula: str
    family: str
    name: str | None
    formulas: tuple[tuple[str, str], ...]
    known: tuple[tuple[str, str | int], ...]
    predictors: tuple[tuple[str, Predictor], ...]

    def __init__(
        self,
        formula: str,
        family: str = "normal",
        name: str | None = None,
        predictor: Any = None,
        **own: str | int,
    ) -> None:
        split_formula(formula)
        described = families.by_name(family)
        free = [p.name for p in described.PARAMS[1:]]
        known = {k: checked(k, v) for k, v in own.items() if k in described.KNOWN}
        formulas: dict[str, Any] = {k: v for k, v in own.items() if k not in known}
        for parameter, text in formulas.items():
            if parameter not in free:
                valid = [*free, *described.KNOWN]
                raise SpecError(unknown(f"parameter of family {family!r}", parameter, valid))
            check_right_hand_side(f"The formula of {parameter!r}", text)
        for needed in described.KNOWN:
            if needed not in known:
                raise SpecError(
                    f"The family {family!r} needs the {needed} of each row: give {needed}='n', "
                    f"where n is a column, or {needed}=4 if all rows have 4."
                )
        if name is not None and not (isinstance(name, str) and name.isidentifier()):
            raise SpecError(f"The name of an expert must be an identifier; it is {name!r}.")
        self._set(
            formula=formula,
            family=family,
            name=name,
            formulas=tuple(sorted(formulas.items())),
            known=tuple(sorted(known.items())),
            predictors=_predictors(predictor, described, formulas),
        )

    def __repr__(self) -> str:
        extra = "".join(f", {k}={v!r}" for k, v in (*self.formulas, *self.known))
        if self.predictors:
            extra = f", predictor={dict(self.predictors)!r}{extra}"
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
        own: dict[str, str | int] = dict((*self.formulas, *self.known))
        return Expert(formula, self.family, None, dict(self.predictors), **own)

    @property
    def linear(self) -> Expert:
        """The expert with linear predictors of the same features."""
        own: dict[str, str | int] = dict((*self.formulas, *self.known))
        return Expert(self.formula, self.family, self.name, None, **own)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description."""
        found: dict[str, Any] = {
            "formula": self.formula,
            "family": self.family,
            "name": self.name,
            **dict((*self.formulas, *self.known)),
        }
        if self.predictors:
            found["predictor"] = {name: p.to_dict() for name, p in self.predictors}
        return found


def _predictors(
    given: Any, family: Family, formulas: Mapping[str, str]
) -> tuple[tuple[str, Predictor], ...]:
    """Predictors other than linear ones, by parameter."""
    location = family.PARAMS[0].name
    if not isinstance(given, Mapping) or "kind" in given:
        given = {} if given is None else {location: given}
    valid = [location, *formulas]
    for name in given:
        if name not in valid and name in [p.name for p in family.PARAMS]:
            raise SpecError(
                f"The parameter {name!r} has a predictor but no formula: give {name}='~ x', with "
                "its features."
            )
        if name not in valid:
            raise SpecError(unknown("parameter with a formula", name, valid))
    found = ((name, predictors.made(p)) for name, p in sorted(given.items()))
    return tuple((name, p) for name, p in found if p != Linear())


@dataclass(frozen=True)
class Component:
    """One family parameter of a block: its formula, its predictor, and where that stands."""

    parameter: Parameter
    formula: str | None
    predictor: Predictor
    place: Place

    @property
    def stem(self) -> str:
        """What the names of its variables begin with."""
        return self.place.stem

    @property
    def variable(self) -> str:
        """Name of the reported variable that every parameter has: a constant, or coefficients."""
        return self.stem if self.formula is None else self.place.coef

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """Dimensions of all its reported variables."""
        if self.formula is None:
            return {self.stem: (self.place.dim,)}
        return self.predictor.dims(self.place)

    @property
    def internal_dims(self) -> dict[str, tuple[str, ...]]:
        """Dimensions of the sampler's variables that are not reported."""
        return {} if self.formula is None else self.predictor.internal_dims(self.place)

    @property
    def positive(self) -> frozenset[str]:
        """Names of reported variables that are positive."""
        if self.formula is None:
            return frozenset({self.stem})
        return self.predictor.positive(self.place)

    def shapes(self, matrices: Mapping[str, Matrix]) -> dict[str, tuple[int, ...]]:
        """Shapes of the reported variables."""
        if self.formula is None:
            return {self.stem: (self.place.rows,)}
        return self.predictor.shapes(self.place, matrices[self.stem])


@dataclass(frozen=True)
class Block:
    """Experts of one description, by position among all experts of the model.

    ``name`` is None if the model has only this block. ``over`` is the dimension over its experts,
    if it is another than that of a block of its name.
    """

    kind: Expert
    positions: tuple[int, ...]
    name: str | None
    over: str | None = None

    @property
    def family(self) -> Family:
        """The family of every expert in the block."""
        return families.by_name(self.kind.family)

    @property
    def dim(self) -> str:
        """Dimension over the block's experts."""
        own = names.EXPERT if self.name is None else f"{self.name}_{names.EXPERT}"
        return self.over or own

    @property
    def components(self) -> tuple[Component, ...]:
        """The family's parameters with their formulas."""
        formulas = dict(self.kind.formulas)
        location = self.family.PARAMS[0].name
        formulas[location] = self.kind.right_hand_side
        chosen = dict(self.kind.predictors)
        return tuple(
            Component(
                p,
                formulas.get(p.name),
                chosen.get(p.name, Linear()),
                Place(self._stem(p.name), p.role, self.dim, len(self.positions), each=True),
            )
            for p in self.family.PARAMS
        )

    @property
    def formulas(self) -> dict[str, str]:
        """Formulas by predictor stem."""
        return {c.stem: c.formula for c in self.components if c.formula is not None}

    @property
    def knowns(self) -> tuple[Known, ...]:
        """What the family knows of each row."""
        return tuple(Known(name, self._stem(name), given) for name, given in self.kind.known)

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the reported variables."""
        return tuple(dict.fromkeys(name for c in self.components for name in c.dims))

    def default_priors(
        self, matrices: Mapping[str, Matrix], response: np.ndarray
    ) -> dict[str, Prior]:
        """Return the data-scaled default prior of each reported variable."""
        found = {}
        for c in self.components:
            if c.formula is None:
                found[c.variable] = default_constant(c.parameter.role, response)
            else:
                given = (c.place, matrices[c.stem], response)
                if c.variable in c.dims:
                    found[c.variable] = c.predictor.default_prior(*given)
                found |= c.predictor.own_priors(*given)
        return found

    def build(
        self, matrices: Mapping[str, Matrix], response: np.ndarray, priors: Mapping[str, Prior]
    ) -> dict[str, Any]:
        """Create the random variables; return each parameter as (expert, obs) or (expert, 1).

        What is known of the rows is (1, obs) or (1, 1).
        """
        xp = symbolic_arrays()
        params = {k.name: k.data(matrices) for k in self.knowns}
        for c in self.components:
            if c.formula is None:
                params[c.parameter.name] = priors[c.variable].rv(c.stem, (self.dim,))[:, None]
            else:
                prior: Any = priors.get(c.variable)  # none without coefficients
                eta = c.predictor.build(c.place, matrices[c.stem], response, prior, priors)
                params[c.parameter.name] = c.parameter.link.inverse(eta, xp)
        return params

    def evaluate(
        self, draws: Mapping[str, np.ndarray], matrices: Mapping[str, Matrix]
    ) -> dict[str, np.ndarray]:
        """Return each parameter (sample, expert, obs), or (sample, expert, 1) if constant.

        What is known of the rows is (obs,) or (1,).
        """
        params: dict[str, np.ndarray] = self.known(matrices)
        for c in self.components:
            if c.formula is None:
                params[c.parameter.name] = draws[c.stem][..., None]
            else:
                eta = c.predictor.evaluate(c.place, draws, matrices[c.stem])
                params[c.parameter.name] = c.parameter.link.inverse(eta, NUMERIC)
        return params

    def known(
        self, matrices: Mapping[str, Matrix], where: slice | np.ndarray = slice(None)
    ) -> dict[str, np.ndarray]:
        """Return what is known of some rows, each (obs,), or (1,) if it is the same for all."""
        return {k.name: k.values(matrices, where) for k in self.knowns}

    def check_known(self, rows: Rows) -> None:
        """Raise :class:`DataError` if what is known of rows cannot be."""
        for known in self.knowns:
            known.check(rows)

    def _stem(self, name: str) -> str:
        return name if self.name is None else f"{self.name}_{name}"


@lru_cache(maxsize=256)
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

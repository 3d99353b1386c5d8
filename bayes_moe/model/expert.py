"""Expert: a formula, a family, and predictors of its parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bayes_moe import families, predictors
from bayes_moe.core import registry
from bayes_moe.core.checks import check_identifier
from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.core.records import Record
from bayes_moe.data.class_labels import Levels
from bayes_moe.data.formulas import check_right_hand_side, offset_columns, split_formula
from bayes_moe.data.row_counts import REAL, check_row_count
from bayes_moe.families import Family, quoted
from bayes_moe.model.class_levels import checked_levels
from bayes_moe.predictors import Linear, Predictor

SHARED = ("shared", "common", "equal", "same", "tied", "pooled", "fixed", "constant", "free")
"""Words by which other packages say how a parameter varies over experts."""


class Expert(Record):
    """One expert: a formula for its location, a family, formulas for its other parameters.

    Parameters
    ----------
    formula : str
        ``"response ~ features"``: the predictor of the family's location, ``mu`` or ``p``, on its
        link scale. ``"cbind(y1, y2) ~ features"`` has several responses, and predicts each mean
        that has no formula of its own, such as ``mu_y2="~ z"``. ``+ (1 | g)`` and ``+ (x | g)`` are
        random effects of groups.
    family : str or Family
        Response distribution: a name such as ``"normal"`` or ``"categorical"``, or a family with
        settings, such as ``bm.families.Bernoulli(link="probit")``. :doc:`/families` lists all.
    name : str, optional
        Label of the expert in results (an identifier). Experts of different kinds get the
        prefix ``name_`` on their variables.
    predictor : Predictor, str or mapping, optional
        What makes predictors of features: ``"linear"`` (the default), ``"spline"``, ``"fourier"``,
        ``"hsgp"``, ``"mlp"``, ``"softtree"``, ``"bart"``, a linear one under a shrinkage prior
        (``"horseshoe"``, ``"r2d2"``, ``"normalgamma"``), or one with settings, such as
        ``bm.predictors.HSGP(m=20)``: that of the location, or of several parameters by name,
        ``{"mu": "hsgp", "sigma": "spline"}``. Every expert has one of its own.
    levels : sequence, optional
        Labels of the classes of a response of classes, in their order; of two classes the second is
        the one with probability ``p``. By default those of the table that the model is fitted to:
        the categories of the column, else its values, sorted.
    exposure : str, optional
        Column or expression, positive in every row, that the location is proportional to, of a
        family whose location is on a log scale: ``exposure="e"`` is the same as
        ``+ offset(log(e))`` in the formula, and coefficients are of the rate per unit.
    **parameters : str or number
        Formulas of other family parameters, e.g. ``sigma="~ x"`` (on the log link), and what the
        family must know of a row: ``trials="n"``, a column or an expression such as ``"I(a + b)"``,
        or ``trials=4`` (binomial); ``log_density="column"`` (given).

    Raises
    ------
    SpecError
        For an unknown family, parameter or predictor, a formula that cannot be read, a binomial
        family without trials, or an exposure of a location that is not on a log scale.
    """

    __slots__ = (
        "exposure",
        "family",
        "formula",
        "formulas",
        "known",
        "levels",
        "name",
        "predictors",
    )

    formula: str
    family: Family
    name: str | None
    formulas: tuple[tuple[str, str], ...]
    known: tuple[tuple[str, str | float], ...]
    predictors: tuple[tuple[str, Predictor], ...]
    levels: Levels | None
    exposure: str | None

    def __init__(
        self,
        formula: str,
        family: str | Family | Mapping[str, Any] = "normal",
        name: str | None = None,
        predictor: Any = None,
        levels: Iterable[Any] | None = None,
        exposure: str | None = None,
        **parameters: str | float,
    ) -> None:
        described = families.made(family)
        own = described.settings.get(families.LEVELS)
        labels = checked_levels(described, own if levels is None else levels)
        described = described if labels is None else families.with_levels(described, labels)
        if not described.parameters:
            formula = _without_features(formula, described)
        described = families.with_responses(described, split_formula(formula)[0])
        counts = described.known_counts
        known = {k: check_row_count(k, v) for k, v in parameters.items() if k in counts}
        formulas: dict[str, Any] = {k: v for k, v in parameters.items() if k not in known}
        _check_parameters(described, formulas, known)
        if name is not None:
            check_identifier("The name of an expert", name)
        if exposure is not None:
            _check_exposure(exposure, described)
        self._set(
            formula=formula,
            family=described,
            name=name,
            formulas=tuple(sorted(formulas.items())),
            known=tuple(sorted(known.items())),
            predictors=_predictors(predictor, described, formulas),
            levels=labels,
            exposure=exposure,
        )

    def __repr__(self) -> str:
        named = "" if self.name is None else f", name={self.name!r}"
        extra = f", {self.settings_shown}" if self.settings_shown else ""
        return f"Expert({self.formula!r}, family={quoted(self.family)}{named}{extra})"

    @property
    def settings_shown(self) -> str:
        """Predictors and other formulas as arguments, such as ``"sigma='~ x'"``."""
        shown = [f"predictor={dict(self.predictors)!r}"] if self.predictors else []
        shown += [f"levels={self.levels!r}"] if self._states_levels else []
        shown += [f"exposure={self.exposure!r}"] if self.exposure is not None else []
        return ", ".join([*shown, *(f"{k}={v!r}" for k, v in (*self.formulas, *self.known))])

    @property
    def _states_levels(self) -> bool:
        """Whether there are labels of classes that the family itself does not have."""
        return self.levels is not None and families.LEVELS not in self.family.settings

    @property
    def response(self) -> str:
        """Left-hand side of the formula."""
        return split_formula(self.formula)[0]

    @property
    def right_hand_side(self) -> str:
        """Right-hand side of the formula, as ``"~ ..."``, with the exposure as an offset."""
        right = split_formula(self.formula)[1]
        return right if self.exposure is None else f"{right} + offset(log({self.exposure}))"

    @property
    def kind(self) -> Expert:
        """The expert without its name: what makes it exchangeable with others."""
        formula = f"{self.response} {self.right_hand_side}"
        parameters: dict[str, Any] = dict((*self.formulas, *self.known))
        predictor = dict(self.predictors)
        return Expert(formula, self.family, None, predictor, self.levels, **parameters)

    @property
    def linear(self) -> Expert:
        """The expert with linear predictors of the same features."""
        parameters: dict[str, Any] = dict((*self.formulas, *self.known))
        parameters["exposure"] = self.exposure
        return Expert(self.formula, self.family, self.name, None, self.levels, **parameters)

    def with_levels(self, levels: Levels) -> Expert:
        """The expert for a response whose classes have these labels."""
        return Expert(**self.to_dict() | {"levels": levels})

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description."""
        record: dict[str, Any] = {
            "formula": self.formula,
            "family": self.family.to_dict(),
            "name": self.name,
            **dict((*self.formulas, *self.known)),
        }
        if self.predictors:
            record["predictor"] = {name: p.to_dict() for name, p in self.predictors}
        if self._states_levels:
            record["levels"] = list(self.levels or ())
        if self.exposure is not None:
            record["exposure"] = self.exposure
        return record


def free_parameters(family: Family) -> list[str]:
    """Names of the parameters that may have a formula of their own."""
    names = [p.name for p in family.parameters]
    return names if len(family.locations) > 1 else names[1:]


def families_with(parameter: str) -> list[str]:
    """Names of the families that take a formula or a count of this name."""
    every = {name: families.by_name(name) for name in registry.TABLE["family"]}
    return [
        name
        for name, family in every.items()
        if parameter in family.known_counts or parameter in free_parameters(family)
    ]


def _check_exposure(exposure: Any, family: Family) -> None:
    """Raise :class:`SpecError` for an exposure that is no term, or that a family cannot have."""
    reason = ""
    try:
        fits = isinstance(exposure, str) and offset_columns(f"~ 1 + offset(log({exposure}))") == [1]
    except SpecError as error:
        fits, reason = False, f" {error}"
    if not fits:
        raise SpecError(
            f"`exposure` must be a column or an expression, such as 'e' or 'e / 1000'; it is "
            f"{exposure!r}.{reason}"
        )
    located = family.parameters[0] if family.parameters else None
    if located is None or located.role != "rate":
        raise SpecError(
            f"`exposure` needs a family whose location is on a log scale, such as 'poisson' or "
            f"'gamma'; {quoted(family)} is not. What is added to its predictor is written as "
            "offset(...) in the formula."
        )


def _check_parameters(
    family: Family, formulas: Mapping[str, Any], known: Mapping[str, str | float]
) -> None:
    """Raise :class:`SpecError` for formulas of unknown parameters, and for missing counts."""
    free, counts = free_parameters(family), family.known_counts
    for parameter, text in formulas.items():
        if parameter not in free:
            having = families_with(parameter)
            raise SpecError(
                unknown(f"parameter of family {quoted(family)}", parameter, [*free, *counts])
                + (f" Families with it: {', '.join(map(repr, having))}." if having else "")
            )
        _check_formula(parameter, text)
    for needed in counts:
        if needed not in known:
            column = f"{needed}='n', where n is a column"
            given = column if needed in REAL else f"{column}, or {needed}=4 if all rows have 4"
            raise SpecError(
                f"The family {quoted(family)} needs the {needed} of each row: give {given}."
            )


def _check_formula(parameter: str, text: Any) -> None:
    """Raise :class:`SpecError` unless a parameter is given a right-hand side."""
    left_out = (
        f"Leave {parameter!r} out for one number for each expert, or give the features that it "
        f"depends on: {parameter}='~ x'."
    )
    if text in SHARED:
        raise SpecError(
            f"{parameter}={text!r} is no formula. For one {parameter!r} of all experts, give the "
            f"model shared=({parameter!r},). {left_out} (A column {text!r} is written '~ {text}'.)"
        )
    if not isinstance(text, str):
        raise SpecError(
            f"{parameter!r} of an expert is a formula; it is {text!r}. {left_out} The model "
            f"holds it at a value by fixed={{{parameter!r}: ...}}."
        )
    check_right_hand_side(f"The formula of {parameter!r}", text)


def _without_features(formula: Any, family: Family) -> Any:
    """Formula ``"y ~ 1"`` of a family without parameters, from ``"y"``, ``"y ~ 0"`` or itself."""
    if not isinstance(formula, str):
        return formula
    response, _, right = formula.partition("~")
    if right.strip() not in ("", "0", "1", "-1"):
        raise SpecError(
            f"The family {quoted(family)} has no parameters, so features have no use in its "
            f"formula: write '{response.strip()} ~ 1'; got {formula!r}. What decides which rows "
            "are this expert's is the gate."
        )
    return f"{response.strip()} ~ 1"


def _predictors(
    predictor: Any, family: Family, formulas: Mapping[str, str]
) -> tuple[tuple[str, Predictor], ...]:
    """Predictors other than linear ones, by parameter."""
    if not family.parameters:
        if predictor:
            raise SpecError(
                f"The family {quoted(family)} has no parameters, so it needs no predictor; got "
                f"predictor={predictor!r}."
            )
        return ()
    if not isinstance(predictor, Mapping) or "kind" in predictor:
        predictor = {} if predictor is None else dict.fromkeys(family.locations, predictor)
    valid = list(dict.fromkeys([*family.locations, *formulas]))
    for name in predictor:
        if name not in valid and name in [p.name for p in family.parameters]:
            raise SpecError(
                f"The parameter {name!r} has a predictor but no formula: give {name}='~ x', with "
                "its features."
            )
        if name not in valid:
            raise SpecError(unknown("parameter with a formula", name, valid))
    by_name = ((name, predictors.made(p)) for name, p in sorted(predictor.items()))
    return tuple((name, p) for name, p in by_name if p != Linear())

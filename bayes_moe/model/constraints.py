"""Parameters that experts share, parameters held at a value, and priors of single entries.

They are stated by names of entries (:mod:`bayes_moe.model.entries`). What they mean for the values
of a model on a design, is in :mod:`bayes_moe.model.free_values`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bayes_moe.core.errors import SpecError
from bayes_moe.gates import Gate
from bayes_moe.gates.structure import GateStructure
from bayes_moe.model.blocks import Block
from bayes_moe.model.entries import Entry, Variables
from bayes_moe.predictors import Linear
from bayes_moe.priors.coordinates import RANGES
from bayes_moe.priors.prior import Prior

WEIGHTS = "weights"
"""Name in ``fixed`` of the weights of a gate without features."""


@dataclass(frozen=True)
class Stated:
    """What a description states, by name: ``shared``, ``fixed``, and all priors."""

    shared: tuple[str, ...] = ()
    fixed: Mapping[str, Any] | None = None
    priors: Mapping[str, Prior] | None = None

    @property
    def own_priors(self) -> dict[str, Prior]:
        """Priors of single entries, whose names have brackets."""
        return {n: p for n, p in (self.priors or {}).items() if is_part(n)}


@dataclass(frozen=True, eq=False)
class Constraints:
    """What is shared, what is held, and which entries have a prior of their own.

    Attributes
    ----------
    shared : tuple of tuple of Entry
        Entries that are equal over experts; several variables are equal to each other.
    fixed : tuple of (Entry, number or nested tuple)
        Entries that are held, and their values.
    priors : tuple of (Entry, Prior)
        Entries with a prior of their own, the more specific after the others.
    """

    shared: tuple[tuple[Entry, ...], ...]
    fixed: tuple[tuple[Entry, Any], ...]
    priors: tuple[tuple[Entry, Prior], ...]

    def __bool__(self) -> bool:
        return bool(self.shared or self.fixed or self.priors)

    @cached_property
    def variables(self) -> frozenset[str]:
        """Names of the variables that they are about."""
        shared = (entry.variable for entries in self.shared for entry in entries)
        return frozenset((*shared, *(e.variable for e, _ in (*self.fixed, *self.priors))))

    @property
    def by_expert(self) -> bool:
        """Whether some tell experts apart, or are the gate's."""
        return any(e.is_gate or e.expert is not None for e, _ in (*self.fixed, *self.priors)) or (
            any(isinstance(value, tuple) for _, value in self.fixed)
        )

    def marks(self, n_experts: int) -> list[tuple[Any, ...]]:
        """What tells each expert from others: its own values and priors (expert,)."""
        marks: list[tuple[Any, ...]] = [()] * n_experts
        for entry, value in (*self.fixed, *self.priors):
            for j, k in enumerate(entry.positions):
                if entry.expert is None and isinstance(value, tuple):
                    marks[k] += ((entry.variable, entry.term, value[j]),)
                elif entry.expert == j:
                    marks[k] += ((entry.variable, entry.number, entry.term, value),)
        return marks

    @property
    def branches_differ(self) -> bool:
        """Whether coefficients of a gate's branches are held at values that differ."""
        return any(e.is_gate and not e.positions and _differ(value) for e, value in self.fixed)


NO_CONSTRAINTS = Constraints((), (), ())


def is_part(name: Any) -> bool:
    """Whether a name means a part of a variable."""
    return isinstance(name, str) and "[" in name


def constraints_of(
    stated: Stated, gate: Gate, gated: GateStructure, blocks: tuple[Block, ...], labels: list[Any]
) -> Constraints:
    """Constraints of a model whose gate and blocks are known.

    Raises
    ------
    SpecError
        For names of no entry, and for what cannot be shared or held.
    """
    if not (stated.shared or stated.fixed or stated.own_priors):
        return NO_CONSTRAINTS
    known = Variables(gated, blocks, labels)
    shared = tuple(known.entries("shared", name) for name in stated.shared)
    fixed = tuple(_fixed(stated.fixed or {}, known, gate))
    priors = [
        (entry, prior)
        for name, prior in stated.own_priors.items()
        for entry in known.entries("priors", name)
    ]
    priors.sort(key=lambda pair: pair[0].rank)
    _check_numbers(stated, [*(e for entries in shared for e in entries), *(e for e, _ in priors)])
    _check_shared(shared)
    _check_fixed(stated, fixed)
    _check_own_priors(stated, priors)
    _check_together(stated, known, shared, fixed)
    return Constraints(shared, fixed, tuple(priors))


def _fixed(stated: Mapping[str, Any], known: Variables, gate: Gate) -> Iterator[tuple[Entry, Any]]:
    """Held entries with their values."""
    for name, value in stated.items():
        if name == WEIGHTS:
            yield from _weights(value, known, gate)
        else:
            numbers = _numbers(name, value)
            yield from ((entry, numbers) for entry in known.entries("fixed", name))


def _numbers(name: str, value: Any) -> Any:
    """A finite number, or a nested tuple of such."""
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise SpecError(f"`fixed`: the value of {name!r} is no number: {value!r}.") from error
    if array.ndim > 2 or not array.size or not np.isfinite(array).all():
        raise SpecError(f"`fixed`: the value of {name!r} must be finite; it is {value!r}.")
    return _nested(array.tolist())


def _nested(value: Any) -> Any:
    return tuple(_nested(v) for v in value) if isinstance(value, list) else value


def _weights(value: Any, known: Variables, gate: Gate) -> Iterator[tuple[Entry, Any]]:
    """Coefficients of a gate without features that has some weights."""
    weights = np.asarray(_numbers(WEIGHTS, value))
    experts = len(known.labels)
    if weights.shape != (experts,) or (weights <= 0).any() or abs(weights.sum() - 1) > 1e-6:
        raise SpecError(
            f"`fixed`: the weights must be {experts} positive numbers that sum to 1, one of each "
            f"expert; they are {value!r}."
        )
    constant = all((f or "").replace(" ", "") in ("~1", "1") for f in _gate_formulas(known, gate))
    if not constant or known.gate.splits is None:
        raise SpecError(
            "`fixed`: weights of experts are numbers where the gate has no features, as with "
            f"gate='~ 1'; this model has {gate!r}."
        )
    logits = np.log(weights / weights.sum())[:, None]
    outputs = known.gate.splits.outputs_of(logits)[:, 0] / known.gate.gain
    for h in known.gate.heads:
        (entry,) = known.entries("fixed", h.site.coef)
        yield entry, tuple((v,) for v in outputs[h.outputs].tolist())


def _gate_formulas(known: Variables, gate: Gate) -> list[str | None]:
    return [gate.formulas[h.stem] for h in known.gate.heads]


def _differ(value: Any) -> bool:
    return isinstance(value, tuple) and any(v != value[0] for v in value)


# --- checks --------------------------------------------------------------------------------------


def _check_linear(argument: str, entry: Entry) -> None:
    """Raise :class:`SpecError` for coefficients of a predictor that is not linear."""
    if not entry.is_constant and type(entry.of.predictor) is not Linear:
        raise SpecError(
            f"`{argument}`: {entry.variable!r} has the predictor {entry.of.predictor!r}; only "
            "constants and coefficients of linear predictors can be named here."
        )


def _zero_sum(stated: Stated, entry: Entry) -> bool:
    """Whether the variable's coefficients sum to zero over the numbers of its parameter."""
    prior = (stated.priors or {}).get(entry.variable)
    return entry.component.zero_sum if prior is None else prior.kind.support == "zero-sum"


def _check_numbers(stated: Stated, entries: list[Entry]) -> None:
    """Raise :class:`SpecError` for single numbers of those that sum to zero."""
    for entry in entries:
        if entry.number is not None and _zero_sum(stated, entry):
            raise SpecError(
                f"Coefficients {entry.variable!r} sum to zero over the classes: those of one class "
                f"cannot be named alone. Give priors={{{entry.variable!r}: "
                "bm.Prior('Normal', sigma=2.5)}, under which each class has its own."
            )


def _check_shared(shared: tuple[tuple[Entry, ...], ...]) -> None:
    for entries in shared:
        for entry in entries:
            if entry.is_gate:
                raise SpecError(
                    f"`shared`: coefficients of a gate that all experts share have no effect: "
                    f"leave the feature out of the gate, or fixed={{{entry.variable!r}: 0}}."
                )
            if entry.expert is not None:
                raise SpecError(
                    f"`shared` is for all experts: name {entry.variable!r}, or one of its terms."
                )
            _check_linear("shared", entry)
        parameters = [e.component.parameter for e in entries]
        kinds = {(p.role, p.link) for p in parameters}
        if len(kinds) > 1:
            names = ", ".join(e.variable for e in entries)
            raise SpecError(f"`shared`: {names} have different roles or links: share each alone.")


def _check_fixed(stated: Stated, fixed: tuple[tuple[Entry, Any], ...]) -> None:
    for entry, value in fixed:
        _check_linear("fixed", entry)
        array, constant = np.asarray(value), entry.is_constant
        if entry.is_gate and entry.expert is not None:
            raise SpecError(
                f"`fixed`: only differences between experts count in {entry.variable!r}: give the "
                "coefficients of all experts, or of a term for all."
            )
        one = entry.expert is not None
        several = not entry.is_gate and bool(entry.component.parameter.labels)
        zero = several and _zero_sum(stated, entry)
        if zero and (entry.number is not None or array.ndim or value != 0):
            raise SpecError(
                f"`fixed`: coefficients {entry.variable!r} sum to zero over the classes, and can "
                f"only be held at 0, for all classes at once; the value is {value!r}. A prior such "
                f"as priors={{{entry.variable!r}: bm.Prior('Normal', sigma=2.5)}} frees them."
            )
        if several and array.ndim:
            raise SpecError(f"`fixed`: {entry.variable!r} takes one number; got {value!r}.")
        most = 0 if one and (constant or entry.term) else 1
        most = 2 if not (one or constant or entry.term) else most
        outputs = entry.of.site.outputs
        wrong = array.ndim > most or (array.ndim and not one and len(array) != outputs)
        if wrong or (most == 2 and array.ndim == 1):
            by = "" if one else f", or {outputs} numbers, one of each expert"
            by += " and term" if most == 2 else ""
            by = ", or one of each term" if one and most else by
            raise SpecError(f"`fixed`: {entry.variable!r} takes a number{by}; got {value!r}.")
        if constant:
            least, most_, what = RANGES[_support(entry)]
            if (array <= least).any() or (array >= most_).any():
                raise SpecError(f"`fixed`: {entry.variable!r} must be {what}; it is {value!r}.")


def _support(entry: Entry) -> str:
    """Support of a parameter that is constant for each expert."""
    return entry.component.supports.get(entry.variable, "real")


def _check_own_priors(stated: Stated, priors: list[tuple[Entry, Prior]]) -> None:
    for entry, prior in priors:
        if entry.is_gate:
            raise SpecError(
                f"`priors`: {entry.variable!r} has one prior for all experts; its arguments may "
                "have one number for each term."
            )
        _check_linear("priors", entry)
        if entry.component.parameter.labels and _zero_sum(stated, entry):
            raise SpecError(
                f"`priors`: {entry.variable!r}, which sums to zero over the classes, has one prior "
                "for all experts and classes; its arguments may have one number for each term."
            )
        support = _support(entry) if entry.is_constant else "real"
        if prior.kind.support != support:
            raise SpecError(
                f"The prior of a part of {entry.variable!r} must have {support} support; "
                f"{prior.distribution} has {prior.kind.support} support."
            )
        vector = any(isinstance(v, tuple) for v in prior.arguments.values())
        if vector and (entry.is_constant or entry.term is not None):
            raise SpecError(f"The prior of one entry of {entry.variable!r} has one number each.")


def _check_together(
    stated: Stated,
    known: Variables,
    shared: tuple[tuple[Entry, ...], ...],
    fixed: tuple[tuple[Entry, Any], ...],
) -> None:
    """Raise :class:`SpecError` for names that contradict each other."""
    for entry in (e for entries in shared for e in entries):
        for held, _ in fixed:
            if entry.meets(held):
                raise SpecError(f"{entry.variable!r} is in `shared` and in `fixed`: keep one.")
    names = [held for held, _ in fixed]
    for j, held in enumerate(names):
        if any(held.meets(other) for other in names[:j]):
            raise SpecError(f"`fixed` has two values of one entry of {held.variable!r}.")
    for name, prior in (stated.priors or {}).items():
        if prior.distribution == "Laplace" and (shared or fixed):
            raise SpecError(
                f"The prior of {name!r} has a kink: models with shared or fixed parameters take "
                "others, such as Normal or StudentT."
            )
        for entry in known.entries("priors", name) if is_part(name) else ():
            if any(held.covers(entry) for held in names):
                raise SpecError(f"{name!r} is fixed, and has no prior.")
            if entry.expert is not None and any(e.meets(entry) for es in shared for e in es):
                raise SpecError(f"{name!r} is shared by all experts, which have one prior.")
        if any(held.variable == name and held.whole for held in names):
            raise SpecError(f"{name!r} is fixed, and has no prior.")

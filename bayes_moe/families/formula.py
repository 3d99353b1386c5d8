"""The density of a response distribution: the formula for one row, on arrays and on tensors.

A family states the log density of a row once, over the functions of
:mod:`bayes_moe.families.functions`. The graph evaluates it on tensors, prediction on arrays; its
derivatives, for EM and for compiled kernels, are found by :mod:`bayes_moe.families.derivation`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from bayes_moe.core.arrays import NUMERIC, Arrays
from bayes_moe.core.samples import Sample
from bayes_moe.families import derivation, functions
from bayes_moe.families.description import Responses
from bayes_moe.families.links import IDENTITY, Link
from bayes_moe.priors.prior import Prior

Parameters = Mapping[str, Any]
"""Parameters and known counts of a family by name, as its formulas take them."""

NOTHING: Parameters = MappingProxyType({})

Pairs = tuple[tuple[int, int], ...]
"""Pairs of slots ``a <= b``."""

ALL, OBSERVED, WORKING, SCORES = "all", "observed", "working", "scores"
"""Which derivatives are asked for: all; scores and second derivatives; scores and what sweeps of EM
weight the rows by (expected information, second derivatives by slots of one parameter); scores.
"""


@dataclass(frozen=True)
class Parameter:
    """A parameter of a family: name, link and role. The first one is the location.

    ``role`` is a row of :data:`bayes_moe.priors.defaults.ROLES`, which says how priors are scaled
    to data and whether the parameter collapses. ``labels`` name the numbers that it consists of,
    such as one predictor a class, along a dimension ``dim``; a parameter without is one number.
    Of several responses, the parameter is in the units of that at position ``response``. ``prior``
    is its default prior as a constant, if that does not depend on the data.
    """

    name: str
    link: Link
    role: str
    labels: tuple[Any, ...] = ()
    dim: str = ""
    response: int = 0
    prior: Prior | None = None

    @property
    def size(self) -> int:
        """How many numbers it consists of."""
        return max(1, len(self.labels))

    def own[Response: (np.ndarray, Sample)](self, response: Response) -> Response:
        """Its response (obs,), of several (response, obs)."""
        return response[self.response] if response.ndim == 2 else response


@dataclass(frozen=True)
class Slot:
    """One predictor of a family: a parameter, or its component ``j``."""

    parameter: Parameter
    j: int = 0


NO_PARAMETER = Parameter("", IDENTITY, "location")
"""Stands for the parameter of a family that has none: its predictor is zero."""


@dataclass(frozen=True)
class RowData:
    """What a family's formula reads of the rows (obs,), each also (1,): see :meth:`Family.data`.

    ``more`` are further functions of the responses, ``Family.more_data`` of them.
    """

    t: Any
    u: Any
    base: Any
    more: tuple[Any, ...] = ()

    @property
    def values(self) -> tuple[Any, ...]:
        """All of them, in the order of a formula's arguments."""
        return self.t, self.u, self.base, *self.more

    def at(self, where: slice | np.ndarray) -> RowData:
        """The data of some rows."""
        parts = (np.asarray(x) for x in self.values)
        t, u, base, *more = (x[where] if x.ndim and x.shape[-1] > 1 else x for x in parts)
        return RowData(t, u, base, tuple(more))


@dataclass(frozen=True)
class Derivatives:
    """Derivatives of a log density by the predictors ``eta_a`` of its parameters.

    ``eta_a`` is parameter ``a`` on its link scale. Arrays broadcast against (..., expert, obs);
    those without dependence on the row may be (..., expert, 1).

    Attributes
    ----------
    score : tuple of array
        ``d log f / d eta_a``, in the order of the family's ``slots``.
    second : tuple of tuple of array
        ``d2 log f / d eta_a d eta_b``; symmetric, with one array for both orders. None where not
        asked for.
    expected_information : tuple of array
        Non-negative curvature for weighted least squares: an expectation of ``-second[a][a]``,
        over the response or over the latent scale of a scale mixture. Empty if not asked for.
    expected_pairs : mapping
        By slots ``(a, b)``, ``a <= b``, of each group of ``Family.coupled``: the curvature by both.
    """

    score: tuple[np.ndarray, ...]
    second: tuple[tuple[Any, ...], ...]
    expected_information: tuple[np.ndarray, ...]
    expected_pairs: Mapping[tuple[int, int], np.ndarray] = MappingProxyType({})


@dataclass(frozen=True)
class Formula(Responses, ABC):
    """The density of a family. All arrays broadcast against each other.

    ``params`` hold each parameter (..., expert, obs), as its link's ``inverse`` gives it, and each
    known count, such as the number of trials, (obs,) or (1,). A parameter with labels is
    (..., label, expert, obs).
    """

    @property
    @abstractmethod
    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters, the location first; none if all is fixed by settings."""

    @property
    def fixed(self) -> Parameters:
        """Arguments of the distribution that are settings, by name; ``params`` hold them too."""
        return NOTHING

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """Predictors of the formula: parameters in their order, and in each its components.

        A family without parameters has one, which is zero: its formula adds zero times it.
        """
        parameters = self.parameters or (NO_PARAMETER,)
        return tuple(Slot(p, j) for p in parameters for j in range(p.size))

    def parameter(self, name: str) -> Parameter:
        """Parameter of the family called ``name``."""
        return next(p for p in self.parameters if p.name == name)

    @cached_property
    def kernel_text(self) -> str:
        """Source of the formula for numbers: value and scores."""
        return derivation.kernel_source(self.row, len(self.slots), self.more_data)

    @cached_property
    def _derivatives(self) -> Callable[[Pairs], Callable[..., tuple[Any, ...]]]:
        """Function of the second derivatives' pairs -> function of arrays, made once."""
        row, count, more = self.row, len(self.slots), self.more_data
        return cache(lambda pairs: derivation.array_derivatives(row, count, pairs, more))

    @abstractmethod
    def row(self, m: Any) -> Callable[..., Any]:
        """The log density of a row over the functions of a namespace ``m``.

        ``(t, u, base, eta_1, ..., eta_P) -> log f``, with ``t``, ``u`` and ``base`` of
        :meth:`data` and the linear predictors of ``slots``. It has no branches. Further functions
        of the responses are before the predictors.
        """

    @abstractmethod
    def data(self, y: Any, known: Parameters, xp: Arrays) -> RowData:
        """What the formula reads of responses (obs,): two functions of them, and the log base.

        The log base is the summand of the log density without parameters, minus infinity outside
        the support; there the functions are those of any response in it.
        """

    def etas(self, params: Parameters, xp: Arrays) -> list[Any]:
        """Predictors of ``slots`` from parameters."""
        etas = []
        for p in self.parameters:
            eta = p.link(params[p.name], xp)
            etas += [eta[..., j, :, :] for j in range(p.size)] if p.labels else [eta]
        return etas or [0.0 * params[next(iter(self.fixed))]]

    def named(self, etas: Sequence[Any], known: Parameters, xp: Arrays) -> dict[str, Any]:
        """Parameters and known counts by name from predictors of ``slots``; see :meth:`etas`."""
        params, at = {**known, **self.fixed}, 0
        for p in self.parameters:
            value = xp.stack(etas[at : at + p.size], -3) if p.labels else etas[at]
            params[p.name] = p.link.inverse(value, xp)
            at += p.size
        return params

    def log_density(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        """Log density (..., expert, obs) of ``y`` (obs,), in arrays of NumPy or PyTensor."""
        return self.log_density_at(self.data(y, params, xp), self.etas(params, xp), xp)

    def log_density_at(self, data: RowData, etas: Sequence[Any], xp: Arrays) -> Any:
        """Log density (..., expert, obs) at predictors of ``slots``."""
        m = functions.numeric() if xp is NUMERIC else functions.symbolic()
        return self.row(m)(*data.values, *etas)

    def derivatives(self, y: Any, params: Parameters) -> Derivatives:
        """Derivatives (..., expert, obs) of :meth:`log_density` by the parameters' predictors."""
        return self.derivatives_at(self.data(y, params, NUMERIC), self.etas(params, NUMERIC))

    def derivatives_at(
        self, data: RowData, etas: Sequence[np.ndarray], asked: str = ALL
    ) -> Derivatives:
        """Derivatives at predictors of ``slots``; ``asked`` is :data:`ALL` or another of these."""
        count, ndim = len(etas), max(np.ndim(eta) for eta in etas)
        known: Sequence[Any] = ()
        if asked in (ALL, WORKING):
            known = self.information(data, etas) or [None] * count
        pairs = _pairs(self.slots, asked, tuple(x is None for x in known))
        found = self._derivatives(pairs)(*data.values, *etas)
        flat = [_of_dimensions(x, ndim) for x in found]
        second: list[list[Any]] = [[None] * count for _ in range(count)]
        for (a, b), value in zip(pairs, flat[count:], strict=True):
            second[a][b] = second[b][a] = value
        expected = tuple(
            np.abs(second[a][a]) if x is None else _of_dimensions(x, ndim)
            for a, x in enumerate(known)
        )
        return Derivatives(tuple(flat[:count]), tuple(map(tuple, second)), expected)

    def information(self, data: RowData, etas: Sequence[np.ndarray]) -> Sequence[Any] | None:
        """Expected information of each predictor; the absolute curvature where it is None."""
        return None


def _pairs(slots: Sequence[Slot], asked: str, unknown: tuple[bool, ...]) -> Pairs:
    """Pairs of slots whose second derivatives are needed; ``unknown`` is whose information."""
    count = len(slots)
    every = ((a, b) for a in range(count) for b in range(a, count))
    if asked in (ALL, OBSERVED):
        return tuple(every)
    if asked == SCORES:
        return ()
    of = [slot.parameter for slot in slots]
    return tuple(
        (a, b) for a, b in every if (of[a] is of[b] and of[a].labels) or (a == b and unknown[a])
    )


def second_derivatives(
    family: Formula, data: RowData, etas: Sequence[np.ndarray], pairs: Pairs
) -> list[np.ndarray]:
    """Second derivatives (..., expert, obs) of a log density by some pairs of predictors."""
    ndim = max(np.ndim(eta) for eta in etas)
    found = family._derivatives(pairs)(*data.values, *etas)[len(etas) :]
    return [_of_dimensions(x, ndim) for x in found]


def _of_dimensions(x: Any, ndim: int) -> np.ndarray:
    """An array with at least so many dimensions, new ones in front."""
    array = np.asarray(x, dtype=float)
    return array.reshape((1,) * (ndim - array.ndim) + array.shape) if array.ndim < ndim else array

"""Directions: the von Mises distribution of angles from minus pi to pi."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy import special

from bayes_moe.core.arrays import NUMERIC, Arrays, symbolic
from bayes_moe.core.checks import check_one_of
from bayes_moe.families import circular_normaliser
from bayes_moe.families.base import Family, Parameter, Parameters, RowData, Size
from bayes_moe.families.links import ANGLES, LOG, Link

LOG_2PI = math.log(2 * math.pi)
LARGEST_GUESS = 10.0
"""Largest predictor that is guessed from one response: near pi it is infinite."""
FLAT = 3.0 / math.pi**2
"""Inverse variance of equally probable angles."""
NODES, WEIGHTS = special.roots_legendre(40)
NEGLIGIBLE = 45.0
"""Fall of the log density beyond which integrals end."""


@dataclass(frozen=True)
class VonMises(Family):
    """Von Mises distribution of angles in radians with direction `mu` and concentration `kappa`.

    ``log f(y) = kappa cos(y - mu) - log(2 pi I_0(kappa))`` for ``-pi <= y <= pi``. The parameter
    ``mu`` is its predictor ``eta`` wherever it is an argument. By the link ``"tan_half"`` the
    direction is ``2 arctan(eta)``: that of pi is reached at no finite predictor. By ``"identity"``
    it is ``eta``, of which whole turns are taken off: for experts without features, with a
    direction anywhere, and for features that turn it at a constant rate.

    Responses are treated as numbers between the ends, as in all other families: ``mean`` and
    ``variance`` are those of the numbers, not of directions, and the cdf begins at minus pi. With
    ``mu`` near an end, some probability is at the other end, and the mean is between them;
    ``location`` is the direction.

    Parameters
    ----------
    link : {"tan_half", "identity"}
        Link of ``mu``.
    """

    kind = "vonmises"
    link: str = "tan_half"
    lower, upper = -math.pi, math.pi
    support = "angles in radians from -pi to pi"

    def __post_init__(self) -> None:
        check_one_of("link", self.link, ANGLES)

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        direction = Parameter("mu", Link(self.link, natural=False), ANGLES[self.link].role)
        return direction, Parameter("kappa", LOG, "angular_precision")

    def row(self, m: Any) -> Callable[..., Any]:
        def row(t: Any, u: Any, base: Any, eta: Any, log_kappa: Any) -> Any:
            # 1 - cos(y - mu) is twice the square of the sine of half the difference.
            cosine_of_half, sine_of_half = ANGLES[self.link].half(m, eta)
            sine = u * cosine_of_half - t * sine_of_half
            value = base + m.circular_normaliser(log_kappa)
            return value - 2.0 * m.exp(log_kappa) * (sine * sine)

        return row

    def data(self, y: Any, known: Parameters, xp: Arrays) -> RowData:
        inside = (y >= -math.pi) & (y <= math.pi)
        half = 0.5 * xp.where(inside, y, 0.0)
        return RowData(xp.cos(half), xp.sin(half), xp.where(inside, -LOG_2PI, -np.inf))

    def information(self, data: RowData, etas: Sequence[np.ndarray]) -> Sequence[Any]:
        slope = ANGLES[self.link].slope(etas[0])
        kappa = np.exp(etas[1])
        of_angle = kappa - circular_normaliser.slope(etas[1])
        return of_angle * slope * slope, circular_normaliser.information(etas[1])

    def dist(self, params: Parameters) -> Any:
        import pymc as pm

        direction = ANGLES[self.link].direction(params["mu"], symbolic())
        return pm.VonMises.dist(mu=direction, kappa=params["kappa"])

    def location(self, params: Parameters) -> np.ndarray:
        return np.asarray(ANGLES[self.link].direction(params["mu"], NUMERIC))

    def initial_eta(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        return np.clip(ANGLES[self.link].of_direction(y), -LARGEST_GUESS, LARGEST_GUESS)

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        return self._sides(y, params)[0]

    def sf(self, y: Any, params: Parameters) -> np.ndarray:
        return self._sides(y, params)[1]

    def _sides(self, y: Any, params: Parameters) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities below and above ``y``, each with a small relative error."""
        mu, kappa = self.location(params), params["kappa"]
        # The distribution of -y is that of the direction -mu.
        flipped, size = mu < 0, np.abs(mu)
        y = np.clip(y, -math.pi, math.pi)
        y = np.where(flipped, -y, y)
        x = y - size
        # Of the density beyond pi, which is there from -pi on; then the rest on the left of mu.
        far, right, end = x < -math.pi, x >= 0.0, math.pi - size
        high = np.where(far, end + (y + math.pi), np.where(right, end, math.pi))
        part = _between(np.where(far, end, np.minimum(np.abs(x), high)), high, kappa)
        past = _between(end, math.pi, kappa)
        below = np.where(far, part, np.where(right, 1.0 - part, past + part))
        left = _between(0.0, np.where(right | far, 0.0, -x), kappa) + _between(0.0, end, kappa)
        above = np.where(right, part, np.where(far, 1.0 - part, left))
        return np.where(flipped, above, below), np.where(flipped, below, above)

    def mean(self, params: Parameters) -> np.ndarray:
        mu = self.location(params)
        past = _between(math.pi - np.abs(mu), math.pi, params["kappa"])
        return np.asarray(mu - 2 * math.pi * np.sign(mu) * past)

    def variance(self, params: Parameters) -> np.ndarray:
        mu, kappa = self.location(params), params["kappa"]
        end = math.pi - np.abs(mu)
        past, first = (_between(end, math.pi, kappa, power) for power in (0, 1))
        whole = 2.0 * _between(np.zeros(()), math.pi, kappa, 2)
        turn = 2 * math.pi
        return np.asarray(whole - 2 * turn * first + turn**2 * past * (1.0 - past))

    def scale(self, params: Parameters) -> np.ndarray:
        return np.asarray(1.0 / np.sqrt(params["kappa"] + FLAT))

    def random(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        drawn = rng.vonmises(self.location(params), params["kappa"], size)
        return np.clip(drawn, -math.pi, math.pi)


def _between(low: Any, high: Any, kappa: Any, power: int = 0) -> np.ndarray:
    """Integral of ``x^power`` times the density of a direction of zero between two angles.

    ``0 <= low <= high <= pi``; the relative error is small, however small the integral is.
    """
    low, high, kappa = (np.asarray(a, dtype=float) for a in (low, high, kappa))
    sine = np.sin(0.5 * low)
    with np.errstate(over="ignore"):
        end = 2.0 * np.arcsin(np.minimum(np.sqrt(sine * sine + 0.5 * NEGLIGIBLE / kappa), 1.0))
    half = 0.5 * (np.minimum(np.maximum(end, low), high) - low)
    total = 0.0
    for node, weight in zip(NODES, WEIGHTS, strict=True):
        step = half * (1.0 + node)
        fall = 2.0 * kappa * np.sin(0.5 * step) * np.sin(low + 0.5 * step)
        total = total + weight * np.exp(-fall) * (low + step) ** power
    log_height = circular_normaliser.log_normaliser(NUMERIC)(np.log(kappa)) - LOG_2PI
    return np.asarray(half * total * np.exp(log_height - 2.0 * kappa * sine * sine))

"""Gates over source positions: uniform, a table by lengths, or a softmax along the diagonal.

All state the probabilities of the positions of a list of shapes, in the flat layout of
:class:`~bayes_moe.text.cooccurrence.Shapes`, and their next value from expected counts there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from bayes_moe.text.cooccurrence import Shapes

STRENGTH_SD = 20.0
"""Standard deviation of the normal prior of the strength: it keeps finite the strength of a text
whose words all stay on the diagonal."""
STEPS = 30
"""Most Newton steps in one M-step."""


class PositionGate(ABC):
    """Probabilities of source positions, given target position and lengths."""

    @property
    @abstractmethod
    def leaves_null_out(self) -> bool:
        """Whether the probability of NULL is 0 by setting."""

    @abstractmethod
    def weights(self, shapes: Shapes) -> np.ndarray:
        """Return the probability of each entry (entry,); each row sums to one."""

    @abstractmethod
    def step(self, shapes: Shapes, counts: np.ndarray) -> Self:
        """Return the gate that maximises the expected log posterior of counts (entry,)."""

    @abstractmethod
    def draw(self, shapes: Shapes, counts: np.ndarray, rng: np.random.Generator) -> Self:
        """Return a draw of the gate given counts (entry,) of known positions."""

    @abstractmethod
    def log_prior(self) -> float:
        """Return the log prior of the parameters, up to a constant."""

    @abstractmethod
    def describe(self) -> str:
        """Return what the gate is, with its estimates, in a line."""


def uniform(shapes: Shapes, null: float | None) -> np.ndarray:
    """Equal probabilities of positions; that of NULL is ``null``, or equal to the others."""
    i, _, lengths, _ = shapes.coordinates()
    if null is None:
        return 1 / (lengths + 1)
    return np.where(i == 0, null, (1 - null) / lengths)


@dataclass(frozen=True, eq=False)
class UniformGate(PositionGate):
    """IBM model 1: all source positions alike."""

    null: float | None

    @property
    def leaves_null_out(self) -> bool:
        return self.null == 0

    def weights(self, shapes: Shapes) -> np.ndarray:
        return uniform(shapes, self.null)

    def step(self, shapes: Shapes, counts: np.ndarray) -> Self:
        return self

    def draw(self, shapes: Shapes, counts: np.ndarray, rng: np.random.Generator) -> Self:
        return self

    def log_prior(self) -> float:
        return 0.0

    def describe(self) -> str:
        null = "1 / (l + 1)" if self.null is None else f"{self.null:.3g}"
        return f"uniform over source positions; NULL {null}"


@dataclass(frozen=True, eq=False)
class TableGate(PositionGate):
    """IBM model 2: a distribution for each target position of each pair of lengths.

    ``values`` (entry,) are those of the shapes of the fitted text; other shapes have uniform ones.
    """

    null: float | None
    concentration: float
    shapes: Shapes
    values: np.ndarray

    @property
    def leaves_null_out(self) -> bool:
        return self.null == 0

    @classmethod
    def start(cls, shapes: Shapes, null: float | None, concentration: float) -> TableGate:
        """Table of equal probabilities."""
        return cls(null, concentration, shapes, uniform(shapes, null))

    def weights(self, shapes: Shapes) -> np.ndarray:
        if shapes is self.shapes:
            return self.values
        known = {
            lengths: slice(start, stop)
            for *lengths_, start, stop in zip(
                self.shapes.source.tolist(),
                self.shapes.target.tolist(),
                self.shapes.starts[:-1],
                self.shapes.starts[1:],
                strict=True,
            )
            for lengths in [tuple(lengths_)]
        }
        values = uniform(shapes, self.null)
        starts = shapes.starts
        for n, lengths in enumerate(
            zip(shapes.source.tolist(), shapes.target.tolist(), strict=True)
        ):
            if lengths in known:
                values[starts[n] : starts[n + 1]] = self.values[known[lengths]]
        return values

    def step(self, shapes: Shapes, counts: np.ndarray) -> Self:
        return self._normalised(shapes, counts + (self.concentration - 1))

    def draw(self, shapes: Shapes, counts: np.ndarray, rng: np.random.Generator) -> Self:
        return self._normalised(shapes, rng.gamma(counts + self.concentration))

    def _normalised(self, shapes: Shapes, counts: np.ndarray) -> Self:
        """Table with rows in proportion to weights (entry,), but for a fixed share of NULL."""
        share = 1.0
        if self.null is not None:
            i = shapes.coordinates()[0]
            counts = np.where(i == 0, 0.0, counts)
            share = 1 - self.null
        totals = np.repeat(np.add.reduceat(counts, shapes.row_starts), shapes.row_lengths)
        # Without expected counts of its words a row keeps its values: they have no effect.
        values = np.where(totals > 0, share * counts / np.where(totals > 0, totals, 1), self.values)
        if self.null is not None:
            values = np.where(i == 0, self.null, values)
        return replace(self, values=values)

    def log_prior(self) -> float:
        if self.concentration == 1:
            return 0.0
        values = self.values
        if self.null is not None:
            values = values[self.shapes.coordinates()[0] > 0]
        return float((self.concentration - 1) * np.log(values).sum())

    def describe(self) -> str:
        return f"a table by lengths and target position, of {len(self.values):,} entries"


@dataclass(frozen=True, eq=False)
class DiagonalGate(PositionGate):
    r"""Softmax gate of the distance to the diagonal.

    ``a(0) = p_0``, and ``a(i | j, l, m)`` is ``1 - p_0`` times the softmax over ``i`` of
    ``-strength |i / l - j / m|``.
    """

    null: float
    fixed_null: bool
    strength: float = 0.0

    @property
    def leaves_null_out(self) -> bool:
        return self.fixed_null and self.null == 0

    def weights(self, shapes: Shapes) -> np.ndarray:
        i, distance = _distances(shapes)
        logits = np.where(i == 0, -np.inf, -self.strength * distance)
        starts, lengths = shapes.row_starts, shapes.row_lengths
        logits = logits - np.repeat(np.maximum.reduceat(logits, starts), lengths)
        values = np.exp(logits)
        values /= np.repeat(np.add.reduceat(values, starts), lengths)
        return np.where(i == 0, self.null, (1 - self.null) * values)

    def step(self, shapes: Shapes, counts: np.ndarray) -> Self:
        words = np.where(_distances(shapes)[0] == 0, 0.0, counts)
        null = self.null if self.fixed_null else max(0.0, float(1 - words.sum() / counts.sum()))
        return replace(self, null=null, strength=self._mode(shapes, words)[0])

    def draw(self, shapes: Shapes, counts: np.ndarray, rng: np.random.Generator) -> Self:
        words = np.where(_distances(shapes)[0] == 0, 0.0, counts)
        made, of = words.sum(), counts.sum()
        null = self.null if self.fixed_null else float(rng.beta(1 + of - made, 1 + made))
        # Metropolis-Hastings: the conditional density of the strength is nearly normal.
        mode, curvature = self._mode(shapes, words)
        proposed = mode + float(rng.normal()) / np.sqrt(curvature)

        def log_weight(strength: float) -> float:
            shares = replace(self, null=0.0, strength=strength).weights(shapes)
            used = words > 0
            density = words[used] @ np.log(np.maximum(shares[used], np.finfo(float).tiny))
            prior = -0.5 * (strength / STRENGTH_SD) ** 2
            return float(density + prior + 0.5 * curvature * (strength - mode) ** 2)

        accepted = np.log(rng.random()) < log_weight(proposed) - log_weight(self.strength)
        return replace(self, null=null, strength=proposed if accepted else self.strength)

    def _mode(self, shapes: Shapes, words: np.ndarray) -> tuple[float, float]:
        """Strength of largest density given counts of source words (entry,), and the curvature."""
        _, distance = _distances(shapes)
        rows = np.add.reduceat(words, shapes.row_starts)
        observed = float(words @ distance)
        strength = self.strength
        for _ in range(STEPS):
            # The objective is concave, and its slopes are moments of the distance.
            share = replace(self, null=0.0, strength=strength).weights(shapes)
            first = np.add.reduceat(share * distance, shapes.row_starts)
            second = np.add.reduceat(share * distance**2, shapes.row_starts)
            slope = rows @ first - observed - strength / STRENGTH_SD**2
            curvature = rows @ (second - first**2) + 1 / STRENGTH_SD**2
            # Far from the mode a curvature near zero would send the step to anywhere.
            move = float(np.clip(slope / curvature, -2.0, 2.0))
            strength += move
            if abs(move) < 1e-10 * (1 + abs(strength)):
                break
        return strength, float(curvature)

    def log_prior(self) -> float:
        return -0.5 * (self.strength / STRENGTH_SD) ** 2

    def describe(self) -> str:
        how = "fixed" if self.fixed_null else "estimated"
        return (
            f"softmax of {-self.strength:.3g} |i/l - j/m| (strength estimated); "
            f"NULL {self.null:.3g} ({how})"
        )


def _distances(shapes: Shapes) -> tuple[np.ndarray, np.ndarray]:
    """Source position and ``|i / l - j / m|`` of each entry."""
    i, j, source, target = shapes.coordinates()
    return i, np.abs(i / source - j / target)

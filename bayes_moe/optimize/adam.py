"""Adam on minibatches: the mode of a posterior given many rows.

A step uses the gradient of ``log prior + (n / b) log likelihood`` on a batch of ``b`` of the ``n``
rows. The number of steps is fixed in advance, and the learning rate falls to zero along half a
cosine, as a constant rate would leave the iterates with the noise of the batches.

The share ``validation`` of the rows is held out, and their mean log density evaluated after every
epoch. If it has not risen for ``patience`` epochs, the steps continue from the best point, and half
of the remaining cosine is skipped. Points are moving averages of those that Adam steps to, which
have the noise of the batches. The result is the one with the best held-out density.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from bayes_moe.core.progress import silent
from bayes_moe.model.log_density import LogDensity
from bayes_moe.optimize.densities import of_rows
from bayes_moe.optimize.lbfgs import LBFGSResult

CHUNK = 4096
"""Rows in a chunk of an evaluation on all rows."""
RACE = 100
"""Steps from each of several starts, before the best is chosen."""
STEPS = 12_000
"""Default number of steps, for any number of rows: more gain little."""
MOST_HELD_OUT = 20_000
"""Largest number of held-out rows."""
LEAST_PATIENCE = 3
LEAST_RISE = 0.02
"""Rise of the held-out mean log density in the last third of the epochs below which Adam has
converged."""
BETA1, BETA2, TINY = 0.9, 0.999, 1e-8
LEAST_BATCH, MOST_BATCH = 64, 1000
SMALL_BATCH = 250
"""Batch size above which the rate grows with its square root, as the gradient's noise falls."""
EPOCH = 100
"""Default steps of an epoch, within the limits of the batch size."""
KEPT = 10
"""Epochs with the same batches, in other orders."""
AVERAGED = 0.99
"""Weight of earlier points in the moving average of Adam's points."""

Slope = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Schedule:
    """Settings of Adam; None is a default that depends on the number of rows."""

    batch_size: int | None = None
    epochs: int | None = None
    learning_rate: float = 0.01
    validation: float = 0.1
    patience: int | None = None
    steps: int = STEPS

    def batch(self, rows: int) -> int:
        """Batch size, given the number of training rows."""
        if self.batch_size is not None:
            return min(self.batch_size, rows)
        return min(rows, int(np.clip(rows // EPOCH, LEAST_BATCH, MOST_BATCH)))

    def passes(self, rows: int) -> int:
        """Number of epochs, given the number of training rows."""
        steps = rows // self.batch(rows)
        return -(-self.steps // steps) if self.epochs is None else self.epochs

    def waits(self, epochs: int) -> int:
        """Epochs without a rise before the steps return to the best point."""
        return max(LEAST_PATIENCE, epochs // 5) if self.patience is None else self.patience

    def rate(self, rows: int, share: float = 0.0) -> float:
        """Learning rate after a share of the steps, given the number of training rows."""
        growth = max(1.0, self.batch(rows) / SMALL_BATCH) ** 0.5
        return self.learning_rate * growth * 0.5 * (1 + float(np.cos(np.pi * share)))


@dataclass(frozen=True)
class AdamResult:
    """Final point of Adam.

    ``path`` (epoch,) are held-out mean log densities, ``held_out`` the best of them, ``steps`` the
    number of batches used; ``settled`` is whether the density hardly rose in the last epochs.
    """

    x: np.ndarray
    held_out: float
    path: np.ndarray
    steps: int
    settled: bool


@dataclass(frozen=True)
class RowSplit:
    """Positions of training rows and of held-out rows, each in increasing order."""

    train: np.ndarray
    held_out: np.ndarray

    @classmethod
    def random(cls, size: int, share: float, rng: np.random.Generator) -> RowSplit:
        """Random split of ``size`` rows, at least one of them held out."""
        order = rng.permutation(size)
        count = min(max(1, round(share * size)), size - 1, MOST_HELD_OUT)
        return cls(np.sort(order[count:]), np.sort(order[:count]))


class Batches:
    """A log density on batches of rows."""

    def __init__(self, surface: LogDensity) -> None:
        self.surface = surface
        self.size = surface.design.rows.size

    def slope(self, x: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Gradient of the log posterior, divided by ``n``, estimated from a batch."""
        return of_rows(self.surface, which)(x, self.size / len(which))[2] / self.size

    def shuffled(self, rows: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[Slope]:
        """Endless slopes of batches: those of all rows in a random order, then in another.

        Rows are assigned to batches anew every ``KEPT`` times, as that costs more than a slope.
        """
        weight = self.size / size
        while True:
            order = rng.permutation(rows)[: len(rows) // size * size]
            parts = [of_rows(self.surface, which) for which in order.reshape(-1, size)]
            for _ in range(KEPT):
                for j in rng.permutation(len(parts)):
                    yield lambda x, part=parts[j]: part(x, weight)[2] / self.size

    def held_out(self, which: np.ndarray) -> Callable[[np.ndarray], float]:
        """Mean log density of the response over some rows, as a function of the vector."""
        chunks = np.split(which, np.arange(CHUNK, len(which), CHUNK))
        parts = [of_rows(self.surface, chunk) for chunk in chunks]

        def mean(x: np.ndarray) -> float:
            total = sum(part(x, 1.0)[1] for part in parts)
            return total / len(which) if np.isfinite(total) else -np.inf

        return mean

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Log posterior of all rows and its gradient, in chunks."""
        value, gradient = 0.0, np.zeros_like(x)
        for start in range(0, self.size, CHUNK):
            part = of_rows(self.surface, np.arange(start, min(start + CHUNK, self.size)))
            prior, likelihood, slope = part(x, 1.0)
            value, gradient = value + likelihood, gradient + slope
        of_prior = part(x, 0.0)[2]
        chunks = -(-self.size // CHUNK)  # each chunk's gradient has the prior's once
        return value + prior, gradient - (chunks - 1) * of_prior


@dataclass
class Adam:
    """Current point, moments and average of Adam, which maximises.

    ``average`` is the moving average of the points over some ``1 / (1 - AVERAGED)`` steps: a point
    has the noise of its batches, in which the average has no part.
    """

    x: np.ndarray
    rate: float
    steps: int = 0

    def __post_init__(self) -> None:
        self.average, self.x = self.x.copy(), self.x.copy()
        self.mean, self.square = np.zeros_like(self.x), np.zeros_like(self.x)

    def step(self, slope: np.ndarray) -> None:
        """Move the point by the gradient there."""
        if not np.isfinite(slope.sum()):
            slope = np.nan_to_num(slope)  # a NaN would remain in the moments
        self.steps += 1
        self.mean += (1 - BETA1) * (slope - self.mean)
        self.square += (1 - BETA2) * (slope * slope - self.square)
        size = self.rate / (1 - BETA1**self.steps)
        root = np.sqrt(self.square / (1 - BETA2**self.steps))
        root += TINY
        self.x += size * self.mean / root
        self.average += max(1 - AVERAGED, 1 / (1 + self.steps)) * (self.x - self.average)


def descend(
    surface: LogDensity,
    starts: Sequence[Mapping[str, np.ndarray]],
    schedule: Schedule,
    rng: np.random.Generator,
    progress: Callable[[int, int], None] = silent,
    split: RowSplit | None = None,
) -> tuple[LBFGSResult, AdamResult]:
    """Final point of Adam, as a run judged on all rows, and with its held-out densities.

    Parameters
    ----------
    surface : LogDensity
        Log density to maximise.
    starts : sequence of mapping
        Reported variables; of several, the best after ``RACE`` steps is chosen.
    schedule : Schedule
        Sizes, rates and patience.
    rng : numpy.random.Generator
        For the split into training and held-out rows, and for the batches.
    progress : callable
        Called with the numbers of runs and epochs that have ended, and of all.
    split : RowSplit, optional
        Training and held-out rows; by default a random split.
    """
    batches = Batches(surface)
    if split is None:
        split = RowSplit.random(batches.size, schedule.validation, rng)
    count = len(split.train)
    total = len(starts) + schedule.passes(count)
    held_out = batches.held_out(split.held_out)
    slopes = batches.shuffled(split.train, schedule.batch(count), rng)
    ends = []
    for values in starts:
        x = surface.point(values)
        if len(starts) > 1:
            adam = Adam(x, schedule.rate(count))
            for slope in islice(slopes, RACE):
                adam.step(slope(adam.x))
            x = adam.average
        ends.append((held_out(x), x))
        progress(len(ends), total)
    best = int(np.argmax([density for density, _ in ends]))
    result = _run_epochs(
        _Task(slopes, held_out, schedule, count),
        *ends[best],
        lambda j: progress(len(starts) + j, total),
    )
    progress(total, total)
    value, gradient = batches(result.x)
    norm = float(np.linalg.norm(gradient))
    value = value if np.isfinite(value) else -np.inf
    settled = result.settled
    run = LBFGSResult(result.x, value, norm, result.steps, settled, not settled, [value])
    return run, result


@dataclass(frozen=True)
class _Task:
    """Slopes of batches of ``count`` rows, and the mean log density of held-out rows."""

    slopes: Iterator[Slope]
    held_out: Callable[[np.ndarray], float]
    schedule: Schedule
    count: int


def _run_epochs(
    task: _Task, density: float, x: np.ndarray, report: Callable[[int], None]
) -> AdamResult:
    """Result of Adam from a point with a held-out density, until the learning rate is zero."""
    schedule, count = task.schedule, task.count
    steps = count // schedule.batch(count)
    left = schedule.passes(count)
    patience = schedule.waits(left)
    adam, pace, share = Adam(x, schedule.rate(count)), 1 / (left * steps), 0.0
    best, path, waited = x, [density], 0
    while left > 0:
        for slope in islice(task.slopes, steps):
            adam.rate = schedule.rate(count, share)
            adam.step(slope(adam.x))
            share += pace
        left -= 1
        path.append(task.held_out(adam.average))
        report(len(path) - 1)
        waited += 1
        if path[-1] > density:
            best, density, waited = adam.average.copy(), path[-1], 0
        elif waited >= patience and left > 1:
            skipped = left // 2
            left, share, waited = left - skipped, share + skipped * steps * pace, 0
            adam = Adam(best, adam.rate)  # the moments belong to the path that is given up
    return AdamResult(best, density, np.array(path), steps * (len(path) - 1), is_level(path))


def is_level(path: list[float]) -> bool:
    """Whether densities (epoch,) hardly rose in the last third of the epochs."""
    third = len(path) // 3
    return third > 0 and max(path) - max(path[:-third]) < LEAST_RISE

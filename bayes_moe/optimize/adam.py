"""Adam on minibatches: the mode of a posterior whose table is long.

A step sees a batch of ``b`` of the ``n`` rows, and follows the gradient of
``log prior + (n / b) log likelihood``. The number of steps is decided beforehand, and the learning
rate falls to zero along half a cosine: noise of batches, which a constant rate keeps, goes with it.

The share ``validation`` of the rows is held out, and their mean log density taken after every
epoch. Where it has not risen for ``patience`` epochs, steps go on from the best point, and half of
what is left of the cosine is passed over. The point of the best density is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from bayes_moe.core.progress import silent
from bayes_moe.graph.log_density import GraphLogDensity
from bayes_moe.optimize.lbfgs import LBFGSResult

AT_ONCE = 4096
"""Rows that a function of all rows takes at a time."""
RACE = 100
"""Steps after which the best of several starts goes on."""
STEPS = 12_000
"""Steps of a climb whose epochs are not given: more gain little, on tables of any length."""
MOST_HELD = 20_000
"""Rows that are held out at most."""
LEAST_PATIENCE = 3
STILL = 0.02
"""Rise of the held-out mean log density in the last third of the epochs, of one that settled."""
BETA1, BETA2, TINY = 0.9, 0.999, 1e-8
LEAST_BATCH, MOST_BATCH = 100, 1000
CALM = 250
"""Rows of a batch above which the rate grows with their square root, as its noise falls."""
EPOCH = 100
"""Steps of an epoch, as far as batches of usual size allow."""


@dataclass(frozen=True)
class Schedule:
    """Settings of Adam, of which None stands for what is usual for the length of the table."""

    batch_size: int | None = None
    epochs: int | None = None
    learning_rate: float = 0.01
    validation: float = 0.1
    patience: int | None = None

    def batch(self, rows: int) -> int:
        """Rows of a batch, given those that are not held out."""
        if self.batch_size is not None:
            return min(self.batch_size, rows)
        return min(rows, int(np.clip(rows // EPOCH, LEAST_BATCH, MOST_BATCH)))

    def passes(self, rows: int) -> int:
        """Epochs, given the rows that are not held out."""
        steps = rows // self.batch(rows)
        return -(-STEPS // steps) if self.epochs is None else self.epochs

    def waits(self, epochs: int) -> int:
        """Epochs without a rise after which the best point is returned to."""
        return max(LEAST_PATIENCE, epochs // 5) if self.patience is None else self.patience

    def rate(self, rows: int, share: float = 0.0) -> float:
        """Learning rate after a share of the steps, given the rows that are not held out."""
        calmer = max(1.0, self.batch(rows) / CALM) ** 0.5
        return self.learning_rate * calmer * 0.5 * (1 + float(np.cos(np.pi * share)))


@dataclass(frozen=True)
class Descent:
    """Where Adam ended.

    ``path`` (epoch,) are held-out mean log densities, ``held_out`` the best of them, ``steps`` the
    number of batches seen; ``settled`` says whether the density hardly rose at the end.
    """

    x: np.ndarray
    held_out: float
    path: np.ndarray
    steps: int
    settled: bool


class Batches:
    """A surface that sees some rows at a time: its graph's data are replaced by theirs."""

    def __init__(self, surface: GraphLogDensity) -> None:
        self.surface = surface
        self.size = surface.graph.design.rows.size
        found = ((v, v.get_value(borrow=True)) for v in surface.graph.model.data_vars)
        self._data = [(v, all_) for v, all_ in found if all_.shape[:1] == (self.size,)]

    def show(self, which: np.ndarray | slice) -> None:
        """Put some rows into the graph."""
        for variable, values in self._data:
            variable.set_value(values[which], borrow=True)

    def slope(self, x: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Gradient of the log posterior, divided by ``n``, from a batch."""
        self.show(which)
        return self.surface.weighted(x, self.size / len(which))[2] / self.size

    def mean_density(self, x: np.ndarray, which: np.ndarray) -> float:
        """Mean log density of some rows."""
        parts = np.split(which, np.arange(AT_ONCE, len(which), AT_ONCE))
        total = 0.0
        for part in parts:
            self.show(part)
            total += self.surface.weighted(x, 1.0)[1]
        return total / len(which) if np.isfinite(total) else -np.inf

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Log density of all rows and its gradient, a bounded number of rows at a time."""
        value, gradient = 0.0, np.zeros_like(x)
        for start in range(0, self.size, AT_ONCE):
            self.show(slice(start, start + AT_ONCE))
            prior, likelihood, slope = self.surface.weighted(x, 1.0)
            value, gradient = value + likelihood, gradient + slope
        self.show(slice(0, AT_ONCE))
        without = self.surface.weighted(x, 0.0)[2]  # the prior's
        times = -(-self.size // AT_ONCE)
        return value + prior, gradient - (times - 1) * without


@dataclass
class _Adam:
    """Adam's moments, and a step uphill."""

    x: np.ndarray
    rate: float
    steps: int = 0
    mean: np.ndarray | float = 0.0
    square: np.ndarray | float = 0.0

    def step(self, slope: np.ndarray) -> None:
        slope = np.nan_to_num(slope)
        self.steps += 1
        self.mean = BETA1 * self.mean + (1 - BETA1) * slope
        self.square = BETA2 * self.square + (1 - BETA2) * slope**2
        mean = self.mean / (1 - BETA1**self.steps)
        square = self.square / (1 - BETA2**self.steps)
        self.x = self.x + self.rate * mean / (np.sqrt(square) + TINY)


def descend(
    surface: GraphLogDensity,
    starts: Sequence[Mapping[str, np.ndarray]],
    schedule: Schedule,
    rng: np.random.Generator,
    progress: Callable[[int, int], None] = silent,
) -> tuple[LBFGSResult, Descent]:
    """Race short runs from reported variables, go on from the best, and judge the end on all rows.

    Parameters
    ----------
    surface : Surface
        What to climb; its graph's data hold all rows, and some of them afterwards.
    starts : sequence of mapping
        Reported variables at which short runs of at most ``RACE`` steps begin.
    schedule : Schedule
        Sizes, rates and patience.
    rng : numpy.random.Generator
        Decides which rows are held out, and the batches.
    progress : callable
        Told how many runs and epochs have ended, and of how many.
    """
    batches = Batches(surface)
    order = rng.permutation(batches.size)
    many = min(max(1, round(schedule.validation * batches.size)), batches.size - 1, MOST_HELD)
    held, rows = np.sort(order[:many]), np.sort(order[many:])
    epochs = schedule.passes(len(rows))
    total = len(starts) + epochs
    ends = []
    for values in starts:
        x = surface.point(values)
        if len(starts) > 1:
            moving = _Adam(x, schedule.rate(len(rows)))
            for which in islice(_shuffled(rows, schedule, rng), RACE):
                moving.step(batches.slope(moving.x, which))
            x = moving.x
        ends.append((batches.mean_density(x, held), x))
        progress(len(ends), total)
    best = int(np.argmax([density for density, _ in ends]))
    done = _settle(
        batches, *ends[best], rows, held, schedule, rng, lambda j: progress(len(starts) + j, total)
    )
    progress(total, total)
    value, gradient = batches(done.x)
    norm = float(np.linalg.norm(gradient))
    value = value if np.isfinite(value) else -np.inf
    climb = LBFGSResult(
        done.x,
        value,
        norm,
        done.steps,
        done.settled,
        not done.settled,
        [value],
    )
    return climb, done


def _settle(
    batches: Batches,
    density: float,
    x: np.ndarray,
    rows: np.ndarray,
    held: np.ndarray,
    schedule: Schedule,
    rng: np.random.Generator,
    tell: Callable[[int], None],
) -> Descent:
    """Epochs until the learning rate has fallen to zero."""
    stream, steps = _shuffled(rows, schedule, rng), len(rows) // schedule.batch(len(rows))
    left = schedule.passes(len(rows))
    patience = schedule.waits(left)
    moving, pace, share = _Adam(x, schedule.rate(len(rows))), 1 / (left * steps), 0.0
    best, path, waited = x, [density], 0
    while left > 0:
        for which in islice(stream, steps):
            moving.rate = schedule.rate(len(rows), share)
            moving.step(batches.slope(moving.x, which))
            share += pace
        left -= 1
        path.append(batches.mean_density(moving.x, held))
        tell(len(path) - 1)
        waited += 1
        if path[-1] > density:
            best, density, waited = moving.x, path[-1], 0
        elif waited >= patience and left > 1:
            skipped = left // 2
            left, share, waited = left - skipped, share + skipped * steps * pace, 0
            moving = _Adam(best, moving.rate)
    return Descent(best, density, np.array(path), steps * (len(path) - 1), _still(path))


def _still(path: list[float]) -> bool:
    """Whether a path hardly rose in the last third of its epochs."""
    third = len(path) // 3
    return third > 0 and max(path) - max(path[:-third]) < STILL


def _shuffled(
    rows: np.ndarray, schedule: Schedule, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Batches of the rows without end: all rows in one order, then in another."""
    size = schedule.batch(len(rows))
    while True:
        order = rng.permutation(rows)
        for start in range(0, len(order) - size + 1, size):
            yield order[start : start + size]

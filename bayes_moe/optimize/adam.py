"""Adam on minibatches: the mode of a posterior given many rows.

A step uses the gradient of ``log prior + (n / b) log likelihood`` on a batch of ``b`` of the ``n``
rows. The number of steps is fixed in advance, and the learning rate falls to zero along half a
cosine, as a constant rate would leave the iterates with the noise of the batches.

Where predictors read whole series, every step is on all training rows: those but the last of each
series, which are held out. Recurrent networks read all rows, of which those held out do not count.

The share ``validation`` of the rows is held out, and their mean log density evaluated after every
epoch. If it has not risen for ``patience`` epochs, the steps continue from the best point, and half
of the remaining cosine is skipped. Points are moving averages of those that Adam steps to, which
have the noise of the batches. The result is the one with the best held-out density.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import cpu_count

import numpy as np

from bayes_moe.core.errors import SpecError
from bayes_moe.core.progress import silent
from bayes_moe.core.threads import in_threads
from bayes_moe.data.sequences import Sequences
from bayes_moe.model.log_density import LogDensity
from bayes_moe.optimize.densities import OfRows, of_rows
from bayes_moe.optimize.lbfgs import LBFGSResult
from bayes_moe.optimize.network_density import NetworkDensity

CHUNK = 4096
"""Rows in a chunk of an evaluation on all rows."""
RACE = 100
"""Steps from each of several starts, before the lower half is dropped for the first time."""
STEPS = 12_000
"""Default number of steps, unless they are fewer than ``LEAST_EPOCHS``: more gain little."""
WHOLE_STEPS = 2000
"""Default number of steps where each is on all rows, as recurrent networks read whole series."""
LEAST_EPOCHS = 25
"""Least default number of epochs."""
MOST_HELD_OUT = 20_000
"""Largest number of held-out rows."""
LEAST_PATIENCE = 3
LEAST_RISE = 0.02
"""Rise of the held-out mean log density in the last third of the epochs below which Adam has
converged."""
BETA1, BETA2, TINY = 0.9, 0.999, 1e-8
LEAST_BATCH, MOST_BATCH = 64, 1000
SMALL_BATCH = 1000
"""Batch size above which the rate grows with its square root, as the gradient's noise falls."""
EPOCH = 100
"""Default steps of an epoch, within the limits of the batch size."""
FEW = 6
"""Default steps of an epoch on short tables, if ``Schedule.short`` allows fewer than otherwise."""
KEPT = 20
"""Epochs with the same batches, in other orders."""
AVERAGED, RECENT = 0.99, 10.0
"""Weight of earlier points in the moving average of Adam's points; at first, it is less, so that
about a tenth of the points so far count."""


@dataclass(frozen=True)
class Schedule:
    """Settings of Adam; None is a default that depends on the number of rows.

    ``short`` are the most rows of a batch by default where a table is short.
    """

    batch_size: int | None = None
    epochs: int | None = None
    learning_rate: float = 0.02
    validation: float = 0.1
    patience: int | None = None
    short: int = LEAST_BATCH

    def batch(self, rows: int) -> int:
        """Batch size, given the number of training rows."""
        if self.batch_size is not None:
            return min(self.batch_size, rows)
        least = np.clip(rows // FEW, LEAST_BATCH, self.short)
        return min(rows, int(np.clip(rows // EPOCH, least, MOST_BATCH)))

    def passes(self, rows: int) -> int:
        """Number of epochs, given the number of training rows."""
        steps = rows // self.batch(rows)
        return max(LEAST_EPOCHS, -(-STEPS // steps)) if self.epochs is None else self.epochs

    def waits(self, epochs: int) -> int:
        """Epochs without a rise before the steps return to the best point."""
        return max(LEAST_PATIENCE, epochs // 5) if self.patience is None else self.patience

    def rates(self, rows: int, shares: np.ndarray) -> np.ndarray:
        """Learning rates after shares (step,) of the steps, given the number of training rows."""
        growth = max(1.0, self.batch(rows) / SMALL_BATCH) ** 0.5
        rates: np.ndarray = self.learning_rate * growth * 0.5 * (1 + np.cos(np.pi * shares))
        return rates


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

    @classmethod
    def last(cls, sequences: Sequences, share: float) -> RowSplit:
        """The last rows of each series are held out; of a series of one row none."""
        order = np.arange(len(sequences.code)) if sequences.order is None else sequences.order
        late = np.zeros(len(order), dtype=bool)
        for start, end in zip(sequences.starts, sequences.ends, strict=True):
            count = min(max(1, round(share * (end - start))), end - start - 1)
            late[order[end - count : end]] = True
        if not late.any():
            raise SpecError("Adam holds the last rows of series out: no series has two rows.")
        return cls(np.flatnonzero(~late), np.flatnonzero(late))


class Adam:
    """Point, moments and average of Adam, which maximises, in one array of numbers.

    ``average`` is the moving average of the last points: a point has the noise of its batches, in
    which the average has no part.
    """

    def __init__(self, x: np.ndarray) -> None:
        size, self.steps = x.size, 0
        self.state = np.zeros(5 * size + 3)  # as kernels/adam has it
        self.x = self.state[:size]
        self.mean, self.square, self.average = self.state[2 * size + 1 : -2].reshape(3, size)
        self.x[:] = self.average[:] = x

    def step(self, slope: np.ndarray, rate: float) -> None:
        """Move the point by the gradient there."""
        if not np.isfinite(slope.sum()):
            slope = np.where(np.isfinite(slope), slope, 0.0)  # a NaN would remain in the moments
        self.steps += 1
        self.mean += (1 - BETA1) * (slope - self.mean)
        self.square += (1 - BETA2) * (slope * slope - self.square)
        root = np.sqrt(self.square / (1 - BETA2**self.steps))
        root += TINY
        self.x += rate / (1 - BETA1**self.steps) * self.mean / root
        self.average += max(1 - AVERAGED, RECENT / (RECENT + self.steps)) * (self.x - self.average)


class Stream:
    """Endless batches of rows: all rows in a random order, then in another.

    Rows are assigned to batches anew every ``KEPT`` times, as that costs more than a step.
    """

    def __init__(
        self, surface: LogDensity, rows: np.ndarray, size: int, rng: np.random.Generator
    ) -> None:
        self.surface, self.rows, self.size, self.rng = surface, rows, size, rng
        self.left = np.empty(0, dtype=np.int64)
        self.cores = (cpu_count() or 1) if surface.parallel else 1

    def advance(self, runs: Sequence[Adam], rates: np.ndarray) -> None:
        """Take a step of each run at each of some learning rates (step,), on a batch for all runs.

        Several runs go on at the same time where the density allows it.
        """
        while rates.size:
            if not self.left.size:
                self._shuffle()
            which, self.left = self.left[: rates.size], self.left[rates.size :]
            now, rates = rates[: which.size], rates[which.size :]
            steps = partial(self._steps, [self.parts[j] for j in which], now)
            for _ in in_threads(steps, runs, self.cores):
                pass

    def _steps(self, parts: Sequence[OfRows], rates: np.ndarray, adam: Adam) -> None:
        """Take a step of a run on each of some batches."""
        every = self.surface.design.rows.size
        weight = every / self.size
        if isinstance(self.surface, NetworkDensity):
            compiled_steps(parts, adam, rates, weight, 1 / every)
            return
        for part, rate in zip(parts, rates, strict=True):
            adam.step(part.weighted(adam.x, weight)[2] / every, rate)

    def _shuffle(self) -> None:
        self.parts = []  # the copies of earlier batches are freed first
        order = self.rng.permutation(self.rows)[: len(self.rows) // self.size * self.size]
        self.parts = [of_rows(self.surface, some) for some in order.reshape(-1, self.size)]
        orders = [self.rng.permutation(len(self.parts)) for _ in range(KEPT)]
        self.left = np.concatenate(orders)  # of all at once: a call of compiled steps costs a step


def compiled_steps(
    parts: Sequence[OfRows], adam: Adam, rates: np.ndarray, weight: float, share: float
) -> None:
    """Take a step of Adam on each of some parts of the rows, by one call of a compiled function.

    The gradient is ``share`` times that of ``prior + weight * likelihood``.
    """
    from bayes_moe.kernels.adam import advance

    surfaces = [part for part in parts if isinstance(part, NetworkDensity)]
    density, moving = surfaces[0].compiled.log_density, surfaces[0].free_coordinates.astype(float)
    tables = np.array([s.compiled.table.ctypes.data for s in surfaces], dtype=np.int64)
    numbers = np.array([BETA1, BETA2, TINY, AVERAGED, RECENT, share])
    adam.state[adam.x.size] = weight
    rates = np.ascontiguousarray(rates, dtype=float)
    arrays = (tables, rates, adam.state, moving, numbers)
    of_tables, of_rates, *others = (a.ctypes.data for a in arrays)
    sizes = (len(surfaces), adam.steps, adam.x.size)
    job = np.array([density.address, of_tables, of_rates, *sizes, *others], dtype=np.int64)
    _prototype(advance().address)(job.ctypes.data)
    adam.steps += len(surfaces)


_prototype = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)


class Judge:
    """Mean log density of the response over some rows, as a function of the vector."""

    def __init__(self, surface: LogDensity, which: np.ndarray) -> None:
        chunk = _chunk(surface)
        chunks = np.split(which, np.arange(chunk, len(which), chunk))
        self.parts = [of_rows(surface, chunk) for chunk in chunks]
        self.count = surface.design.rows.pick(which).weight

    def __call__(self, x: np.ndarray) -> float:
        total = sum(part.weighted(x, 1.0)[1] for part in self.parts)
        return total / self.count if np.isfinite(total) else -np.inf


def _chunk(surface: LogDensity) -> int:
    """Rows in a chunk of an evaluation: all, where all are read for each."""
    return surface.design.rows.size if surface.spec.structure.whole_series else CHUNK


def on_all_rows(surface: LogDensity, x: np.ndarray) -> tuple[float, np.ndarray]:
    """Log posterior of all rows and its gradient, in chunks."""
    size, chunk = surface.design.rows.size, _chunk(surface)
    value, gradient = 0.0, np.zeros_like(x)
    for start in range(0, size, chunk):
        part = of_rows(surface, np.arange(start, min(start + chunk, size)))
        prior, likelihood, slope = part.weighted(x, 1.0)
        value, gradient = value + likelihood, gradient + slope
    of_prior = part.weighted(x, 0.0)[2]
    chunks = -(-size // chunk)  # each chunk's gradient has the prior's once
    return value + prior, gradient - (chunks - 1) * of_prior


def judged(surface: LogDensity, x: np.ndarray, steps: int, settled: bool) -> LBFGSResult:
    """Run of Adam that ended at a point, by the log density of all rows there."""
    value, gradient = on_all_rows(surface, x)
    value = value if np.isfinite(value) else -np.inf
    norm = float(np.linalg.norm(gradient))
    return LBFGSResult(x, value, norm, steps, settled, not settled, [value])


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
        Reported variables; of several, the best run of a race is continued.
    schedule : Schedule
        Sizes, rates and patience.
    rng : numpy.random.Generator
        For the split into training and held-out rows, and for the batches.
    progress : callable
        Called with the numbers of runs and epochs that have ended, and of all.
    split : RowSplit, optional
        Training and held-out rows; by default a random split, or the last rows of each series
        where predictors read whole series.
    """
    if split is None:
        split = _split(surface, schedule.validation, rng)
    if surface.spec.structure.whole_series:
        epochs = WHOLE_STEPS if schedule.epochs is None else schedule.epochs
        schedule = replace(schedule, batch_size=len(split.train), epochs=epochs)
    count = len(split.train)
    stream = Stream(surface, split.train, schedule.batch(count), rng)
    task = _Task(stream, Judge(surface, split.held_out), schedule, count)
    rounds = (len(starts) - 1).bit_length()
    total = rounds + schedule.passes(count)
    best = _race(task, [surface.point(values) for values in starts], lambda j: progress(j, total))
    result = _run_epochs(task, *best, lambda j: progress(rounds + j, total))
    progress(total, total)
    return judged(surface, result.x, result.steps, result.settled), result


def _split(surface: LogDensity, share: float, rng: np.random.Generator) -> RowSplit:
    """Training and held-out rows: these are the last of each series, where series are whole."""
    if surface.spec.structure.whole_series:
        sequences = surface.design.rows.sequences
        assert sequences is not None
        return RowSplit.last(sequences, share)
    return RowSplit.random(surface.design.rows.size, share, rng)


@dataclass(frozen=True)
class _Task:
    """Batches of ``count`` rows, and the mean log density of held-out rows."""

    stream: Stream
    held_out: Callable[[np.ndarray], float]
    schedule: Schedule
    count: int


def _race(
    task: _Task, points: Sequence[np.ndarray], report: Callable[[int], None]
) -> tuple[float, np.ndarray]:
    """Held-out density and point of the best of the runs from several points.

    After ``RACE`` steps the better half goes on, until each has twice as many, and so on. All take
    the same steps, at the initial learning rate.
    """
    runs, until, rounds = [Adam(x) for x in points], RACE, 0
    while len(runs) > 1:
        steps = until - runs[0].steps
        task.stream.advance(runs, task.schedule.rates(task.count, np.zeros(steps)))
        order = np.argsort([-task.held_out(run.average) for run in runs], kind="stable")
        runs = [runs[j] for j in order[: (len(runs) + 1) // 2]]
        until, rounds = 2 * until, rounds + 1
        report(rounds)
    return task.held_out(runs[0].average), runs[0].average


def _run_epochs(
    task: _Task, density: float, x: np.ndarray, report: Callable[[int], None]
) -> AdamResult:
    """Result of Adam from a point with a held-out density, until the learning rate is zero."""
    schedule, count = task.schedule, task.count
    steps = count // schedule.batch(count)
    left = schedule.passes(count)
    patience = schedule.waits(left)
    adam, every, done = Adam(x), left * steps, 0
    best, path, waited = x, [density], 0
    while left > 0:
        shares = (done + np.arange(steps)) / every
        task.stream.advance([adam], schedule.rates(count, shares))
        left, done = left - 1, done + steps
        path.append(task.held_out(adam.average))
        report(len(path) - 1)
        waited += 1
        if path[-1] > density:
            best, density, waited = adam.average.copy(), path[-1], 0
        elif waited >= patience and left > 1:
            skipped = left // 2
            left, done, waited = left - skipped, done + skipped * steps, 0
            adam = Adam(best)  # the moments belong to the path that is given up
    return AdamResult(best, density, np.array(path), steps * (len(path) - 1), is_level(path))


def is_level(path: list[float]) -> bool:
    """Whether densities (epoch,) hardly rose in the last third of the epochs."""
    third = len(path) // 3
    return third > 0 and max(path) - max(path[:-third]) < LEAST_RISE

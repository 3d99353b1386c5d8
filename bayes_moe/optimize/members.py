"""Members of an ensemble: modes or stopped runs, each from a part of the rows, and their weights.

Members leave out a fold of the rows. Runs of Adam go on together, and are stopped where the average
of those that left a row out is best on it, on average over all rows: later than each alone would
be, as an average suffers less from members that follow their rows too closely.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from bayes_moe.core.progress import silent
from bayes_moe.core.threads import in_threads
from bayes_moe.data.matrix import Rows
from bayes_moe.model.allocation import observed_log_density
from bayes_moe.model.evaluation import chunks
from bayes_moe.model.log_density import LogDensity
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.optimize.adam import Adam, RowSplit, Schedule, Stream, is_level, judged
from bayes_moe.optimize.hyperparameters import optimise_hyperparameters
from bayes_moe.optimize.lbfgs import LBFGSResult, search

ROUNDS, SETTLED = 1000, 1e-9
"""Most rounds of the search for weights, and the change of a weight below which it ends."""
CHECKS = 40
"""Times at which runs of Adam may be stopped."""

Values = dict[str, np.ndarray]


def fold_splits(size: int, members: int, share: float, rng: np.random.Generator) -> list[RowSplit]:
    """Split of the rows of each member, into training rows and a held-out fold.

    The folds are a partition of the rows into ``round(1 / share)``, at least two, and members have
    them in turn.
    """
    count = min(max(2, round(1 / share)), size)
    fold = rng.permutation(size) % count
    folds = [RowSplit(np.flatnonzero(fold != j), np.flatnonzero(fold == j)) for j in range(count)]
    return [folds[j % count] for j in range(members)]


class AdamRun:
    """A run of Adam from a point, on the training rows of a split."""

    def __init__(
        self,
        surface: LogDensity,
        x: np.ndarray,
        split: RowSplit,
        schedule: Schedule,
        rng: np.random.Generator,
    ) -> None:
        self.surface, self.split, self.schedule = surface, split, schedule
        self.adam, self.count = Adam(x), len(split.train)
        batch = schedule.batch(self.count)
        self.steps = schedule.passes(self.count) * (self.count // batch)
        self.stream = Stream(surface, split.train, batch, rng)

    def advance(self, until: float) -> None:
        """Continue until a share of the steps is done."""
        shares = np.arange(self.adam.steps, round(until * self.steps)) / self.steps
        self.stream.advance([self.adam], self.schedule.rates(self.count, shares))


def held_out_score(runs: Sequence[AdamRun], points: Sequence[np.ndarray]) -> float:
    """Mean log density of rows under the average of the points whose runs left them out."""
    surface = runs[0].surface
    of_split: dict[int, list[int]] = {}
    for j, run in enumerate(runs):
        of_split.setdefault(id(run.split), []).append(j)
    total, count = 0.0, 0
    for members in of_split.values():
        which = runs[members[0]].split.held_out
        log_density = densities(
            surface, [points[j] for j in members], surface.design.rows.pick(which)
        )
        highest = log_density.max(axis=0)
        with np.errstate(invalid="ignore"):
            average = highest + np.log(np.exp(log_density - highest).mean(axis=0))
        total, count = total + float(average.sum()), count + which.size
    return total / count if np.isfinite(total) else -np.inf


def stopped_runs(
    surface: LogDensity,
    starts: Sequence[Values],
    splits: Sequence[RowSplit],
    schedule: Schedule,
    seeds: Sequence[int],
    cores: int,
    progress: Callable[[int, int], None] = silent,
) -> list[LBFGSResult]:
    """Members by Adam, each from a start, a split of the rows, and a seed for its batches."""
    runs = [
        AdamRun(surface, surface.point(start), split, schedule, np.random.default_rng(j))
        for start, split, j in zip(starts, splits, seeds, strict=True)
    ]
    path: list[float] = []
    for j in range(CHECKS + 1):
        until = j / CHECKS
        for _ in in_threads(partial(AdamRun.advance, until=until), runs, cores):
            pass
        points = [run.adam.average.copy() for run in runs]
        score = held_out_score(runs, points)
        if not path or score > max(path):
            best = points
        path.append(score)
        progress(j, CHECKS)
    settled = is_level(path)
    return [judged(surface, x, run.steps, settled) for x, run in zip(best, runs, strict=True)]


def modes_of_parts(
    surface: LogDensity,
    starts: Sequence[Sequence[Values]],
    splits: Sequence[RowSplit],
    max_iter: int,
    progress: Callable[[int, int], None] = silent,
) -> list[LBFGSResult]:
    """Members by L-BFGS: the best mode given the training rows of a split, from several starts."""
    members = []
    for j, (some, split) in enumerate(zip(starts, splits, strict=True)):
        surface.show(split.train)
        best = optimise_hyperparameters(surface, search(surface, some, max_iter)[:1])[0]
        members.append((best, split))
        progress(j + 1, len(splits))
    surface.show(slice(None))
    return [judged(surface, best.x, best.iterations, best.converged) for best, _ in members]


def densities(surface: LogDensity, points: Sequence[np.ndarray], rows: Rows) -> np.ndarray:
    """Log density (point, obs) of rows at vectors."""
    variables = [surface.variables(x) for x in points]
    return _log_density(
        surface.spec, {n: np.stack([v[n] for v in variables]) for n in variables[0]}, rows
    )


def _log_density(spec: MixtureOfExperts, values: Values, rows: Rows) -> np.ndarray:
    """Log density (point, obs) of rows at variables (point, ...)."""
    result = np.empty((len(next(iter(values.values()))), rows.size))
    for where, part, mixture in chunks(spec, values, rows):
        with np.errstate(all="ignore"):
            result[:, where] = observed_log_density(mixture, part)
    return result


@dataclass(frozen=True)
class HeldOut:
    """Log densities (member, obs) of all rows, which of them a member left out, their weights."""

    log_density: np.ndarray
    left_out: np.ndarray
    row_weights: np.ndarray | None = None

    @classmethod
    def of(
        cls, spec: MixtureOfExperts, values: Values, rows: Rows, splits: Sequence[RowSplit]
    ) -> HeldOut:
        """Log densities of rows under members' variables (member, ...)."""
        log_density = _log_density(spec, values, rows)
        left_out = np.zeros(log_density.shape, dtype=bool)
        for j, split in enumerate(splits):
            left_out[j, split.held_out] = True
        return cls(log_density, left_out, rows.weights)

    @property
    def means(self) -> np.ndarray:
        """Mean log density of the rows that each member left out (member,)."""
        density = np.where(self.left_out, self.log_density, 0.0)
        counts = self.left_out * (1.0 if self.row_weights is None else self.row_weights)
        means: np.ndarray = (density * counts).sum(axis=1) / counts.sum(axis=1)
        return means

    def score(self, weights: np.ndarray) -> float:
        """Mean over rows of the log density under the weighted members that left the row out."""
        seen = self.left_out.any(axis=0)
        values, weights = self._densities(weights, seen)
        by_row = None if self.row_weights is None else self.row_weights[seen]
        return float(np.average(values - np.log(weights), weights=by_row))

    def _densities(self, weights: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shares = np.where(self.left_out[:, seen], weights[:, None], 0.0)
        with np.errstate(divide="ignore"):
            terms = np.log(shares) + self.log_density[:, seen]
        highest = terms.max(axis=0)
        return highest + np.log(np.exp(terms - highest).sum(axis=0)), shares.sum(axis=0)

    def weights(self) -> np.ndarray:
        """Weights of members (member,) of the highest :meth:`score`: stacking.

        Each round maximises a lower bound of the score. Where every row is left out by one member
        alone, the score is the same for all weights, and they are equal.
        """
        members = len(self.log_density)
        weights, seen = np.full(members, 1 / members), self.left_out.any(axis=0)
        out, log_density = self.left_out[:, seen], self.log_density[:, seen]
        for _ in range(ROUNDS):
            total, shares = self._densities(weights, seen)
            taken = np.where(out, weights[:, None] * np.exp(log_density - total), 0.0).sum(axis=1)
            new = taken / np.where(out, 1 / shares, 0.0).sum(axis=1)
            new /= new.sum()
            change, weights = np.abs(new - weights).max(), new
            if change < SETTLED:
                break
        return weights


def resampled(weights: np.ndarray, draws: int) -> np.ndarray:
    """Member of each draw (draw,): members in proportion to their weights, to less than one draw.

    Systematic resampling at evenly spaced positions.
    """
    positions = (np.arange(draws) + 0.5) / draws
    return np.minimum(np.searchsorted(np.cumsum(weights), positions), len(weights) - 1)

"""Paths of responses ahead, simulated step by step, with the mixture of each step given its past.

Experts are not simulated: the weights of a step are those of the mixture, or of the filter of a
Markov gate, given the responses of the same path. So the average over paths of the mixtures of a
step is its marginal distribution with less Monte Carlo error than the responses have themselves
(Rao-Blackwell).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bayes_moe.core.arrays import NUMERIC, Values
from bayes_moe.core.errors import SpecError
from bayes_moe.data.censored_response import INTERVAL
from bayes_moe.data.matrix import Matrix
from bayes_moe.model.blocks import Block
from bayes_moe.model.likelihood import random_expert
from bayes_moe.model.memory import remembered
from bayes_moe.model.mixture import Mixture
from bayes_moe.prediction.filtered_ends import transitions
from bayes_moe.prediction.future_rows import FutureRows
from bayes_moe.prediction.path_features import PathFeatures
from bayes_moe.prediction.path_sources import PathSources
from bayes_moe.prediction.remembered_steps import RememberedSteps, ends_of
from bayes_moe.results.fit import Fit

MOST_NUMBERS = 2**28
"""Numbers that the mixtures of all steps and paths may hold: 2 GiB."""

Params = tuple[dict[str, np.ndarray], ...]


@dataclass(frozen=True, eq=False)
class StoredMixtures:
    """Mixtures (sample * path, expert, row) of rows ahead, and responses simulated from them.

    ``responses`` (sample * path, row), or (sample * path, response, row) of several responses, are
    None where no row ahead looks back at another. ``first`` (sample, expert, series) and ``moves``
    (sample, from, to, row) are then the probabilities of the last fitted row's expert and of the
    moves from there, under a Markov gate.
    """

    mixture: Mixture
    paths: int = 1
    responses: np.ndarray | None = None
    first: np.ndarray | None = None
    moves: np.ndarray | None = None


def simulate_paths(
    fit: Fit, future: FutureRows, draws: Values, paths: int, rng: np.random.Generator
) -> StoredMixtures:
    """Simulate so many paths of each draw.

    Raises
    ------
    SpecError
        For truncated responses, and where the mixtures would not fit into memory.
    """
    structure, samples = fit.spec.structure, len(next(iter(draws.values())))
    limits = _limits(fit, future)
    _check_size(fit, future, samples * paths)
    sources = PathSources.of(fit, future, samples, paths)
    features = PathFeatures(fit, future, samples, paths)
    chain, series = structure.gate.chain, len(future.codes)
    state = None
    if chain is not None:
        state = np.repeat(ends_of(fit, future, draws), paths, axis=-1)
    carried = RememberedSteps.of(fit, future, draws, paths)
    moves = Moves(fit, draws)
    store = _Store(structure.blocks, future, samples, paths)
    for step in range(future.steps):
        matrices = carried.read_by(features.at(step, sources.at(step)))
        params = tuple(block.evaluate(draws, matrices) for block in structure.blocks)
        if state is None:
            log_weights = gate_log_weights(fit, draws, matrices, (samples, series * paths))
        else:
            log_weights = moves.log_weights(matrices, state)
        mixture = Mixture(log_weights, structure.blocks, params)
        drawn = mixture.uncensored.random(rng)
        store.add(step, mixture, drawn)
        by_response = drawn[None] if drawn.ndim == 2 else np.moveaxis(drawn, 1, 0)
        own = None if limits is None else np.repeat(limits[:, future.by_step[step]], paths, axis=-1)
        recorded = by_response if own is None else np.clip(by_response, own[2], own[3])
        if state is not None:
            state = _updated(mixture, recorded, own)
        sources.add(step, recorded)
    return store.stored()


def propagated(fit: Fit, future: FutureRows, draws: Values) -> StoredMixtures:
    """The mixtures of a Markov gate whose rows ahead look back at no other's response.

    Weights are the probabilities of the last fitted row's expert, moved on step by step.
    """
    structure, rows = fit.spec.structure, future.rows
    samples, experts = len(next(iter(draws.values()))), structure.gate.n_experts
    check_size(fit, samples * experts * (experts + len(structure.components)) * rows.size)
    first, matrices = ends_of(fit, future, draws), remembered(structure, draws, rows)
    moves = transitions(structure, draws, matrices)
    moves = np.broadcast_to(moves, (*moves.shape[:3], rows.size))
    weights, state = np.empty((samples, experts, rows.size)), first
    for own in future.by_step:
        state = np.einsum("sjo,sjko->sko", state, moves[..., own])
        weights[..., own] = state
    params = tuple(block.evaluate(draws, matrices) for block in structure.blocks)
    with np.errstate(divide="ignore"):
        mixture = Mixture(np.log(weights), structure.blocks, params)
    return StoredMixtures(mixture, first=first, moves=moves)


def chain_paths(
    stored: StoredMixtures, future: FutureRows, picked: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Joint responses (path, row), or (path, response, row), of picked draws under a Markov gate.

    Experts are drawn move by move, and responses given them.
    """
    assert stored.first is not None
    assert stored.moves is not None
    shape = (len(picked), future.rows.size)
    chosen = np.empty(shape, dtype=np.int64)
    with np.errstate(divide="ignore"):
        first = np.log(stored.first[picked])
        before = random_expert(np.swapaxes(first, -1, -2), rng)  # (path, series)
        for own in future.by_step:
            moves = stored.moves[..., own][picked]  # (path, from, to, series)
            of_state = np.take_along_axis(moves, before[:, None, None], axis=1)[:, 0]
            before = random_expert(np.log(np.swapaxes(of_state, -1, -2)), rng)
            chosen[:, own] = before
    drawn = stored.mixture.take_samples(picked).uncensored.expert_random(rng)
    where = chosen.reshape(len(chosen), *(1,) * (drawn.ndim - 2), -1)
    found: np.ndarray = np.take_along_axis(drawn, where, axis=-2)[..., 0, :]
    return found


def check_size(fit: Fit, numbers: int) -> None:
    """Raise :class:`SpecError` for arrays of more numbers than are held at once."""
    if numbers > MOST_NUMBERS:
        raise SpecError(
            f"The forecast of {fit.spec.response!r} would hold {numbers:.2g} numbers, more than "
            f"{MOST_NUMBERS:.2g}: forecast fewer series at a time (`series`), fewer `steps`, fewer "
            "`paths`, or fewer draws of the posterior."
        )


def _limits(fit: Fit, future: FutureRows) -> np.ndarray | None:
    """Limits (4, row) of what is recorded of rows ahead, which later rows look back at."""
    limits = fit.design.limits
    if limits is None:
        return None
    if limits.bottom is not None or limits.top is not None:
        raise SpecError(
            f"{future.feedback[0].name!r} looks back at responses ahead, which are simulated, and "
            f"{fit.spec.response!r} is truncated: rows beyond the limits would not be recorded, so "
            "it is not known which rows come before another. Forecast as many steps as the term "
            "looks back."
        )
    return fit.design.recording(future.table)


def gate_log_weights(
    fit: Fit, draws: Values, matrices: dict[str, Matrix], shape: tuple[int, int]
) -> np.ndarray:
    """Log weights (sample, expert, series * path) of a gate without memory."""
    gate = fit.spec.structure.gate
    if not gate.heads and gate.features is None:
        return np.zeros((shape[0], 1, shape[1]))
    found = gate.evaluate(draws, matrices)
    return np.broadcast_to(found, (shape[0], gate.n_experts, shape[1]))


class Moves:
    """Moves of a Markov gate (sample, from, to, series * path), kept while features stay."""

    def __init__(self, fit: Fit, draws: Values) -> None:
        self.structure, self.draws = fit.spec.structure, draws
        self.known: tuple[dict[str, Matrix], np.ndarray] | None = None

    def at(self, matrices: dict[str, Matrix]) -> np.ndarray:
        """Probabilities of the moves to the rows of some matrices."""
        own = {h.stem: matrices[h.stem] for h in self.structure.gate.heads}
        if self.known is not None and all(m.equals(self.known[0][n]) for n, m in own.items()):
            return self.known[1]
        moves = transitions(self.structure, self.draws, matrices)
        self.known = own, moves
        return moves

    def log_weights(self, matrices: dict[str, Matrix], state: np.ndarray) -> np.ndarray:
        """Log probabilities (sample, expert, series * path) of the next rows' experts."""
        moves = self.at(matrices)
        moves = np.broadcast_to(moves, (*moves.shape[:3], state.shape[-1]))
        with np.errstate(divide="ignore"):
            found: np.ndarray = np.log(np.einsum("sjo,sjko->sko", state, moves))
        return found


def _updated(mixture: Mixture, responses: np.ndarray, limits: np.ndarray | None) -> np.ndarray:
    """Probabilities (sample, expert, path) of the experts given responses of the paths too.

    ``responses`` are (response, sample, path), as they are recorded within ``limits`` (4, path).
    """
    samples, experts, paths = mixture.log_weights.shape
    known = responses[0] if len(responses) == 1 else responses
    if limits is not None:
        low = np.where(responses[0] <= limits[2], -np.inf, responses[0])
        high = np.where(responses[0] >= limits[3], np.inf, responses[0])
        lower = np.where(responses[0] >= limits[3], limits[3], low)
        upper = np.where(responses[0] <= limits[2], limits[2], high)
        known = np.stack([lower, upper])
        assert len(known) == INTERVAL
    rows = _one_sample(mixture)
    with np.errstate(all="ignore"):
        density = rows.log_components(known.reshape(*known.shape[:-2], -1).astype(float))[0]
    density = np.swapaxes(density.reshape(experts, samples, paths), 0, 1)
    joint = mixture.log_weights + density
    found: np.ndarray = np.exp(joint - NUMERIC.logsumexp(joint, axis=1, keepdims=True))
    # Where no expert has the response, which rounding alone can make, nothing is learned.
    return np.where(np.isfinite(found).all(axis=1, keepdims=True), found, mixture.weights)


def _one_sample(mixture: Mixture) -> Mixture:
    """The mixture whose rows are the paths of all samples (1, expert, sample * path).

    Responses of families are one for each row, the same for all samples.
    """
    samples, _, paths = mixture.log_weights.shape

    def rows(values: np.ndarray) -> np.ndarray:
        if values.ndim == 1:
            return values if len(values) == 1 else np.tile(values, samples)
        full = np.broadcast_to(values, (samples, *values.shape[1:-1], paths))
        return np.moveaxis(full, 0, -2).reshape(1, *values.shape[1:-1], samples * paths)

    params = tuple({n: rows(v) for n, v in named.items()} for named in mixture.params)
    return replace(mixture, log_weights=rows(mixture.log_weights), params=params)


class _Store:
    """Mixtures and responses of all steps, filled one step after the other."""

    def __init__(
        self, blocks: tuple[Block, ...], future: FutureRows, samples: int, paths: int
    ) -> None:
        self.blocks, self.future, self.samples, self.paths = blocks, future, samples, paths
        self.rooms: list[dict[str, np.ndarray]] = []

    def add(self, step: int, mixture: Mixture, responses: np.ndarray) -> None:
        """Keep the mixture (sample, expert, series * path) and the responses of a step."""
        beside = {"log_weights": mixture.log_weights, "responses": responses}
        for j, values in enumerate([beside, *mixture.params]):
            fixed = _constants(self.blocks[j - 1]) if j else frozenset[str]()
            if not step:
                self.rooms.append({n: self._room(v, n in fixed) for n, v in values.items()})
            for name, value in values.items():
                if name not in fixed and self.rooms[j][name].size > 1:
                    self._put(self.rooms[j][name], value, step)

    def _room(self, values: np.ndarray, fixed: bool) -> np.ndarray:
        """Room for values (sample, ..., series * path) of all steps, or constants themselves."""
        series, steps = len(self.future.codes), self.future.steps
        if values.ndim == 1:
            return values if len(values) == 1 else np.empty(series * steps)
        if fixed:
            return np.repeat(values, self.paths, axis=0)
        shape = (self.samples, self.paths, *values.shape[1:-1], series, steps)
        return np.empty(shape, dtype=values.dtype)

    def _put(self, room: np.ndarray, values: np.ndarray, step: int) -> None:
        """Put values of a step into its place."""
        series = len(self.future.codes)
        if values.ndim == 1:
            room[self.future.by_step[step]] = values[:: self.paths]
            return
        full = np.broadcast_to(values, (*values.shape[:-1], series * self.paths))
        split = full.reshape(*full.shape[:-1], series, self.paths)
        room[..., step] = np.moveaxis(split, -1, 1)

    def stored(self) -> StoredMixtures:
        """All of them, samples and paths as one dimension, series and steps as another."""
        kept = [frozenset[str](), *map(_constants, self.blocks)]
        beside, *params = (
            {n: v if n in fixed or v.ndim == 1 else self._flat(v) for n, v in room.items()}
            for fixed, room in zip(kept, self.rooms, strict=True)
        )
        mixture = Mixture(beside["log_weights"], self.blocks, tuple(params))
        return StoredMixtures(mixture, self.paths, beside["responses"])

    def _flat(self, room: np.ndarray) -> np.ndarray:
        """Values (sample * path, ..., row) from those of series and steps apart."""
        kept = room.shape[2:-2]
        flat: np.ndarray = room.reshape(self.samples * self.paths, *kept, -1)
        return flat


def _constants(block: Block) -> frozenset[str]:
    """Parameters that are the same for all rows."""
    free = {c.parameter.name for c in block.components if c.formula is None}
    return frozenset(free | {*block.family.fixed})


def _check_size(fit: Fit, future: FutureRows, paths: int) -> None:
    """Check the size of the mixtures of so many paths in all."""
    by_path = fit.spec.n_experts + len(fit.responses)
    for block in fit.spec.structure.blocks:
        varying = [c for c in block.components if c.formula is not None]
        by_path += sum(c.site.outputs for c in varying)
    check_size(fit, by_path * paths * future.rows.size)

"""What a row's density takes from the rows before it: weights of a chain, outputs with memory.

A model with memory is a mixture whose weights, or parameters, depend on the rows before, so it
cannot be evaluated on a part of the rows by itself. What depends on them is computed here on whole
series, after the fitted rows before these, and chunks of rows pick from it:

* of a Markov gate, log weights ``log P(z_t = k | y_1, ..., y_{t-1})``, and what the rows after say
  of the expert, ``log p(y_{t+1}, ... | z_t = k)`` up to a constant, so that responsibilities are
  smoothed probabilities;
* of predictors with memory, such as recurrent networks, their outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from os import cpu_count

import numpy as np

from bayes_moe.core.arrays import NUMERIC, Values
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.core.threads import in_threads
from bayes_moe.data.matrix import Matrix, Rows
from bayes_moe.data.sequences import Sequences
from bayes_moe.model import chains
from bayes_moe.model.mixture import Mixture
from bayes_moe.model.structure import Structure

MOST_BYTES = 2 * 2**30
"""Largest arrays of weights of all draws on all rows."""
PART = 2**22
"""Numbers of the transitions of some draws that are computed at once."""

Outputs = Mapping[str, np.ndarray]
"""Outputs (sample, output, obs) of predictors with memory, by stem."""


@dataclass(frozen=True)
class Memory:
    """What depends on the rows before, on some rows.

    Attributes
    ----------
    outputs : mapping of str to array
        Outputs (sample, output, obs) of predictors with memory, without offsets, by stem.
    log_weights : array (sample, expert, obs) or None
        ``log P(z_t = k | y_1, ..., y_{t-1})`` of a Markov gate.
    log_future : array (sample, expert, obs) or None
        What the rows after say of the expert.
    """

    outputs: Outputs
    log_weights: np.ndarray | None = None
    log_future: np.ndarray | None = None

    def pick(self, where: slice | np.ndarray) -> Memory:
        """The same on the rows at some positions."""
        picked = {stem: values[..., where] for stem, values in self.outputs.items()}
        arrays = (self.log_weights, self.log_future)
        return Memory(picked, *(None if a is None else a[..., where] for a in arrays))

    def read_by(self, matrices: Mapping[str, Matrix]) -> Mapping[str, Matrix]:
        """Matrices whose predictors have their outputs."""
        if not self.outputs:
            return matrices
        known = {stem: replace(matrices[stem], outputs=own) for stem, own in self.outputs.items()}
        return {**matrices, **known}


def memory_of(structure: Structure, draws: Values, rows: Rows, *, compiled: bool) -> Memory | None:
    """What draws (sample, ...) take from the rows before; None of a model without memory.

    Rows that are a part of others are read with all of these.

    Raises
    ------
    DataError
        For rows without times, or in another order.
    SpecError
        If the weights of all draws would take more than :data:`MOST_BYTES`.
    """
    if not structure.has_memory:
        return None
    whole, at = (rows, None) if rows.part_of is None else rows.part_of
    check_in_time(structure, whole)
    found = Memory(_outputs(structure, draws, whole))
    if structure.gate.chain is not None:
        found = _with_weights(structure, draws, whole, found, compiled)
    return found if at is None else found.pick(at)


def check_in_time(structure: Structure, rows: Rows) -> None:
    """Raise :class:`DataError` for rows that a model with memory cannot follow one by one."""
    if structure.has_memory and rows.sequences is None:
        raise DataError(
            "The model's predictions depend on the rows before: give the table the columns of "
            "`time` (and `series`), with times that increase within each series."
        )


def last_experts(
    structure: Structure, draws: Values, rows: Rows, *, compiled: bool = False
) -> np.ndarray:
    """Probabilities (sample, series, expert) of the expert of the row before each series of rows.

    NaN where no fitted row comes before.
    """
    chain, sequences, before = structure.gate.chain, rows.sequences, rows.before
    assert chain is not None
    assert sequences is not None
    samples = len(next(iter(draws.values())))
    found = np.full((samples, len(sequences.starts), chain.n_experts), np.nan)
    if before is None:
        return found
    memory = Memory(_outputs(structure, draws, before))
    for where, own in _parts(structure, draws, before.size):
        part = _filters(structure, own, before, _some(memory, where), None, compiled)
        _put(found[where], np.exp(part.log_last), before, rows)
    return found


def remembered(structure: Structure, draws: Values, rows: Rows) -> Mapping[str, Matrix]:
    """Matrices of whole series of rows, those of predictors with memory with their outputs."""
    return Memory(_outputs(structure, draws, rows)).read_by(rows.matrices)


def has_unseen_path(structure: Structure, rows: Rows) -> bool:
    """Whether rows are steps of a chain of which no response is known.

    Draws of their responses then share a path of experts; otherwise each is given the rows before.
    """
    return structure.gate.chain is not None and rows.response is None


@dataclass(frozen=True)
class ChainPart:
    """The chain of some draws on whole series.

    Attributes
    ----------
    where : slice
        Positions of the draws.
    log_moves : array (sample, from, to, obs)
        Log probabilities of moves.
    log_f : array (sample, expert, obs)
        Log densities; zero without responses.
    before : array (sample, series, expert)
        Probabilities of the expert of the row before each series, NaN without one.
    filters : Filters
        Filters of the series.
    """

    where: slice
    log_moves: np.ndarray
    log_f: np.ndarray
    before: np.ndarray
    filters: chains.Filters


def chain_parts(structure: Structure, draws: Values, rows: Rows) -> Iterator[ChainPart]:
    """The chain of some draws at a time on whole series, in NumPy."""
    chain = structure.gate.chain
    assert chain is not None
    before = last_experts(structure, draws, rows)
    memory = Memory(_outputs(structure, draws, rows))
    for where, own in _parts(structure, draws, rows.size):
        eta, log_f = _read(structure, own, rows, _some(memory, where), compiled=False)
        found = chains.filters(chain, eta, log_f, _sequences(rows), before[where])
        moves = chain.log_transitions(eta, NUMERIC)
        yield ChainPart(where, moves, log_f, before[where], found)


def random_paths(
    structure: Structure, draws: Values, rows: Rows, rng: np.random.Generator
) -> np.ndarray:
    """Experts (sample, obs) of rows, drawn along the chain after the fitted rows before.

    Responses of the rows themselves are not read.
    """
    chain, sequences = structure.gate.chain, rows.sequences
    assert chain is not None
    assert sequences is not None
    matrices = Memory(_outputs(structure, draws, rows)).read_by(rows.matrices)
    uniform = rng.random((len(next(iter(draws.values()))), rows.size))
    paths = np.empty(uniform.shape, dtype=np.int64)
    before = last_experts(structure, draws, rows)
    for where, own in _parts(structure, draws, rows.size):
        eta = structure.gate.eta(own, matrices)
        paths[where] = chains.random_paths(chain, eta, sequences, before[where], uniform[where])
    return paths


def _with_weights(
    structure: Structure, draws: Values, rows: Rows, memory: Memory, compiled: bool
) -> Memory:
    """Memory with the weights of a Markov gate on whole series."""
    samples, experts = len(next(iter(draws.values()))), structure.gate.n_experts
    size = 2 * 8 * samples * experts * rows.size
    if size > MOST_BYTES:
        raise SpecError(
            f"Weights of {samples} draws on {rows.size} rows that depend on those before would "
            f"take {size / 1e9:.1f} GB, more than {MOST_BYTES / 1e9:.1f} GB: take fewer rows at "
            "once, or a fit with fewer draws."
        )
    weights = np.empty((samples, experts, rows.size))
    future = np.empty_like(weights)
    before = last_experts(structure, draws, rows, compiled=compiled)

    def fill(part: tuple[slice, Values]) -> None:
        where, own = part
        known = _some(memory, where)
        found = _filters(structure, own, rows, known, before[where], compiled)
        weights[where], future[where] = found.log_predicted, found.log_future

    # Compiled loops release the interpreter lock.
    for _ in in_threads(fill, _parts(structure, draws, rows.size), (cpu_count() or 1)):
        pass
    return replace(memory, log_weights=weights, log_future=future)


def _filters(
    structure: Structure,
    draws: Values,
    rows: Rows,
    memory: Memory,
    before: np.ndarray | None,
    compiled: bool,
) -> chains.Filters:
    """Filters of some draws on whole series."""
    assert structure.gate.chain is not None
    eta, log_f = _read(structure, draws, rows, memory, compiled=compiled)
    sequences = _sequences(rows)
    return chains.filters(structure.gate.chain, eta, log_f, sequences, before, compiled=compiled)


def _sequences(rows: Rows) -> Sequences:
    """Sequences of whole series."""
    assert rows.sequences is not None
    return rows.sequences


def _read(
    structure: Structure, draws: Values, rows: Rows, memory: Memory, *, compiled: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Outputs of the gate (sample, output, obs) and log densities (sample, expert, obs)."""
    gate, matrices = structure.gate, memory.read_by(rows.matrices)
    eta = gate.eta(draws, matrices)
    log_f = np.zeros((len(eta), gate.n_experts, rows.size))
    if rows.response is not None:
        params = tuple(block.evaluate(draws, matrices) for block in structure.blocks)
        made = Mixture(log_f, structure.blocks, params)
        if compiled:
            from bayes_moe.model.compiled_mixture import CompiledMixture

            made = CompiledMixture(log_f, structure.blocks, params)
        log_f = made.log_components(rows.response)
    return eta, log_f


def _outputs(structure: Structure, draws: Values, rows: Rows) -> Outputs:
    """Outputs of predictors with memory on rows, after the rows before."""
    found = {}
    for site, predictor in structure.sites:
        if getattr(predictor, "has_memory", False):
            matrix = rows.matrices[site.stem]
            if rows.before is not None:
                matrix = _joined(rows.before, rows, site.stem)
            values = predictor.evaluate(site.bind(matrix), draws)
            found[site.stem] = values[..., values.shape[-1] - rows.size :]
    return found


def _joined(before: Rows, rows: Rows, stem: str) -> Matrix:
    """Features of rows before, and of these after them in their series."""
    first, then = before.matrices[stem], rows.matrices[stem]
    series = [s for s in (before.observation.series, rows.observation.series) if s is not None]
    codes = np.concatenate(series) if len(series) == 2 else None
    sequences = Sequences.of(codes, before.size + rows.size)
    return replace(
        then, values=np.concatenate([first.values, then.values]), offset=None, sequences=sequences
    )


def _put(to: np.ndarray, last: np.ndarray, before: Rows, rows: Rows) -> None:
    """Put probabilities of series of the rows before to those of the same series of rows."""
    ends = {code: j for j, code in enumerate(_first_codes(before))}
    for q, code in enumerate(_first_codes(rows)):
        if code in ends:
            to[:, q] = last[:, ends[code]]


def _first_codes(rows: Rows) -> list[int]:
    """Number of each series of rows, as the table's, in the order of their sequences."""
    sequences, series = rows.sequences, rows.observation.series
    assert sequences is not None
    if series is None:
        return [0]
    order = np.arange(rows.size) if sequences.order is None else sequences.order
    codes: list[int] = series[order[sequences.starts]].tolist()
    return codes


def _parts(structure: Structure, draws: Values, size: int) -> Iterator[tuple[slice, Values]]:
    """Positions of some draws at a time, and these."""
    chain = structure.gate.chain
    assert chain is not None
    samples = len(next(iter(draws.values())))
    step = max(1, PART // max(chain.outputs * size, 1))
    for start in range(0, samples, step):
        where = slice(start, min(start + step, samples))
        yield where, {name: values[where] for name, values in draws.items()}


def _some(memory: Memory, where: slice) -> Memory:
    """Outputs of some draws."""
    return Memory({stem: values[where] for stem, values in memory.outputs.items()})

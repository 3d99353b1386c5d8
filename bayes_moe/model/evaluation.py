"""Posterior draws + rows -> the mixture's arrays: the one reading of a fit's parameters.

Everything that reads a fit (prediction, relabelling, diagnosis, starting points) goes through
:func:`evaluate`, in chunks of rows, so that memory is bounded whatever the table's length. Large
work is done by compiled loops (:mod:`bayes_moe.model.compiled_mixture`), small work in NumPy, which
needs nothing to be imported or compiled: :func:`is_compiled` decides.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from os import cpu_count

import numpy as np

from bayes_moe.core.arrays import Values
from bayes_moe.core.threads import in_threads
from bayes_moe.data.matrix import Rows
from bayes_moe.model.allocation import observed_log_density, whole_groups
from bayes_moe.model.group_integrals import GroupIntegrals
from bayes_moe.model.memory import Memory, memory_of
from bayes_moe.model.missing_features import evaluate_incomplete, has_gaps
from bayes_moe.model.mixture import Mixture
from bayes_moe.model.shared_effects import (
    KNOWN_GROUPS,
    fitted_groups,
    has_shared_effects,
    with_known_weights,
)
from bayes_moe.model.spec import MixtureOfExperts

CHUNK_ELEMENTS = 2**18
"""Elements of a (sample, expert, obs) array that a chunk of rows may hold: 2 MiB, for caches."""

COMPILED_ROWS = 32
"""Least rows of a chunk for compiled loops, which run along rows, unless it were too large."""

COMPILED_ELEMENTS = 2**18
"""Elements of the (sample, expert, obs) arrays of all rows from which compiled loops save time.

Where numba is not imported yet, which takes as long as NumPy needs for some ten million elements,
the number is :data:`IMPORT_FACTOR` times as large.
"""
IMPORT_FACTOR = 2**7

SHARED_ELEMENTS = 2**22
"""Elements from which threads share the chunks: fewer take some hundredths of a second."""

Where = slice | np.ndarray
"""Positions of the rows of a chunk."""

KEPT_BYTES = 31 * 2**20
"""Just below the limit of the C library."""


def is_compiled(elements: int) -> bool:
    """Whether work on arrays of so many elements is left to compiled loops."""
    imported = "numba" in sys.modules
    return elements >= COMPILED_ELEMENTS * (1 if imported else IMPORT_FACTOR)


def memory(spec: MixtureOfExperts, draws: Values, rows: Rows) -> Memory | None:
    """What draws take from the rows before; None of a model without memory.

    Raises
    ------
    DataError, SpecError
        See :func:`bayes_moe.model.memory.memory_of`.
    """
    compiled = is_compiled(_elements_by_row(spec, draws) * rows.size)
    return memory_of(spec.structure, draws, rows, compiled=compiled)


def evaluate(
    spec: MixtureOfExperts,
    draws: Values,
    rows: Rows,
    *,
    compiled: bool = False,
    known: Memory | None = None,
) -> Mixture:
    """The mixture of posterior draws (sample, ...) of the reported variables on rows.

    ``known`` is what a model with memory takes from the rows before; without it, it is computed.

    Raises
    ------
    DataError
        For rows with a count that cannot be, such as half a trial.
    """
    for block in spec.structure.blocks:
        block.check_known(rows)
    if spec.structure.has_memory:
        found = memory(spec, draws, rows) if known is None else known
        assert found is not None
        return _remembered(spec, draws, rows, found, compiled=compiled)
    mixture = _mixture(spec, draws, rows, compiled=compiled)
    group = spec.row_columns.group
    if group is None or not has_shared_effects(spec.structure, spec.row_columns):
        return mixture
    mixture = replace(mixture, integrals=GroupIntegrals(group, draws))
    if KNOWN_GROUPS not in draws:
        return mixture
    codes, _ = fitted_groups(spec.structure, spec.row_columns, rows.matrices)
    weights = with_known_weights(mixture.log_weights, draws[KNOWN_GROUPS], codes)
    return replace(mixture, log_weights=weights)


def _mixture(spec: MixtureOfExperts, draws: Values, rows: Rows, *, compiled: bool) -> Mixture:
    """The mixture of draws on rows, in NumPy or compiled."""
    structure, gate = spec.structure, spec.structure.gate
    if gate.features is not None and has_gaps(gate.features, rows):
        incomplete = evaluate_incomplete(structure, draws, rows)
        mixture = Mixture(incomplete.log_weights, structure.blocks, incomplete.params)
        return _compiled(mixture) if compiled else mixture
    params = tuple(block.evaluate(draws, rows.matrices) for block in structure.blocks)
    if compiled and gate.heads and (gate.splits is not None or gate.features is not None):
        from bayes_moe.model.compiled_mixture import CompiledMixture, log_weights, softmax_of

        if gate.features is not None:
            outputs = gate.features.log_joint(draws, rows.matrices)
        else:
            outputs = gate.eta(draws, rows.matrices)
        splits = gate.splits if gate.features is None else None
        weights = log_weights(outputs, splits or softmax_of(gate.n_experts))
        return CompiledMixture(weights[0], structure.blocks, params, gate_weights=weights[1])
    mixture = Mixture(gate.evaluate(draws, rows.matrices), structure.blocks, params)
    return _compiled(mixture) if compiled else mixture


def _remembered(
    spec: MixtureOfExperts, draws: Values, rows: Rows, found: Memory, *, compiled: bool
) -> Mixture:
    """The mixture of draws of a model with memory on rows."""
    rows = replace(rows, matrices=found.read_by(rows.matrices))
    if found.log_weights is None:
        return _mixture(spec, draws, rows, compiled=compiled)
    blocks = spec.structure.blocks
    params = tuple(block.evaluate(draws, rows.matrices) for block in blocks)
    mixture = Mixture(found.log_weights, blocks, params)
    mixture = _compiled(mixture) if compiled else mixture
    return replace(mixture, log_future=found.log_future)


def _compiled(mixture: Mixture) -> Mixture:
    """Return a mixture with compiled loops, from one of known log weights."""
    from bayes_moe.model.compiled_mixture import CompiledMixture

    return CompiledMixture(mixture.log_weights, mixture.blocks, mixture.params, mixture.sparse)


def log_likelihood(spec: MixtureOfExperts, draws: Values, rows: Rows) -> np.ndarray:
    """Log likelihood (sample,) of rows by their weights, with that of features of the gate."""
    features = spec.structure.gate.features

    def of_chunk(where: Where, part: Rows, mixture: Mixture) -> np.ndarray:
        with np.errstate(all="ignore"):
            density = observed_log_density(mixture, part)
            if features is not None:
                density = density + features.log_density(draws, part.matrices)
            return part.counted(density).sum(axis=-1)

    total = np.zeros(len(next(iter(draws.values()))))
    for part in map_chunks(of_chunk, spec, draws, rows):
        total += part
    return total


def chunks(
    spec: MixtureOfExperts, draws: Values, rows: Rows, known: Memory | None = None
) -> Iterator[tuple[Where, Rows, Mixture]]:
    """Positions, rows and mixture of one bounded chunk of rows after another.

    Of rows that share an expert by group, a chunk has all rows of its groups, which need not be
    next to each other.
    """
    compiled, slices = _plan(spec, draws, rows)
    known = memory(spec, draws, rows) if known is None else known
    for where in slices:
        part, own = rows.pick(where), None if known is None else known.pick(where)
        yield where, part, evaluate(spec, draws, part, compiled=compiled, known=own)


def map_chunks[Result](
    function: Callable[[Where, Rows, Mixture], Result],
    spec: MixtureOfExperts,
    draws: Values,
    rows: Rows,
    known: Memory | None = None,
) -> Iterator[Result]:
    """A function of what :func:`chunks` yields, chunk by chunk, computed by threads."""
    compiled, slices = _plan(spec, draws, rows)
    known = memory(spec, draws, rows) if known is None else known

    def of_chunk(where: Where) -> Result:
        part, own = rows.pick(where), None if known is None else known.pick(where)
        return function(where, part, evaluate(spec, draws, part, compiled=compiled, known=own))

    shared = _elements_by_row(spec, draws) * rows.size >= SHARED_ELEMENTS
    # NumPy and the compiled loops release the interpreter lock.
    return in_threads(of_chunk, slices, (cpu_count() or 1) if shared else 1)


def _elements_by_row(spec: MixtureOfExperts, draws: Values) -> int:
    """Elements of an array (sample, expert) of all draws."""
    return len(next(iter(draws.values()))) * spec.n_experts


def _plan(spec: MixtureOfExperts, draws: Values, rows: Rows) -> tuple[bool, Iterable[Where]]:
    """Whether loops are compiled, and the positions of each chunk."""
    by_row = _elements_by_row(spec, draws)
    compiled = is_compiled(by_row * rows.size)
    step = max(1, CHUNK_ELEMENTS // by_row)
    if compiled:
        _keep_freed_memory()
        step = max(step, min(COMPILED_ROWS, 4 * CHUNK_ELEMENTS // by_row))
    if rows.observation.group is not None and rows.size:
        return compiled, whole_groups(rows, step)
    starts = range(0, max(rows.size, 1), step)
    return compiled, [slice(start, min(start + step, rows.size)) for start in starts]


def _keep_freed_memory() -> None:
    """Let freed arrays of a chunk's size be used again, without going back to the system.

    The system clears each new page of memory, which takes longer than the compiled loops. The
    C library of Linux keeps arrays of a size that it has seen freed, up to 32 MiB.
    """
    np.empty(KEPT_BYTES, dtype=np.uint8)

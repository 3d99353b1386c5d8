"""Responses of series simulated row by row, where terms look back at the responses themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.arrays import Values
from bayes_moe.core.errors import DataError, SpecError, listed
from bayes_moe.data.design import Design
from bayes_moe.data.past_rows import past_rows
from bayes_moe.data.time_terms import TimeTerm, numbers_of, time_terms
from bayes_moe.data.timeline import Timeline
from bayes_moe.model.likelihood import random_expert
from bayes_moe.model.markov_chain import log_initial
from bayes_moe.model.mixture import Mixture
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.prediction.future_rows import FutureRows
from bayes_moe.prediction.path_features import PathFeatures
from bayes_moe.prediction.path_sources import PathSources
from bayes_moe.prediction.simulated_paths import Moves, gate_log_weights
from bayes_moe.predictors.random_effects import RandomEffects
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import pandas as pd

GOLDEN = 0.6180339887498949


def simulated_series(
    spec: MixtureOfExperts,
    design: Design,
    draw: Values,
    terms: Sequence[TimeTerm],
    table: pd.DataFrame,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Responses (response, obs) of the rows of a design, and the experts (obs,) that made them.

    All series take their next row at once. Responses before the first rows are those of ``table``;
    ``draw`` (1, ...) are the parameters. A Markov chain begins at the first rows of the design, as
    it does in the likelihood.

    Raises
    ------
    SpecError
        For terms in places where forecasts do not have them either.
    """
    known = Fit(spec, _before(design, table, terms), _empty_tree())
    rows, lengths, future = _side_by_side(design, table, terms)
    sources, features = PathSources.of(known, future, 1, 1), PathFeatures(known, future, 1, 1)
    moves, chain, blocks = Moves(known, draw), spec.structure.gate.chain, spec.structure.blocks
    state, responses, chosen = None, None, np.empty(design.rows.size, dtype=np.int64)
    for step in range(future.steps):
        matrices = features.at(step, sources.at(step))
        if chain is None:
            log_weights = gate_log_weights(known, draw, matrices, (1, len(lengths)))
        elif state is None:
            log_weights = _first_experts(moves, matrices, len(lengths))
        else:
            log_weights = moves.log_weights(matrices, state)
        params = tuple(block.evaluate(draw, matrices) for block in blocks)
        mixture = Mixture(log_weights, blocks, params)
        expert = random_expert(np.swapaxes(log_weights, -1, -2), rng)
        drawn = mixture.random(rng, chosen=expert)
        by_response = drawn[None] if drawn.ndim == 2 else np.moveaxis(drawn, 1, 0)
        sources.add(step, by_response)
        state = np.eye(spec.n_experts)[expert].swapaxes(-1, -2)
        if responses is None:
            responses = np.empty((len(by_response), design.rows.size), dtype=drawn.dtype)
        there = lengths > step
        at = rows[there, step]
        responses[:, at], chosen[at] = by_response[:, 0, there], expert[0, there]
    assert responses is not None
    return responses, chosen


def check_in_turn(spec: MixtureOfExperts, terms: Sequence[TimeTerm]) -> None:
    """Raise :class:`SpecError` for models whose rows cannot be simulated one after the other."""
    for site, predictor in spec.structure.sites:
        if getattr(predictor, "has_memory", False):
            raise SpecError(
                f"{predictor!r} of {site.stem!r} remembers all rows before, and "
                f"{terms[0].name!r} reads responses that are to be simulated: both together are "
                "not supported. Leave one of them out."
            )
    if spec.row_columns.group is not None:
        raise SpecError(
            f"{terms[0].name!r} reads responses that are to be simulated, and rows share an expert "
            f"by {spec.row_columns.group!r}: both together are not supported. Leave one of them "
            "out."
        )


def with_stand_ins(
    spec: MixtureOfExperts,
    table: pd.DataFrame,
    terms: Sequence[TimeTerm],
    responses: Sequence[str],
    *,
    shift: float = 0.0,
) -> pd.DataFrame:
    """Table with any numbers in place of responses that are still to be simulated.

    The same table if it has all responses. ``shift`` makes other numbers.

    Raises
    ------
    DataError
        For first rows of a series that lack the responses from which lags go on.
    """
    read = [name for name in responses if any(name in t.columns for t in terms)]
    absent = [name for name in read if name not in table]
    if absent:
        term = next(t for t in terms if absent[0] in t.columns)
        raise DataError(
            f"{term.name!r} needs the responses of the first row(s) of each series, from which the "
            f"simulation goes on: give the table a column {absent[0]!r} with these, and missing "
            "values in the other rows."
        )
    numbers = table.assign(**{name: numbers_of(table[name], terms) for name in read})
    every = time_terms(spec.expressions, table.columns)
    line = past_rows(numbers, spec.row_columns, [t.name for t in every]).timeline
    assert line is not None
    first = line.without_past(every)
    for term in terms:
        _check_start(line, term, max(t.reach for t in every), numbers)
    found = {}
    for name in read:
        values = numbers[name].to_numpy(copy=True)
        missing = np.isnan(values)
        if missing.any():
            spread = (np.arange(len(values)) * (1 + shift) * GOLDEN + shift / 3) % 1
            values[missing] = np.nanmean(values[first]) + spread[missing]
            found[name] = values
    return table.assign(**found) if found else table


def _check_start(line: Timeline, term: TimeTerm, begin: int, table: pd.DataFrame) -> None:
    """Raise :class:`DataError` for rows before those that are simulated without a source.

    ``begin`` is the position in each series where the simulation begins.
    """
    for start in line.sequences.starts:
        rows = line.order[start + begin - term.reach : start + begin]
        for name in term.columns:
            absent = rows[table[name].isna().to_numpy()[rows]]
            if absent.size:
                of = line.of_series(int(line.codes[absent[0]]))
                raise DataError(
                    f"{term.name!r} needs {name!r} in the {term.reach} row(s) before row "
                    f"{line.order[start + begin]}{of}, where the simulation begins; it is missing "
                    f"in row(s) {listed(absent)}. Give numbers there."
                )


def check_same_columns(
    spec: MixtureOfExperts, design: Design, other: Design, terms: Sequence[TimeTerm]
) -> None:
    """Raise :class:`SpecError` for columns that depend on which responses a table has.

    ``other`` is the design of the same rows with other responses.
    """
    sites = {site.stem: predictor for site, predictor in spec.structure.sites}
    for stem, formula in design.formulas.items():
        read = [t.name for t in terms if t.name in design.columns and _reads(formula, t.name)]
        if not read or stem not in sites:  # the gate of one expert has no predictor
            continue
        columns, labels = design.texts.applied(design.columns), design.rows.obs_id
        own, moved = (d._fitted[stem].apply(columns, labels) for d in (design, other))
        predictor = sites[stem]
        plain = predictor.portable or isinstance(predictor, RandomEffects)
        if not plain or not np.allclose(own, moved, rtol=1e-9, atol=1e-12, equal_nan=True):
            raise SpecError(
                f"The columns of {stem!r} ({formula!r}, {predictor!r}) depend on all responses "
                f"that {read[0]!r} reads, as knots, scales and bounds do, and these are to be "
                "simulated: give the table responses in all rows, which then say what the "
                "coefficients mean."
            )


def _reads(formula: str, name: str) -> bool:
    return "".join(name.split()) in "".join(formula.split())


def _empty_tree() -> Any:
    import xarray as xr

    return xr.DataTree()


def _before(design: Design, table: pd.DataFrame, terms: Sequence[TimeTerm]) -> Design:
    """Design whose rows in time end where the simulation begins."""
    line = design.past.timeline
    assert line is not None
    made = [t for t in design.past.terms if t.name not in table]
    first = np.flatnonzero(line.without_past(made))
    own = line.table.iloc[first].reset_index(drop=True)
    for name in {c for t in terms for c in t.columns}:
        own[name] = numbers_of(table[name], terms)[first]
    ending = Timeline(line.columns, own, line.times[first], line.codes[first], line.labels)
    return replace(design, past=replace(design.past, timeline=ending))


def _side_by_side(
    design: Design, table: pd.DataFrame, terms: Sequence[TimeTerm]
) -> tuple[np.ndarray, np.ndarray, FutureRows]:
    """Positions (series, step) of the design's rows, numbers of rows, and the rows by step.

    The last row of a shorter series is repeated; what is simulated there is not read.
    """
    seen, line = design.rows.observation, design.past.timeline
    assert line is not None
    assert seen.time is not None
    assert seen.series is not None
    own = []
    for code in range(len(line.labels)):
        at = np.flatnonzero(seen.series == code)
        own.append(at[np.argsort(seen.time[at], kind="stable")])
    lengths = np.array([len(at) for at in own])
    rows = np.array([np.append(at, np.full(lengths.max() - len(at), at[-1])) for at in own])
    picked = replace(design.rows.pick(rows.ravel()), part_of=None)
    columns = table.iloc[design.rows.obs_id[rows.ravel()]].reset_index(drop=True)
    future = FutureRows(
        picked, columns, line.labels, tuple(range(len(own))), seen.time[rows], tuple(terms)
    )
    return rows, lengths, future


def _first_experts(moves: Moves, matrices: Any, series: int) -> np.ndarray:
    """Log probabilities (1, expert, series) of the experts of the first rows."""
    chain = moves.structure.gate.chain
    assert chain is not None
    with np.errstate(divide="ignore"):
        by_row = np.moveaxis(np.log(moves.at(matrices)), -1, 1)
    first = np.swapaxes(log_initial(chain.initial, by_row), -1, -2)
    return np.broadcast_to(first, (1, chain.n_experts, series))

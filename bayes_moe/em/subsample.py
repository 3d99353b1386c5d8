"""The part of a long table on which runs start, and its modes from which runs on all rows do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayes_moe.data.matrix import Rows
from bayes_moe.data.sequences import Sequences
from bayes_moe.em.chain_mixture import has_chain
from bayes_moe.em.modes import Modes
from bayes_moe.em.objective import Objective
from bayes_moe.model.allocation import random_rows

WINDOWS = 5
"""Windows of a long table that a subsample of series consists of."""
CLOSE = 50.0
"""Nats on the subsample that a mode of a Markov chain may be below the best to be a finalist."""


def finalists(rough: Modes, most: int) -> np.ndarray:
    """Modes of a subsample from which runs on all rows start, the best first."""
    best = np.argsort(rough.singular, kind="stable")[:most]
    assert rough.objective is not None
    if has_chain(rough.objective.vector):  # whose runs take long
        best = best[rough.value[best] >= rough.value[best[0]] - CLOSE]
    return best


def some_rows(objective: Objective, most: int, rng: np.random.Generator) -> Rows:
    """Random rows of which runs start: windows of series, where experts are a chain."""
    if has_chain(objective.vector):
        return window_rows(objective.rows, most, rng)
    rows = objective.vector.design.rows
    return rows.pick(random_rows(rows, most, rng))


def window_rows(rows: Rows, most: int, rng: np.random.Generator) -> Rows:
    """About ``most`` rows in random windows of series, each of which counts as a series.

    The rows are one series after the other.
    """
    length, count = most // WINDOWS, rows.size
    each = count // WINDOWS  # so that windows do not overlap
    firsts = np.arange(WINDOWS) * each + rng.integers(0, each - length + 1, WINDOWS)
    at = (firsts[:, None] + np.arange(length)).ravel()
    window = np.repeat(np.arange(WINDOWS), length)
    series = Sequences.of(rows.observation.series, count).code[at]
    code = np.unique(np.column_stack([window, series]), axis=0, return_inverse=True)[1]
    picked = rows.pick(at)
    return replace(picked, observation=replace(picked.observation, series=code.ravel()))

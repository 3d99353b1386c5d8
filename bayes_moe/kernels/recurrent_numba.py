"""Functions of recurrent cells for graphs that numba compiles: states, and slopes by weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bayes_moe.kernels.compile import VERSION
from bayes_moe.kernels.recurrent import CELLS, GATES, GRU, KEPT, backward, forward

KEY = VERSION
"""Begin of the keys of compiled functions: a digest of the sources."""


def states_function(name: str) -> Callable[..., Any]:
    """Return the function of features, weights and constants that numba compiles."""
    cell, gates, number = CELLS[name], GATES[name], KEPT[name]

    def all_states(features: Any, inputs: Any, recurrent: Any, bias: Any) -> Any:
        rows, (copies, _, units, terms) = len(features), inputs.shape
        wide = gates * units
        z = np.ascontiguousarray(features[:, :terms])
        previous = features[:, terms].astype(np.int64)
        states, kept = np.empty((copies, rows, units)), np.empty((copies, rows, number * units))
        place = np.empty(2 * wide)
        for copy in range(copies):
            of_terms = np.ascontiguousarray(inputs[copy]).reshape((wide, terms))
            kept[copy, :, :wide] = np.dot(z, np.ascontiguousarray(of_terms.T))
            weights = np.ascontiguousarray(recurrent[copy]).reshape((wide, units))
            turned = np.ascontiguousarray(weights.T)
            forward(cell, previous, turned, bias[copy], states[copy], kept[copy], place)
        return states, kept

    if cell == GRU:
        return all_states

    def states_without_bias(features: Any, inputs: Any, recurrent: Any) -> Any:
        return all_states_(features, inputs, recurrent, np.zeros((inputs.shape[0], 1)))

    all_states_ = _jitable(all_states)
    return states_without_bias


def slopes_function(name: str) -> Callable[..., Any]:
    """Return the function of features, weights, states and derivatives that numba compiles."""
    cell, gates = CELLS[name], GATES[name]

    def all_slopes(features: Any, recurrent: Any, states: Any, kept: Any, slopes: Any) -> Any:
        rows, terms = len(features), features.shape[1] - 1
        copies, units = recurrent.shape[0], recurrent.shape[2]
        wide = gates * units
        z = np.ascontiguousarray(features[:, :terms])
        previous = features[:, terms].astype(np.int64)
        by_inputs, by_state = np.empty((copies, wide, terms)), np.empty((copies, wide, units))
        by_bias, place = np.zeros((copies, units)), np.empty(units)
        before = np.zeros((rows, units))
        for copy in range(copies):
            for t in range(rows):
                if previous[t] >= 0:
                    before[t] = states[copy, previous[t]]
            weights = np.ascontiguousarray(recurrent[copy]).reshape((wide, units))
            of_rows, total = kept[copy].copy(), slopes[copy].copy()
            backward(cell, previous, weights, states[copy], of_rows, total, place)
            by_sums = np.ascontiguousarray(of_rows[:, :wide].T)
            by_inputs[copy] = np.dot(by_sums, z)
            by_state[copy] = np.dot(by_sums, before)
            if cell == GRU:
                by_product = np.ascontiguousarray(of_rows[:, wide:].T)
                by_state[copy, 2 * units :] = np.dot(by_product, before)
                by_bias[copy] = by_product.sum(axis=1)
        shape = (copies, gates, units)
        return by_inputs.reshape((*shape, terms)), by_state.reshape((*shape, units)), by_bias

    if cell == GRU:
        return all_slopes

    def slopes_without_bias(
        features: Any, recurrent: Any, states: Any, kept: Any, slopes: Any
    ) -> Any:
        found = all_slopes_(features, recurrent, states, kept, slopes)
        return found[0], found[1]

    all_slopes_ = _jitable(all_slopes)
    return slopes_without_bias


def _jitable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that other compiled functions may call."""
    from numba.extending import register_jitable

    jitable: Callable[..., Any] = register_jitable(function)
    return jitable

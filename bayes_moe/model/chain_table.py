"""What the table of a compiled density says of a Markov chain of experts."""

from __future__ import annotations

from collections.abc import Callable, Container

import numpy as np

from bayes_moe.data.matrix import Rows
from bayes_moe.data.sequences import Sequences
from bayes_moe.kernels import chains
from bayes_moe.kernels import linear_layout as layout
from bayes_moe.model.structure import Structure


def chain_entries(
    structure: Structure,
    rows: Rows,
    shared: Container[str],
    address: Callable[[np.ndarray], int],
) -> dict[int, int]:
    """Numbers of the head of a table, for rows that are whole series; none without a chain.

    Parameters
    ----------
    structure : Structure
        The model's.
    rows : Rows
        The rows, those of each series in the order of time.
    shared : container of str
        Variables whose outputs are the same for all rows.
    address : callable
        From an array to its address.
    """
    gate = structure.gate
    chain = gate.chain
    if chain is None:
        return {}
    still = gate.heads[0].site.coef in shared
    sequences = Sequences.of(rows.observation.series, rows.size)
    order = np.arange(rows.size) if sequences.order is None else sequences.order
    places = np.empty(rows.size)
    places[order] = np.arange(rows.size)
    stationary = chains.STATIONARY if chain.initial == "stationary" else 0
    return {
        layout.CHAIN: chains.chains().address,
        layout.CHAIN_KIND: stationary + (chains.STILL if still else 0),
        layout.SERIES: len(sequences.starts),
        layout.STARTS: address(np.append(sequences.starts, rows.size)),
        layout.PLACES: address(places),
        layout.STICKY: address(np.array([chain.sticky])),
    }

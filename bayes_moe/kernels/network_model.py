"""The log density of a mixture whose predictors are networks or linear, with its gradient.

As :mod:`bayes_moe.kernels.linear_model`, a chunk of rows at a time: features -> units of the hidden
layers -> predictors -> experts' log densities -> responsibilities, and back.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import carray, int64
from numba.extending import register_jitable

from bayes_moe.kernels.activations import activate, multiply_slopes
from bayes_moe.kernels.cell_rows import (
    cells_of,
    gather_cells,
    predict_cells,
    run_cells,
    run_cells_back,
)
from bayes_moe.kernels.compile import DENSITY, REORDERED, VERSION, c_function, doubles
from bayes_moe.kernels.coordinates import coefficients, to_coordinates
from bayes_moe.kernels.experts import evaluate_experts
from bayes_moe.kernels.family_rows import PACK, WIDTH
from bayes_moe.kernels.group_effects import add_effects, effects, to_units
from bayes_moe.kernels.linear_layout import BRANCH, BRANCHES, HEAD, ROWS, SIZE, SPLIT, SPLITS
from bayes_moe.kernels.linear_model import (
    add_offsets,
    drop_copies,
    fill_shared,
    gather,
    log_mixture,
    offsets_of,
    predict,
    status,
    workspace_of,
)
from bayes_moe.kernels.linear_products import fill, gather_sums, predict_rows
from bayes_moe.kernels.mixture import row_of
from bayes_moe.kernels.network_layout import (
    ACTIVATION,
    CELL,
    CELLS,
    DEPTH,
    FED,
    HEIGHT,
    INPUTS,
    LAYER,
    LAYER_SIZE,
    LAYERS,
    NETWORK,
    NETWORK_HEAD,
    NETWORKS,
    OUT_AT,
    OUT_FIRST,
    OUT_LAST,
    OUT_TURNED,
    PLACE,
    TURN,
    TURNED,
    UNITS,
    WEIGHTS,
    WIDEST,
)
from bayes_moe.kernels.shared_rows import leave_known


class Nets(NamedTuple):
    """Networks of a model: their records, and arrays of one evaluation.

    ``units`` are rows of ``WIDTH`` numbers, ``turned`` transposed weights without those of the
    first inputs, ``delta`` and ``below`` derivatives by the units of two layers.
    """

    networks: int
    records: Any
    layers: Any
    units: Any
    turned: Any
    delta: Any
    below: Any


@register_jitable(fastmath=REORDERED)
def nets_of(q: Any) -> Any:
    """Networks of a model from their part of the table."""
    end = NETWORK_HEAD + NETWORK * q[NETWORKS]
    return Nets(
        q[NETWORKS],
        q[NETWORK_HEAD:end],
        q[end:],
        np.empty(q[UNITS] * WIDTH),
        np.empty(q[TURNED]),
        np.empty(q[WIDEST] * WIDTH),
        np.empty(q[WIDEST] * WIDTH),
    )


@register_jitable(fastmath=REORDERED)
def prepare(nets: Any, coefs: Any) -> None:
    """Fill transposed weights, and the rows of ones."""
    for j in range(nets.networks):
        n = nets.records[j * NETWORK :]
        height = 0
        for i in range(n[DEPTH]):
            layer = nets.layers[(n[LAYER] + i) * LAYER_SIZE :]
            fill(row_of(nets.units, layer[PLACE], WIDTH), 1.0)
            if i > 0:
                _turn(
                    coefs[layer[WEIGHTS] :], layer[HEIGHT], layer[FED], nets.turned[layer[TURN] :]
                )
            height = layer[HEIGHT]
        outputs = n[OUT_LAST] - n[OUT_FIRST]
        _turn(coefs[n[OUT_AT] :], outputs, height + 1, nets.turned[n[OUT_TURNED] :])


@register_jitable(fastmath=REORDERED)
def _turn(weights: Any, rows: int, columns: int, turned: Any) -> None:
    """Transpose weights (row, column), without the first column."""
    for r in range(rows):
        for c in range(1, columns):
            turned[(c - 1) * rows + r] = weights[r * columns + c]


@register_jitable(fastmath=REORDERED)
def forward(nets: Any, w: Any, start: int, width: int, stride: int) -> None:
    """Units of every network on a chunk of rows, and its predictors."""
    for j in range(nets.networks):
        n = nets.records[j * NETWORK :]
        below, terms = nets.units, 0
        for i in range(n[DEPTH]):
            layer = nets.layers[(n[LAYER] + i) * LAYER_SIZE :]
            height, fed = layer[HEIGHT], layer[FED]
            units, weights = nets.units[(layer[PLACE] + 1) * WIDTH :], w.coefs[layer[WEIGHTS] :]
            for row in range(height):
                fill(row_of(units, row, width), 0.0)
            if i == 0:
                inputs = doubles(n[INPUTS], fed * stride)[start:]
                predict_rows(units, weights, fed, height, inputs, width, stride)
            else:
                predict_rows(units, weights, fed, height, below, width, WIDTH)
            activate(n[ACTIVATION], units, height, width)
            below = nets.units[layer[PLACE] * WIDTH :]
            terms = height + 1
        first, outputs = n[OUT_FIRST], n[OUT_LAST] - n[OUT_FIRST]
        for row in range(first, first + outputs):
            fill(row_of(w.eta, row, width), w.intercepts[row])
        weights = w.coefs[n[OUT_AT] :]
        predict_rows(w.eta[first * WIDTH :], weights, terms, outputs, below, width, WIDTH)


@register_jitable(fastmath=REORDERED)
def backward(nets: Any, w: Any, start: int, width: int, stride: int) -> None:
    """Add a chunk's derivatives by the weights and coefficients of every network to ``slopes``."""
    for j in range(nets.networks):
        n = nets.records[j * NETWORK :]
        first, outputs = n[OUT_FIRST], n[OUT_LAST] - n[OUT_FIRST]
        depth = n[DEPTH]
        top = nets.layers[(n[LAYER] + depth - 1) * LAYER_SIZE :]
        height, units = top[HEIGHT], nets.units[top[PLACE] * WIDTH :]
        score, slopes = w.score[first * WIDTH :], w.slopes[n[OUT_AT] :]
        gather_sums(score, slopes, height + 1, outputs, units, width, WIDTH)
        turned = nets.turned[n[OUT_TURNED] :]
        delta, other = nets.delta, nets.below
        _back(delta, turned, outputs, height, score, width)
        for i in range(depth - 1, -1, -1):
            layer = nets.layers[(n[LAYER] + i) * LAYER_SIZE :]
            height, fed = layer[HEIGHT], layer[FED]
            units, slopes = nets.units[(layer[PLACE] + 1) * WIDTH :], w.slopes[layer[WEIGHTS] :]
            multiply_slopes(n[ACTIVATION], units, delta, height, width)
            if i == 0:
                inputs = doubles(n[INPUTS], fed * stride)[start:]
                gather_sums(delta, slopes, fed, height, inputs, width, stride)
            else:
                lower = nets.layers[(n[LAYER] + i - 1) * LAYER_SIZE :]
                below = nets.units[lower[PLACE] * WIDTH :]
                gather_sums(delta, slopes, fed, height, below, width, WIDTH)
                _back(other, nets.turned[layer[TURN] :], height, fed - 1, delta, width)
                delta, other = other, delta


@register_jitable(fastmath=REORDERED)
def _back(delta: Any, turned: Any, rows: int, units: int, score: Any, width: int) -> None:
    """Derivatives by the units below, from those by the rows that are linear in them."""
    for row in range(units):
        fill(row_of(delta, row, width), 0.0)
    predict_rows(delta, turned, rows, units, score, width, WIDTH)


@register_jitable(fastmath=REORDERED)
def densities(p: Any, offsets: Any, nets: Any, cells: Any, w: Any, start: int, width: int) -> None:
    """Log densities of the experts in a chunk of rows, and their derivatives by predictors."""
    stride = (p[ROWS] + PACK - 1) // PACK * PACK
    predict(p, offsets.tables, w, start, width)
    forward(nets, w, start, width, stride)
    predict_cells(p, cells, w, start, width)
    add_offsets(p, w, start, width)
    add_effects(p, offsets.effects, w, start, width)
    evaluate_experts(p, offsets.blocks, w, start, width)


@register_jitable(fastmath=REORDERED)
def _log_likelihood(p: Any, offsets: Any, q: Any, w: Any) -> float:
    """Log likelihood of all rows, a chunk at a time; its derivatives are added to ``slopes``."""
    value = 0.0
    nets = nets_of(q)
    prepare(nets, w.coefs)
    cells = cells_of(p, q)
    run_cells(p, cells, w)
    stride = (p[ROWS] + PACK - 1) // PACK * PACK
    for start in range(0, p[ROWS], WIDTH):
        number = min(WIDTH, p[ROWS] - start)
        width = (number + PACK - 1) // PACK * PACK
        densities(p, offsets, nets, cells, w, start, width)
        leave_known(p, w, start, width)
        value += log_mixture(p, offsets, w, w.room, start, number, width)
        drop_copies(p, w, number, width)
        gather(p, offsets, w, start, width)
        backward(nets, w, start, width, stride)
        gather_cells(p, cells, w, start, number, width)
    run_cells_back(p, cells, w)
    return value


def density_of(log_likelihood: Any) -> Any:
    """The function of a table, from one like :func:`_log_likelihood`."""
    version = VERSION

    def log_density(dim: int, x_: Any, grad_: Any, value_: Any, model: Any) -> int:
        version  # noqa: B018  (a kept function belongs to one version of the sources)
        p = carray(model, HEAD, int64)
        if dim != p[SIZE] and dim != p[SIZE] + 1:
            return -1
        weighted, dim = dim != p[SIZE], p[SIZE]
        offsets = offsets_of(p)
        end = offsets.splits + SPLIT * p[SPLITS] + BRANCH * p[BRANCHES]
        p = carray(model, end + NETWORK_HEAD, int64)
        q = p[end:]
        size = NETWORK_HEAD + NETWORK * q[NETWORKS] + LAYER_SIZE * q[LAYERS] + CELL * q[CELLS]
        p = carray(model, end + size, int64)
        q = p[end:]
        x, grad = carray(x_, dim), carray(grad_, dim)
        weight = carray(x_, dim + 1)[dim] if weighted else 1.0
        w = workspace_of(p)
        coefficients(p, offsets.slots, x, w.coefs, w.intercepts)
        likelihood = 0.0
        if weight != 0.0:
            fill_shared(p, offsets.slots, w)
            effects(p, offsets.effects, x, w.coefs)
            likelihood = log_likelihood(p, offsets, q, w)
            for c in range(w.slopes.size):
                w.slopes[c] *= weight
        fill(grad, 0.0)
        if weight != 0.0:
            to_units(p, offsets.effects, x, w, grad)
        prior = to_coordinates(p, offsets.slots, w.coefs, w.slopes, x, grad)
        if weighted:
            value = carray(value_, 2)
            value[0] = prior
            value[1] = likelihood
        else:
            carray(value_, 1)[0] = prior + likelihood
        return status(prior + weight * likelihood, grad)

    return log_density


@cache
def log_density() -> Any:
    """The compiled ``(size, point, gradient, value, model) -> status``; 0 if all is finite.

    If ``size`` is one more than the number of coordinates, the last number of the point is a weight
    of the log likelihood in the gradient, and ``value`` gets log prior and log likelihood.
    """
    return c_function(DENSITY, density_of(_log_likelihood))

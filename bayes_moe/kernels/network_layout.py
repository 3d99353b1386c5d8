"""Positions in the part of a model's table that describes its networks.

It follows the records of :mod:`bayes_moe.kernels.linear_layout`: ``NETWORK_HEAD`` numbers, then
records of networks, of their hidden layers, and of recurrent cells. Hidden weights are
coefficients, (unit, input) of each layer. The first input of a layer is 1.
"""

from __future__ import annotations

(
    NETWORKS,  # number of records of each kind
    LAYERS,
    UNITS,  # rows of units of all layers, a row of ones before each layer's
    TURNED,  # weights whose transposes are needed
    WIDEST,  # most units of a layer
    CELLS,  # number of recurrent cells
    CELL_RUN,  # address of their function, :func:`bayes_moe.kernels.recurrent.run`
) = range(7)
NETWORK_HEAD = 7

(
    INPUTS,  # address (input, obs)
    ACTIVATION,  # one of the activations below
    DEPTH,  # number of layers
    LAYER,  # first layer
    OUT_FIRST,  # first row of predictors that are linear in the units of the last layer
    OUT_LAST,  # one past the last such row
    OUT_AT,  # first coefficient
    OUT_TURNED,  # first transposed coefficient
) = range(8)
NETWORK = 8

(
    HEIGHT,  # units
    FED,  # inputs
    WEIGHTS,  # first weight
    TURN,  # first transposed weight
    PLACE,  # row of ones before the rows of its units
) = range(5)
LAYER_SIZE = 5

TANH, SOFTPLUS, RELU = range(3)
ACTIVATIONS = {"tanh": TANH, "softplus": SOFTPLUS, "relu": RELU}

(
    KIND,  # of the cell, as in kernels/recurrent
    CELL_UNITS,
    CELL_TERMS,  # number of features
    CELL_FEATURES,  # address (obs, term)
    CELL_BEFORE,  # address of the positions of the rows before (obs,)
    CELL_INPUTS,  # first weight of the features, (gate and unit, term)
    CELL_WEIGHTS,  # first weight of the state before, (gate and unit, unit)
    CELL_BIAS,  # first constant (unit,)
    CELL_FIRST,  # first row of predictors that are linear in the states
    CELL_LAST,  # one past the last such row
    CELL_AT,  # first coefficient
) = range(11)
CELL = 11

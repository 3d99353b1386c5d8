"""Positions in the part of a model's table that describes its networks.

It follows the records of :mod:`bayes_moe.kernels.linear_layout`: ``NETWORK_HEAD`` numbers, then
records of networks and of their hidden layers. Hidden weights are coefficients, (unit, input) of
each layer. The first input of a layer is 1.
"""

from __future__ import annotations

(
    NETWORKS,  # number of records of each kind
    LAYERS,
    UNITS,  # rows of units of all layers, a row of ones before each layer's
    TURNED,  # weights whose transposes are needed
    WIDEST,  # most units of a layer
) = range(5)
NETWORK_HEAD = 5

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

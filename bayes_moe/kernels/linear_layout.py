"""Positions in the table of whole numbers that describes a model to the compiled density."""

from __future__ import annotations

from bayes_moe.kernels.family_rows import (
    LARGEST,
)

(
    SIZE,  # coordinates
    ROWS,  # of the data
    EXPERTS,
    PREDICTORS,  # rows of predictors
    COEFS,  # coefficients
    GATE,  # first row of the predictors of a gate without splits
    TABLES,  # how many records follow of each kind
    SLOTS,
    BLOCKS,
    SPLITS,
    BRANCHES,
) = range(11)


HEAD = 11


(
    FEATURES,  # address (term, obs)
    TERMS,
    FIRST,  # row of predictors that reads the table
    LAST,  # one past the last such row
    AT,  # first coefficient
) = range(5)


TABLE = 5


(
    WHERE,  # first coordinate
    DIRECTIONS,  # free directions over the experts
    OF,  # experts
    WIDE,  # terms
    ROW,  # first row of predictors
    COEF,  # first coefficient
    NUMBERS,  # address of unit and offset
    BASIS,  # address (direction, expert), or 0
    PRIOR,  # address of the compiled formula
    PRIOR_ARGUMENTS,  # address (argument, coordinate)
    JACOBIAN,  # whether a coordinate is a logarithm whose Jacobian is added
    SHARED,  # whether predictors are the same for all rows
) = range(12)


SLOT = 12


(
    KERNEL,  # address of the compiled rows
    PARAMETERS,
    ALL_SHARED,  # whether all predictors but the first are the same for all rows
    START,  # first expert
    STOP,  # one past the last
    RESPONSE,  # address (obs,)
    ADD,  # whether the log density is added to that of the blocks before
    LOG_BASE,  # address (obs,)
    COUNTS,  # address of known counts (obs,), or 0
    ETAS,  # first row of predictors, of each parameter
) = range(10)


BLOCK = ETAS + LARGEST

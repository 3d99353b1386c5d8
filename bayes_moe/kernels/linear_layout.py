"""Positions in the table of whole numbers that describes a model to the compiled density.

The table has ``HEAD`` numbers of the model, then records of offsets, of effects of groups, of
tables of features, of slots (blocks of parameters), of blocks of experts, and, unless the gate is
one softmax, of the gate's splits and of their branches. A row of predictors is one expert's linear
predictor of one parameter, to which offsets and effects are added.
"""

from __future__ import annotations

from bayes_moe.kernels.family_rows import LARGEST

(
    SIZE,  # coordinates
    ROWS,  # of the data
    EXPERTS,
    PREDICTORS,  # rows of predictors
    COEFS,  # coefficients
    GATE,  # first row of the predictors of a gate without splits
    TABLES,  # number of records of each kind, from here on
    SLOTS,
    BLOCKS,
    SPLITS,
    BRANCHES,
    WEIGHTS,  # address (obs,) of the rows' weights, or 0 if all are 1
    ADDED,  # number of records of offsets
    KNOWN,  # address (obs,) of the rows' experts, -1 where not known, or 0 if none is
    UNITS,  # address (obs,) of the number of each row's group, or 0 if each row has an expert
    COUNT_UNITS,  # number of groups
    LEADS,  # address (obs,) of the weights of groups at their first rows, zero at others
    LIMITS,  # number of records of the blocks' limits of a truncation, which follow the blocks
    EFFECTS,  # number of records of effects of groups
    CHAIN,  # address of the compiled likelihood of chains, or 0 if experts are no Markov chain
    CHAIN_KIND,  # whether transitions are the same at all rows, and the first distribution
    SERIES,  # number of series
    STARTS,  # address (series + 1,) of their first rows in the order of time, and of all rows' end
    PLACES,  # address (obs,) of the rows' positions in that order, one series after the other
    STICKY,  # address of the number that is added to the logits of staying
) = range(25)
HEAD = 25

(
    ADDENDS,  # address (obs,), or (row of predictors, obs)
    ONTO,  # first row of predictors
    UNTIL,  # one past the last
    EACH,  # whether every row has its own
) = range(4)
ADDEND = 4

# Effects of a group term: a group has one of each column of the term's design in each row of
# predictors, ``scale * factor @ z``, where ``factor`` is that of their correlation matrix.
(
    CODES,  # address (obs,) of the number of each row's group
    DESIGN,  # address (column, obs)
    COLUMNS,
    GROUPS,
    TO,  # first row of predictors
    OUTPUTS,  # number of rows of predictors
    UNIT,  # first coefficient (output, group, column) of z
    EFFECT,  # first coefficient (output, group, column) of the effects
    LOG_SCALE,  # first coordinate (output, column) of the logarithms of scales
    PARTIAL,  # first coordinate (output, pair) of partial correlations, or -1 if there are none
    OWN,  # whether every row of predictors has its own scales and correlations
) = range(11)
EFFECTS_SIZE = 11

(
    FEATURES,  # address (term, obs)
    TERMS,
    FIRST,  # first row of predictors with these features
    LAST,  # one past the last such row
    AT,  # first coefficient
) = range(5)
TABLE = 5

(
    WHERE,  # first coordinate
    COUNT,  # number of coordinates
    ACROSS,  # distance between the coordinates of successive directions
    ALONG,  # distance between those of successive terms
    DIRECTIONS,  # free directions over the experts
    OF,  # experts; none of a hyperparameter, whose coordinates are no coefficients
    WIDE,  # terms
    ROW,  # first row of predictors, or -1
    COEF,  # first coefficient
    NUMBERS,  # address of the offset of the predictors, and of each term's factor
    SCALE,  # coordinate whose exponential is a further factor, or -1
    BASIS,  # address (direction, expert), or 0
    PRIOR,  # address of the compiled formula
    PRIOR_ARGUMENTS,  # address (argument, coordinate)
    JACOBIAN,  # address of the compiled log Jacobian of coordinates, or 0
    SHARED,  # whether predictors are the same for all rows
) = range(16)
SLOT = 16

(
    KERNEL,  # address of the compiled row loop
    PARAMETERS,
    ALL_SHARED,  # whether all predictors but the first are the same for all rows
    START,  # first expert
    STOP,  # one past the last
    DATA_T,  # addresses (obs,) of what the kernel reads of the response
    DATA_U,
    ADD,  # whether the log density is added to that of earlier blocks
    LOG_BASE,  # address (obs,)
    FURTHER,  # number of further functions of the responses that the kernel reads
    DATA_MORE,  # address (function, obs) of these, in whole packs of rows
    ETAS,  # first row of predictors, of each slot
) = range(12)
BLOCK = ETAS + LARGEST

# Splits come with children before parents. A place is a row of joint log densities: the experts',
# then the splits'.
(
    FROM,  # first branch
    WAYS,  # number of branches
) = range(2)
SPLIT = 2

(
    LOGIT,  # row of predictors; one past the last is zero
    PLACE,  # of the expert or split below
) = range(2)
BRANCH = 2

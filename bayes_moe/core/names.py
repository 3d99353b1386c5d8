"""Dimensions, variables and groups: the only place where they are spelled."""

from __future__ import annotations

OBS = "obs_id"
GROUP = "group_id"
EXPERT = "expert"
STICK = "stick"
CHAIN = "chain"
DRAW = "draw"

RESPONSE = "y"
RESPONSE_DIM = "response"
ROW_WEIGHTS = "row_weights"
FIRST_OF_GROUP = "first_row_of_group"
KNOWN_EXPERT = "known_expert"
SERIES_OF_ROW = "series_of_row"
LIMIT_DIM = "limit"
GATE = "gate"

POSTERIOR = "posterior"
POSTERIOR_PREDICTIVE = "posterior_predictive"
PRIOR = "prior"
PRIOR_PREDICTIVE = "prior_predictive"
SAMPLE_STATS_PRIOR = "sample_stats_prior"
GROUPS_OF_PRIOR = (PRIOR, PRIOR_PREDICTIVE, SAMPLE_STATS_PRIOR, "unconstrained_prior")
"""Groups whose chains and draws are not those of the posterior."""

UNCONSTRAINED = "unconstrained_posterior"
SAMPLE_STATS = "sample_stats"
LOG_LIKELIHOOD = "log_likelihood"
OBSERVED_DATA = "observed_data"
CONSTANT_DATA = "constant_data"
FITTED_DATA = "fitted_data"
RELABELLING = "relabelling"
FIT = "fit"
ELBO = "elbo"
MODES = "modes"
STANDARD_ERROR = "standard_error"

MODE = "mode"
START_MODE = "start_mode"
END_MODE = "end_mode"

PERMUTATION = "permutation"
CERTAINTY = "certainty"
MODE_PERMUTATION = "mode_permutation"
LIKE = "like"

TABLE_MARK = "columns_depend_on_the_table"

RAW_SUFFIX = "_raw"


def coef(stem: str) -> str:
    """Coefficients of a linear predictor on the user's scale, e.g. ``mu_coef``."""
    return f"{stem}_coef"


def raw(stem: str) -> str:
    """Coefficients on the internal, centred and scaled features: what the sampler moves."""
    return f"{stem}{RAW_SUFFIX}"


def term(stem: str) -> str:
    """Dimension over the columns of a linear predictor's design, e.g. ``mu_term``."""
    return f"{stem}_term"


def transition(stem: str) -> str:
    """Dimension over the moves of a Markov chain of experts, e.g. ``gate_transition``."""
    return f"{stem}_transition"


def split(stem: str) -> str:
    """Dimension over the free directions of a gate's splits, e.g. ``gate_split``."""
    return f"{stem}_split"


def direction(stem: str) -> str:
    """Dimension over the internal outputs of a parameter whose numbers sum to zero."""
    return f"{stem}_direction"


def features(stem: str) -> str:
    """Data variable with the internal features of a linear predictor."""
    return f"{stem}_features"


def offset(stem: str) -> str:
    """Data variable with the offset of a predictor."""
    return f"{stem}_offset"


AMPLITUDE = "amplitude"
BASIS = "basis"
CODE = "code"
COLUMN = "column"
CORR = "corr"
CUT = "cut"
DECAY = "decay"
EFFECT = "effect"
GLOBAL = "global"
EFFECT_GROUP = "group"
HEAD = "head"
HIDDEN = "hidden"
INPUT = "input"
KERNEL = "kernel"
KEY = "key"
LAYER = "layer"
LENGTHSCALE = "lengthscale"
LOCAL = "local"
NODE = "node"
PAIR = "pair"
QUERY = "query"
SD = "sd"
SHARPNESS = "sharpness"
SHRINKAGE = "shrinkage"
SIZE = "size"
SLOPE = "slope"
SMOOTHING = "smoothing"
SPLIT = "split"
UNIT = "unit"


def part(stem: str, suffix: str) -> str:
    """Variable or dimension of one kind of predictor, e.g. ``mu_amplitude`` or ``mu_basis``."""
    return f"{stem}_{suffix}"


# Results of predictions.
ROW = "row"
CI_BOUND = "ci_bound"
CI_BOUNDS = ("lower", "upper")
QUANTILE = "quantile"
SAMPLE = "sample"
LOCATION = "location"
DENSITY = "density"
PROBABILITY = "probability"
N_MODES = "n_modes"
INTERVAL = "interval"
BOUNDS = "bounds"
N_INTERVALS = "n_intervals"
DROPPED_WEIGHT = "dropped_weight"
MEAN_SHIFT = "mean_shift"
CLASS = "class"
ENTROPY = "entropy"
EXPECTED_ENTROPY = "expected_entropy"
MUTUAL_INFORMATION = "mutual_information"

# Branches of a gate's splits.
GATE_BRANCH = "gate_branch"
DEPTH = "depth"

# Dimensions of the arrays in a plot collection.
INTERVAL_PROBABILITY = "prob"


# Groups `fit` and `modes`: figures of modes and of approximations.
OBJECTIVE = "objective"
LOG_PRIOR = "log_prior"
LOG_ALLOCATION = "log_allocation"
GRADIENT_NORM = "gradient_norm"
ITERATIONS = "iterations"
N_PARAMETERS = "n_parameters"
EFFECTIVE = "effective_parameters"
RESTARTS = "restarts"
EXHAUSTED = "exhausted"
CONVERGED = "converged"
SINGULAR = "singular"
SEPARATED = "separated"
EMPTY = "empty"
HITS = "hits"
FINISHED = "finished"
NEW_MODE_CHANCE = "new_mode_chance"
MASS = "mass"
SHARE = "share"
PATH = "path"
ITERATION = "iteration"
EPOCH = "epoch"
EPOCHS = "epochs"
VALIDATION_LOG_DENSITY = "validation_log_density"
VALIDATION_PATH = "validation_path"
ELBO_ERROR = "elbo_error"
PARETO_K = "pareto_k"
ESS = "ess"
PATHS = "paths"
MEMBER = "member"
MEMBER_WEIGHT = "member_weight"
MEMBER_SEED = "member_seed"
MEMBER_CONVERGED = "member_converged"
HELD_OUT_LOG_DENSITY = "held_out_log_density"
HELD_OUT_SCORE = "held_out_score"

# Attributes of these groups.
BEST = "best"
RUNNING = "running"
HELD = "held"
CURVATURE = "curvature"
OPTIMIZER = "optimizer"
ADVICE = "advice"
BETTER = "better"

# Group `sample_stats`.
LP = "lp"
LOG_WEIGHT = "log_weight"
DIVERGING = "diverging"
ENERGY = "energy"
DEPTH_REACHED = ("maxdepth_reached", "reached_max_treedepth")

# Attributes of a fit's tree; `kind` has one of the three values below.
KIND = "kind"
METHOD = "method"
SETTINGS = "settings"
RANDOM_SEED = "random_seed"
RELABEL = "relabel"
RESPONSE_TERM = "response"
MISSING = "missing"
COMPLETE = "complete"
DRAWS_ASKED = "draws_asked"
CHAINS_ASKED = "chains_asked"
COMBINED = "combined"

KIND_DRAWS = "draws"
KIND_MODE = "mode"
KIND_APPROXIMATION = "approximation"

# Attribute of a stored column: its name in the user's table.

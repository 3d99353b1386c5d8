"""Dimensions, variables and groups: the only place where they are spelled."""

from __future__ import annotations

OBS = "obs_id"
EXPERT = "expert"
STICK = "stick"
CHAIN = "chain"
DRAW = "draw"

RESPONSE = "y"
GATE = "gate"

POSTERIOR = "posterior"
SAMPLE_STATS = "sample_stats"
LOG_LIKELIHOOD = "log_likelihood"
OBSERVED_DATA = "observed_data"
CONSTANT_DATA = "constant_data"
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


def split(stem: str) -> str:
    """Dimension over the free directions of a gate's splits, e.g. ``gate_split``."""
    return f"{stem}_split"


def features(stem: str) -> str:
    """Data variable with the internal features of a linear predictor."""
    return f"{stem}_features"

"""Array functions of NumPy or PyTensor under one set of names, so that a formula is written once.

Predictors, gates and families take an :class:`Arrays` as the argument ``xp``; the graph passes
:func:`symbolic`, prediction and EM pass :data:`NUMERIC`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy import special

Values = Mapping[str, np.ndarray]
"""Arrays by the name of a variable."""


@dataclass(frozen=True)
class Arrays:
    """Array functions that the formulas of predictors, gates and families may use."""

    exp: Callable[..., Any]
    log: Callable[..., Any]
    log1p: Callable[..., Any]
    softplus: Callable[..., Any]
    tanh: Callable[..., Any]
    sigmoid: Callable[..., Any]
    floor: Callable[..., Any]
    cos: Callable[..., Any]
    sin: Callable[..., Any]
    arctan: Callable[..., Any]
    where: Callable[..., Any]
    full: Callable[..., Any]
    gammaln: Callable[..., Any]
    logsumexp: Callable[..., Any]
    matmul: Callable[..., Any]
    concatenate: Callable[..., Any]
    stack: Callable[..., Any]


def _logsumexp(x: np.ndarray, axis: int, keepdims: bool = False) -> np.ndarray:
    """Log of the sum of exponentials along one axis; exact at -inf and beyond exp's range."""
    top = np.max(x, axis=axis, keepdims=True)
    # A maximum of -inf or inf would give NaN as the difference x - top.
    shift = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        total = np.log(np.sum(np.exp(x - shift), axis=axis, keepdims=True)) + shift
    return total if keepdims else np.squeeze(total, axis=axis)


def _exp(x: np.ndarray) -> np.ndarray:
    """Exponential; infinite beyond the range of doubles, silently."""
    with np.errstate(over="ignore"):
        return np.exp(x)


def softplus(x: np.ndarray) -> np.ndarray:
    """``log(1 + exp(x))``, exact to rounding for every finite ``x``."""
    value: np.ndarray = np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))
    return value


def sigmoid(x: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-x))``, four times as fast as SciPy's."""
    with np.errstate(over="ignore"):
        value: np.ndarray = 1.0 / (1.0 + np.exp(-x))
    return value


NUMERIC = Arrays(
    exp=_exp,
    log=np.log,
    log1p=np.log1p,
    softplus=softplus,
    tanh=np.tanh,
    sigmoid=sigmoid,
    floor=np.floor,
    cos=np.cos,
    sin=np.sin,
    arctan=np.arctan,
    where=np.where,
    full=np.full,
    gammaln=special.gammaln,
    logsumexp=_logsumexp,
    matmul=np.matmul,
    concatenate=np.concatenate,
    stack=np.stack,
)


@cache
def symbolic() -> Arrays:
    """Array functions of PyTensor, which is imported on the first call."""
    import pytensor.tensor as pt

    return Arrays(
        exp=pt.exp,
        log=pt.log,
        log1p=pt.log1p,
        softplus=pt.softplus,
        tanh=pt.tanh,
        sigmoid=pt.sigmoid,
        floor=pt.floor,
        cos=pt.cos,
        sin=pt.sin,
        arctan=pt.arctan,
        where=pt.where,
        full=pt.full,
        gammaln=pt.gammaln,
        logsumexp=pt.logsumexp,
        matmul=pt.matmul,
        concatenate=pt.concatenate,
        stack=pt.stack,
    )


def along_rows(x: Any, y: Any) -> Any:
    """Symbolic array (expert, obs) of ``x`` (expert, 1) or (expert, obs), by the rows of ``y``."""
    import pytensor.tensor as pt

    return x + pt.zeros_like(y)[None, :] if x.type.shape[1] == 1 else x


def log_softmax(logits: Any, xp: Arrays) -> Any:
    """Log weights (..., expert, obs) of a softmax over logits (..., expert, obs)."""
    return logits - xp.logsumexp(logits, axis=-2, keepdims=True)

"""The likelihood of Markov chains of experts for JAX: a scan over the rows of all series."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from pytensor.graph.basic import Apply
from pytensor.link.jax.ops import JAXOp


def scans(node: Apply, slopes: bool, is_stationary: bool) -> Any:
    """Outputs of an operation of :mod:`bayes_moe.graph.chain_op`, by JAX."""
    values = _values(is_stationary)

    def derivatives(densities: Any, logits: Any, series: Any, by_value: Any) -> tuple[Any, Any]:
        pullback = jax.vjp(lambda f, eta: values(f, eta, series)[0], densities, logits)[1]
        by_density, by_logit = pullback(by_value)
        return by_density, by_logit

    function: Callable[..., Any] = derivatives if slopes else values
    types = [x.type for x in node.inputs], [x.type for x in node.outputs]
    return JAXOp(*types, function, name=type(node.op).__name__)(*node.inputs, return_list=True)


def _values(is_stationary: bool) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """The function of log densities, logits and series that a scan evaluates."""

    def values(densities: Any, logits: Any, series: Any) -> tuple[Any, Any]:
        experts, rows = densities.shape
        order = jnp.argsort(series, stable=True)
        code = series[order]
        begins = jnp.concatenate([jnp.ones(1, dtype=bool), code[1:] != code[:-1]])
        eta = jnp.broadcast_to(logits, (logits.shape[0], rows)).T[order]
        moves = jax.nn.log_softmax(eta.reshape(rows, experts, experts), axis=-1)

        def step(filtered: Any, row: Any) -> tuple[Any, tuple[Any, Any]]:
            density, move, first, begin = row
            later = logsumexp(filtered[:, None] + move, axis=0)
            predicted = jnp.where(begin, first, later)
            value = logsumexp(predicted + density)
            return predicted + density - value, (value, predicted)

        equal = jnp.full(experts, -jnp.log(experts))
        first = _stationary(moves) if is_stationary else jnp.broadcast_to(equal, (rows, experts))
        start = (densities.T[order], moves, first, begins)
        _, (value, predicted) = jax.lax.scan(step, equal, start)
        back = jnp.argsort(order)
        return value[back], predicted[back].T

    return values


def _stationary(moves: Any) -> Any:
    """Log stationary distributions (obs, expert) of log transitions (obs, from, to).

    As :mod:`bayes_moe.kernels.stationary`, by leaving out the last expert again and again.
    """
    experts, into = moves.shape[-1], []
    for n in range(experts - 1, 0, -1):
        out = logsumexp(moves[:, n, :n], axis=-1, keepdims=True)
        into.append(moves[:, :n, n] - out)
        through = into[-1][:, :, None] + moves[:, None, n, :n]
        moves = jnp.logaddexp(moves[:, :n, :n], through)
    log_p = jnp.zeros((len(moves), 1))
    for move in reversed(into):
        log_p = jnp.concatenate([log_p, logsumexp(log_p + move, axis=-1, keepdims=True)], axis=-1)
    return log_p - logsumexp(log_p, axis=-1, keepdims=True)

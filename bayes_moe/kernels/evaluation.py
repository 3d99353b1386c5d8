"""Mixtures of all draws on the rows of a chunk: gate weights, log densities and sums over experts.

Arrays are (sample, expert, obs) with a few rows, so that the innermost loops run along rows and
what depends on the draw only is computed once for all of them. No array is larger than the chunk's
own, and there are no temporaries. The formulas are those of :mod:`bayes_moe.model.likelihood`,
:mod:`bayes_moe.gates.splits` and the families, which remain the reference.

Arguments are whole numbers: sizes, and addresses of contiguous arrays.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import carray, int64
from numba.extending import register_jitable

from bayes_moe.families import Family
from bayes_moe.kernels.compile import REORDERED, VERSION, c_function, doubles, pointer
from bayes_moe.kernels.elementary import exp, log
from bayes_moe.kernels.families import kernel_of
from bayes_moe.kernels.family_rows import densities


@register_jitable
def whole_numbers(address: int, count: int) -> Any:
    """Array (count,) of whole numbers at an address."""
    return carray(pointer(address), count, int64)


@register_jitable(fastmath=REORDERED)
def softmax(eta: Any, ways: int, pinned: int, work: Any, parts: Any) -> None:
    """Fill ``work`` (obs) with the log of the sum, and ``parts`` (ways * obs) with probabilities.

    ``eta`` (ways * obs) are predictors; the last branch of a pinned split has none: it is zero.
    ``work`` has room for a second row.
    """
    obs = work.size // 2
    top, total = work[:obs], work[obs : 2 * obs]
    for i in range(obs):
        top[i] = 0.0 if pinned else -math.inf
        total[i] = 0.0
    for c in range(ways - pinned):
        e = eta[c * obs : (c + 1) * obs]
        for i in range(obs):
            top[i] = e[i] if e[i] > top[i] else top[i]
    for c in range(ways):
        part = parts[c * obs : (c + 1) * obs]
        if c < ways - pinned:
            e = eta[c * obs : (c + 1) * obs]
            for i in range(obs):
                part[i] = exp(e[i] - top[i])
        else:
            for i in range(obs):
                part[i] = exp(-top[i])
        for i in range(obs):
            total[i] += part[i]
    for i in range(obs):
        top[i] += log(total[i])
    for i in range(obs):
        total[i] = 1.0 / total[i]
    for c in range(ways):
        part = parts[c * obs : (c + 1) * obs]
        for i in range(obs):
            part[i] *= total[i]


@register_jitable(fastmath=REORDERED)
def split_weights(eta: Any, table: Any, log_w: Any, w: Any, work: Any, parts: Any) -> None:
    """Log weights and weights (expert * obs) of one draw, from outputs (output * obs).

    ``table`` has the number of splits, and of each its first output, its number of branches,
    whether the last has the predictor zero, and the experts below each branch after their number.
    """
    obs = work.size // 2
    log_sum = work[:obs]
    at = 1
    for i in range(log_w.size):
        log_w[i] = 0.0
        w[i] = 1.0
    for _ in range(table[0]):
        first, ways, pinned = table[at], table[at + 1], table[at + 2]
        at += 3
        outputs = eta[first * obs : (first + ways - pinned) * obs]
        softmax(outputs, ways, pinned, work, parts)
        for c in range(ways):
            part = parts[c * obs : (c + 1) * obs]
            row = c if c < ways - pinned else 0
            e, factor = outputs[row * obs : (row + 1) * obs], 1.0 if row == c else 0.0
            leaves = table[at]
            for j in range(at + 1, at + 1 + leaves):
                here = slice(table[j] * obs, (table[j] + 1) * obs)
                own, own_w = log_w[here], w[here]
                for i in range(obs):
                    own[i] += factor * e[i] - log_sum[i]
                for i in range(obs):
                    own_w[i] *= part[i]
            at += 1 + leaves


@register_jitable(fastmath=REORDERED)
def softmax_weights(eta: Any, log_w: Any, w: Any, work: Any) -> None:
    """Log weights and weights (expert * obs) of one draw, of a softmax of all experts."""
    obs = work.size // 2
    experts = w.size // obs
    softmax(eta, experts, 0, work, w)
    log_sum = work[:obs]
    for k in range(experts):
        e, own = eta[k * obs : (k + 1) * obs], log_w[k * obs : (k + 1) * obs]
        for i in range(obs):
            own[i] = e[i] - log_sum[i]


@cache
def log_weights() -> Any:
    """The C function ``(eta, table, length, log_w, w, sizes) -> 0``.

    ``sizes`` are samples, outputs, experts, rows, and the most branches of a split; ``table`` is
    that of :func:`split_weights`, and empty for a softmax of all experts.
    """
    version = VERSION

    def fill(eta_: int, table_: int, length: int, log_w_: int, w_: int, sizes_: int) -> int:
        version  # noqa: B018  (a kept function belongs to one version of the sources)
        sizes, table = whole_numbers(sizes_, 5), whole_numbers(table_, length)
        samples, outputs, experts, obs = (
            sizes[0],
            sizes[1] * sizes[3],
            sizes[2] * sizes[3],
            sizes[3],
        )
        eta, log_w = doubles(eta_, samples * outputs), doubles(log_w_, samples * experts)
        w = doubles(w_, samples * experts)
        work, parts = np.empty(2 * obs), np.empty(sizes[4] * obs)
        for s in range(samples):
            own = eta[s * outputs : (s + 1) * outputs]
            here = slice(s * experts, (s + 1) * experts)
            if length:
                split_weights(own, table, log_w[here], w[here], work, parts)
            else:
                softmax_weights(own, log_w[here], w[here], work)
        return 0

    return lock_free(fill, 6)


@cache
def log_densities(family: Family) -> Any:
    """The C function ``(arrays, out, sizes) -> 0``: log density of a block of experts.

    ``arrays`` are addresses of the two functions of the response and of the log base (obs), of the
    first predictor (sample, expert, obs), and of the others (predictor, sample, expert, obs), or
    (predictor, sample, expert, 1) if the last of ``sizes`` says so: samples, experts of the block,
    rows, numbers from a draw to the next in ``out``, and that.
    """
    kernel = kernel_of(family)
    fill_rows = densities(kernel)
    text, parameters, version = kernel.text, kernel.parameters, VERSION

    def fill(arrays_: int, out_: int, sizes_: int) -> int:
        text, version  # noqa: B018
        arrays, sizes = whole_numbers(arrays_, 5), whole_numbers(sizes_, 5)
        samples, experts, obs, stride, shared = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
        t, u, base = doubles(arrays[0], obs), doubles(arrays[1], obs), doubles(arrays[2], obs)
        count, width = samples * experts, 1 if shared else obs
        first = doubles(arrays[3], count * obs)
        rest = doubles(arrays[4], max(parameters - 1, 1) * count * width)
        out = doubles(out_, (samples - 1) * stride + experts * obs)
        for j in range(count):
            at = (j // experts) * stride + (j % experts) * obs
            eta = first[j * obs : (j + 1) * obs]
            fill_rows(out[at : at + obs], t, u, base, eta, rest[j * width :], count * width, shared)
        return 0

    return lock_free(fill, 3)


@register_jitable(fastmath=REORDERED)
def joint_exponentials(log_w: Any, joint: Any, top: Any, total: Any, experts: int) -> None:
    """Replace log densities (expert * obs) by ``exp(log w_k + log f_k - top)``, and sum these."""
    obs = top.size
    for i in range(obs):
        top[i] = -math.inf
        total[i] = 0.0
    for k in range(experts):
        own, weight = joint[k * obs : (k + 1) * obs], log_w[k * obs : (k + 1) * obs]
        for i in range(obs):
            own[i] += weight[i]
        for i in range(obs):
            top[i] = own[i] if own[i] > top[i] else top[i]
    for i in range(obs):
        top[i] = top[i] if top[i] > -math.inf else 0.0
    for k in range(experts):
        own = joint[k * obs : (k + 1) * obs]
        for i in range(obs):
            own[i] = exp(own[i] - top[i])
        for i in range(obs):
            total[i] += own[i]


@cache
def log_mixtures() -> Any:
    """The C function ``(log_w, joint, out, samples, experts, obs) -> 0``: log densities of draws.

    ``joint`` has the experts' log densities and is overwritten.
    """
    version = VERSION

    def fill(log_w_: int, joint_: int, out_: int, samples: int, experts: int, obs: int) -> int:
        version  # noqa: B018
        size = experts * obs
        log_w, joint = doubles(log_w_, samples * size), doubles(joint_, samples * size)
        out, top, total = doubles(out_, samples * obs), np.empty(obs), np.empty(obs)
        for s in range(samples):
            here = slice(s * size, (s + 1) * size)
            joint_exponentials(log_w[here], joint[here], top, total, experts)
            to = out[s * obs : (s + 1) * obs]
            for i in range(obs):
                value = top[i] + log(total[i])
                value = -math.inf if total[i] == 0.0 else value
                to[i] = value if total[i] == total[i] else math.nan
        return 0

    return lock_free(fill, 6)


@cache
def responsibilities() -> Any:
    """The C function ``(log_w, joint, samples, experts, obs) -> 0``.

    ``joint`` has the experts' log densities, which are replaced by responsibilities.
    """
    version = VERSION

    def fill(log_w_: int, joint_: int, samples: int, experts: int, obs: int) -> int:
        version  # noqa: B018
        size = experts * obs
        log_w, joint = doubles(log_w_, samples * size), doubles(joint_, samples * size)
        top, total = np.empty(obs), np.empty(obs)
        for s in range(samples):
            here = slice(s * size, (s + 1) * size)
            own = joint[here]
            joint_exponentials(log_w[here], own, top, total, experts)
            for k in range(experts):
                share = own[k * obs : (k + 1) * obs]
                for i in range(obs):
                    share[i] /= total[i]
        return 0

    return lock_free(fill, 5)


@cache
def weighted_sums() -> Any:
    """The C function ``(w, values, out, samples, experts, obs) -> 0``: sums over experts."""
    version = VERSION

    def fill(w_: int, values_: int, out_: int, samples: int, experts: int, obs: int) -> int:
        version  # noqa: B018
        size = experts * obs
        w, values = doubles(w_, samples * size), doubles(values_, samples * size)
        out = doubles(out_, samples * obs)
        for s in range(samples):
            to = out[s * obs : (s + 1) * obs]
            for i in range(obs):
                to[i] = 0.0
            for k in range(experts):
                here = slice(s * size + k * obs, s * size + (k + 1) * obs)
                weight, value = w[here], values[here]
                for i in range(obs):
                    to[i] += weight[i] * value[i]
        return 0

    return lock_free(fill, 6)


def lock_free(function: Callable[..., int], arguments: int) -> Any:
    """A compiled function of whole numbers, which releases the interpreter lock."""
    compiled = c_function(int64(*[int64] * arguments), function)
    return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * arguments)(compiled.address)

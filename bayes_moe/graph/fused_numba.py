"""Numba code of the fused mixture, generated for the families of a model."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np

from bayes_moe.core import registry
from bayes_moe.graph.family_group import FamilyGroup, predictor_inputs
from bayes_moe.kernels import family_rows, fused_pieces
from bayes_moe.kernels.compile import VERSION

LAYOUT = ("WIDTH", "PACK", "SCRATCH", "Y", "BASE", "KNOWN", "ETA", "VALUE", "SCORE")
"""Names of the numbers that the generated code shares with the families' kernels."""


def fused_key(text: str) -> str:
    """Key of a cache entry: it changes with the code and with the sources that it calls."""
    return sha256(f"{VERSION}{text}".encode()).hexdigest()


def fused_names(groups: Sequence[FamilyGroup]) -> dict[str, Any]:
    """Names that the code of :func:`fused_code` refers to."""
    known = {name: getattr(family_rows, name) for name in LAYOUT} | {"np": np}
    known |= {name: getattr(fused_pieces, name) for name in ("fetch", "store", "mix", "copy")}
    for group in groups:
        kernel = registry.resolve("kernel", group.family_name)
        known[f"rows_{group.family_name}"] = fused_pieces.row_function(kernel)
    return known


def fused_code(groups: Sequence[FamilyGroup], same: Sequence[bool]) -> str:
    """Code of the operation: chunks of rows, and in each one group after another.

    ``same`` says which inputs after the logits hold one number for all rows.
    """
    experts = groups[-1].stop
    arguments = [f"x{j}" for j in range(len(same))]
    predictors = [j - 2 for j in predictor_inputs(groups)]
    outputs = [f"d{j}" for j in predictors]
    load, store, at = [], [], 0
    for group in groups:
        load += _evaluate(group, at, same)
        store += _store(group, at)
        at += group.width
    body = [
        *_allocate(experts, predictors),
        "for a in range(0, n, WIDTH):",
        "    m = min(WIDTH, n - a)",
        "    w = (m + PACK - 1) // PACK * PACK",
        "    fetch(s[Y:], y.reshape((1, n)), 0, a, m, w)",
        f"    for k in range({experts}):",
        "        fetch(gate[k * WIDTH :], logits, k, a, m, w)",
        *_indented(load),
        f"    mix(gate, joint, below, work, {experts}, m, w)",
        "    copy(value[a:], work, m)",
        f"    for k in range({experts}):",
        "        copy(slopes[k, a:], below[k * WIDTH :], m)",
        *_indented(store),
        f"return value, slopes, {', '.join(outputs)}",
    ]
    head = f"def fused_mixture(y, logits, {', '.join(arguments)}):"
    return "\n".join([head, *_indented(body)])


def _indented(lines: Sequence[str]) -> list[str]:
    return ["    " + line for line in lines]


def _allocate(experts: int, predictors: Sequence[int]) -> list[str]:
    """Code that makes the outputs and the work space of a chunk."""
    return [
        "n = y.shape[0]",
        f"value, slopes = np.empty(n), np.empty(({experts}, n))",
        *(f"d{j} = np.empty((x{j}.shape[0], n))" for j in predictors),
        *(f"t{j} = np.empty(x{j}.shape[0] * WIDTH)" for j in predictors),
        "s, work = np.empty(SCRATCH), np.empty(4 * WIDTH)",
        f"gate, below = np.empty({experts} * WIDTH), np.empty({experts} * WIDTH)",
        f"joint = np.empty({experts} * WIDTH)",
    ]


def _evaluate(group: FamilyGroup, at: int, same: Sequence[bool]) -> list[str]:
    """Code of the log densities and scores of a group whose inputs begin at ``at``."""
    many = len(group.family.PARAMS)
    etas = range(at, at + many)
    shared = all(same[j] for j in etas[1:])
    lines = [f"for k in range({group.stop - group.start}):"]
    lines += [f"    fetch(s[ETA + {q} * WIDTH :], x{j}, k, a, m, w)" for q, j in enumerate(etas)]
    if group.family.KNOWN:
        lines += [f"    fetch(s[KNOWN:], x{at + many}, 0, a, m, w)"]
    lines += [
        f"    fetch(s[BASE:], x{at + group.width - 1}, 0, a, m, w)",
        f"    rows_{group.family_name}(s.ctypes.data, {int(shared)}, w // PACK)",
        f"    to = (k + {group.start}) * WIDTH",
        "    copy(joint[to:], s[VALUE:], w)",
    ]
    lines += [
        f"    copy(t{j}[k * WIDTH :], s[SCORE + {q} * WIDTH :], w)" for q, j in enumerate(etas)
    ]
    return lines


def _store(group: FamilyGroup, at: int) -> list[str]:
    """Code that multiplies a group's scores by responsibilities, and stores them."""
    lines = []
    for j in range(at, at + len(group.family.PARAMS)):
        lines += [
            f"for k in range({group.stop - group.start}):",
            f"    store(d{j}, k, a, m, t{j}[k * WIDTH :], joint[{group.start} * WIDTH :])",
        ]
    return lines

"""Numba code of the fused mixture, generated for the families of a model."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np

from bayes_moe.graph.family_group import FamilyGroup, predictor_inputs
from bayes_moe.kernels import family_rows, fused_pieces
from bayes_moe.kernels.compile import VERSION
from bayes_moe.kernels.families import kernel_of

LAYOUT = ("WIDTH", "PACK", "SCRATCH", "T", "U", "BASE", "REST", "ETA", "VALUE", "SCORE", "STEP")
"""Constants of the families' kernels that the generated code refers to."""


def fused_key(text: str, groups: Sequence[FamilyGroup]) -> str:
    """Key of a cache entry: a digest of the generated code and of the compiled sources."""
    kernels = (kernel_of(group.family).text for group in groups)
    return sha256("".join([VERSION, text, *kernels]).encode()).hexdigest()


def fused_names(groups: Sequence[FamilyGroup]) -> dict[str, Any]:
    """Globals of the code of :func:`fused_code`."""
    namespace = {name: getattr(family_rows, name) for name in LAYOUT} | {"np": np}
    namespace |= {name: getattr(fused_pieces, name) for name in ("fetch", "store", "mix", "copy")}
    for j, group in enumerate(groups):
        namespace[f"rows_{j}"] = fused_pieces.row_function(kernel_of(group.family))
    return namespace


def fused_code(groups: Sequence[FamilyGroup], same: Sequence[bool]) -> str:
    """Source of the compiled function: a loop over chunks of rows, and in it over the groups.

    ``same`` (input,) is whether an input after the logits has one number for all rows.
    """
    experts = groups[-1].stop
    arguments = [f"x{j}" for j in range(len(same))]
    predictors = [j - 2 for j in predictor_inputs(groups)]
    outputs = [f"d{j}" for j in predictors]
    load, store, at = [], [], 0
    for j, group in enumerate(groups):
        load += _evaluate(j, group, at, same)
        store += _store(group, at)
        at += group.width
    body = [
        *_allocate(experts, predictors),
        "for a in range(0, n, WIDTH):",
        "    m = min(WIDTH, n - a)",
        "    w = (m + PACK - 1) // PACK * PACK",
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
    """Source that allocates the outputs and the work space of a chunk."""
    return [
        "n = y.shape[0]",
        f"value, slopes = np.empty(n), np.empty(({experts}, n))",
        *(f"d{j} = np.empty((x{j}.shape[0], n))" for j in predictors),
        *(f"t{j} = np.empty(x{j}.shape[0] * WIDTH)" for j in predictors),
        "s, work = np.empty(SCRATCH), np.empty(4 * WIDTH)",
        f"gate, below = np.empty({experts} * WIDTH), np.empty({experts} * WIDTH)",
        f"joint = np.empty({experts} * WIDTH)",
    ]


def _evaluate(j: int, group: FamilyGroup, at: int, same: Sequence[bool]) -> list[str]:
    """Source of the log densities and scores of group ``j``, whose first input is ``x{at}``."""
    count = group.predictors
    etas = range(at, at + count)
    shared = all(same[i] for i in etas[1:])
    lines = [f"for k in range({group.stop - group.start}):"]
    lines += [f"    fetch(s[ETA + {q} * STEP :], x{i}, k, a, m, w)" for q, i in enumerate(etas)]
    lines += [
        f"    fetch(s[{name}:], x{at + count + q}, 0, a, m, w)"
        for q, name in enumerate(_places(group))
    ]
    lines += [
        f"    rows_{j}(s.ctypes.data, {int(shared)}, w // PACK)",
        f"    to = (k + {group.start}) * WIDTH",
        "    copy(joint[to:], s[VALUE:], w)",
    ]
    lines += [
        f"    copy(t{i}[k * WIDTH :], s[SCORE + {q} * STEP :], w)" for q, i in enumerate(etas)
    ]
    return lines


def _places(group: FamilyGroup) -> list[str]:
    """Where the rows' data are in the scratch space of an expert."""
    return ["T", "U", "BASE", *(f"REST + {j} * WIDTH" for j in range(group.family.more_data))]


def _store(group: FamilyGroup, at: int) -> list[str]:
    """Source that multiplies a group's scores by responsibilities, and stores them."""
    lines = []
    for j in range(at, at + group.predictors):
        lines += [
            f"for k in range({group.stop - group.start}):",
            f"    store(d{j}, k, a, m, t{j}[k * WIDTH :], joint[{group.start} * WIDTH :])",
        ]
    return lines

"""Pairs of outputs of a gate with other outputs, by the relation of their splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from bayes_moe.em.cross_products import Plan
from bayes_moe.em.gate_branches import GateBranches
from bayes_moe.gates.splits import Split


@dataclass(frozen=True)
class GatePairs:
    """Pairs of a gate output with another output: positions in the plan, and both outputs.

    ``root`` and ``split`` are pairs at one split, the root or another, ``..._diagonal`` an output
    with itself. In ``below_branch`` the second is below the first one's branch, in ``below_split``
    below its split, which is not the root.
    """

    root: np.ndarray
    root_diagonal: np.ndarray
    split: np.ndarray
    split_diagonal: np.ndarray
    below_branch: np.ndarray
    below_split: np.ndarray


def gate_pairs(plan: Plan, gate: GateBranches, experts: Mapping[int, int]) -> GatePairs:
    """Pairs of a plan with an output of the gate, by the relation of their splits.

    ``experts`` is the expert of each output that is not the gate's.
    """
    split_of: dict[int, Split] = {
        output: s for s in gate.splits for output in range(s.rows.start, s.rows.stop)
    }
    pairs: dict[str, list[tuple[int, ...]]] = {f.name: [] for f in fields(GatePairs)}
    for at, (a, b) in enumerate(zip(plan.first.tolist(), plan.second.tolist(), strict=True)):
        if a >= gate.size:
            continue
        one, other = split_of[a], split_of.get(b)
        if other is one:
            relation = "root" if one.depth == 0 else "split"
            pairs[relation].append((at, a, b))
            if a == b:
                pairs[f"{relation}_diagonal"].append((at, a))
            continue
        upper, lower, below = a, b, (experts[b],) if other is None else other.below
        if other is not None and other.depth < one.depth:
            upper, lower, below = b, a, one.below
        top = split_of[upper]
        if not set(below) <= set(top.below):
            continue
        if set(below) <= set(top.leaves[upper - top.rows.start]):
            pairs["below_branch"].append((at, upper, lower))
        if top.depth > 0:
            pairs["below_split"].append((at, upper, lower))
    widths = {name: 2 if name.endswith("diagonal") else 3 for name in pairs}
    return GatePairs(
        **{
            name: np.array(rows, dtype=np.int64).reshape(-1, widths[name]).T
            for name, rows in pairs.items()
        }
    )

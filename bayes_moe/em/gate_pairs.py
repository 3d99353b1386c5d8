"""How the rows of a gate's predictors stand to other predictors, for second derivatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from bayes_moe.em.cross_products import Plan
from bayes_moe.gates.splits import Split


@dataclass(frozen=True)
class Links:
    """Pairs of a row of the gate with another predictor: positions in the plan, and both.

    ``root`` and ``split`` are pairs at one split, the root or another, ``..._own`` a row with
    itself; in ``under`` the second lies below the first one's branch, in ``beside`` below its
    split, which is not the root.
    """

    root: np.ndarray
    root_own: np.ndarray
    split: np.ndarray
    split_own: np.ndarray
    under: np.ndarray
    beside: np.ndarray


def links(plan: Plan, splits: Sequence[Split], gate_rows: int, experts: Mapping[int, int]) -> Links:
    """Sort the pairs of a plan that hold a row of the gate, which are its first rows.

    ``experts`` says to which expert every other predictor belongs.
    """
    split_of = {row: s for s in splits for row in range(s.rows.start, s.rows.stop)}
    found: dict[str, list[tuple[int, ...]]] = {f.name: [] for f in fields(Links)}
    for at, (a, b) in enumerate(zip(plan.first.tolist(), plan.second.tolist(), strict=True)):
        if a >= gate_rows:
            continue
        one, other = split_of[a], split_of.get(b)
        if other is one:
            own = "root" if one.depth == 0 else "split"
            found[own].append((at, a, b))
            if a == b:
                found[f"{own}_own"].append((at, a))
            continue
        upper, lower, below = a, b, (experts[b],) if other is None else other.below
        if other is not None and other.depth < one.depth:
            upper, lower, below = b, a, one.below
        top = split_of[upper]
        if not set(below) <= set(top.below):
            continue
        if set(below) <= set(top.leaves[upper - top.rows.start]):
            found["under"].append((at, upper, lower))
        if top.depth > 0:
            found["beside"].append((at, upper, lower))
    widths = {name: 2 if name.endswith("own") else 3 for name in found}
    return Links(
        **{
            name: np.array(rows, dtype=np.int64).reshape(-1, widths[name]).T
            for name, rows in found.items()
        }
    )

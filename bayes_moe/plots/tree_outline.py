"""A gate as a tree: which way each split goes, how many rows pass, and the whole as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.data.reference_grid import Grid, columns_of, grid_along, plain_name, state
from bayes_moe.diagnostics.usage import usage
from bayes_moe.gates.splits import Split
from bayes_moe.model.blocks import Block, Component
from bayes_moe.prediction.branch_probabilities import (
    BRANCH,
    branching_of,
    log_node_probabilities,
    node_probabilities,
)
from bayes_moe.prediction.predict import thinned
from bayes_moe.predictors import Linear
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import xarray as xr

MOST_DRAWS = 400
"""Draws from which directions are read."""

MOST_TERMS, MOST_LETTERS = 4, 60
"""Of a predictor that is written out with its coefficients."""


@dataclass(frozen=True, eq=False)
class OutlineNode:
    """A split or an expert, and what is below.

    Attributes
    ----------
    branch : str
        Label of the branch that leads here; empty at the root.
    share : float
        Posterior mean of the share of the rows' responsibility that comes here.
    depth : int
        Number of branches on the path from the root.
    split : Split or None
        None of an expert.
    expert : int or None
        Position of the expert; None of a split.
    label : str
        Name of the split, or ``"expert"`` and the expert's label.
    children : tuple of Node
        In the order of the branches.
    """

    branch: str
    share: float
    depth: int
    split: Split | None
    expert: int | None
    label: str
    children: tuple[OutlineNode, ...] = ()

    @property
    def leaves(self) -> int:
        """Number of experts below."""
        return sum(child.leaves for child in self.children) or 1

    def walk(self) -> Iterator[OutlineNode]:
        """Yield this node and all below, parents before children."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, eq=False)
class Direction:
    """How a split goes along one column, the others held still.

    Attributes
    ----------
    grid : Grid
        Rows along the column.
    middle : float or None
        Where two branches are equally likely, if that is at one place of a numeric column.
    lower : int or None
        The branch that is likelier below the middle.
    likeliest : tuple of int
        Of a categorical column: the likeliest branch of each category.
    """

    grid: Grid
    middle: float | None = None
    lower: int | None = None
    likeliest: tuple[int, ...] = ()

    def condition(self, branch: int) -> str:
        """Return where a branch is the likeliest, such as ``"x < 3"``, if that can be said."""
        own = [
            str(level)
            for level, best in zip(self.grid.levels, self.likeliest, strict=True)
            if best == branch
        ]
        if 0 < len(own) < len(self.grid.levels):
            return f"{self.grid.feature} = {', '.join(own)}"
        if self.middle is None:
            return ""
        sign = "<" if branch == self.lower else ">"
        return f"{self.grid.feature} {sign} {self.middle:.4g}"


def outline(fit: Fit) -> OutlineNode:
    """Return a fit's gate as a tree, with shares.

    Raises
    ------
    SpecError
        If the gate has no splits.
    """
    below = {frozenset(split.below): split for split in branching_of(fit).splits}
    shares = usage(fit).mean((names.CHAIN, names.DRAW)).values
    labels = fit.spec.expert_labels

    def node(leaves: tuple[int, ...], branch: str, depth: int) -> OutlineNode:
        share = float(shares[list(leaves)].sum())
        if len(leaves) == 1:
            return OutlineNode(branch, share, depth, None, leaves[0], f"expert {labels[leaves[0]]}")
        split = below[frozenset(leaves)]
        children = tuple(
            node(part, label, depth + 1)
            for part, label in zip(split.leaves, split.labels, strict=True)
        )
        return OutlineNode(branch, share, depth, split, None, split.name, children)

    return node(tuple(range(fit.spec.n_experts)), "", 0)


def direction(
    fit: Fit, split: Split, feature: str | None = None, at: Mapping[str, Any] | None = None
) -> Direction | None:
    """Return how a split goes along a column.

    Left out, it is the column with the largest standardised slope: the standard deviation, over
    the fitted rows, of the split's predictor as only this column varies. None if the split has no
    columns.
    """
    few = thinned(fit, MOST_DRAWS)
    if feature is None:
        columns = columns_of(fit.design, stems_of(fit, split))
        if not columns:
            return None
        feature = max(columns, key=lambda column: _slope(few, split, column, at))
    grid = grid_along(fit.design, feature, _others(at, feature), fit.spec.known_formulas)
    shares = node_probabilities(few, grid.rows).sel({BRANCH: list(split.labels)}).values
    if grid.levels:
        return Direction(grid, likeliest=tuple(shares.argmax(axis=1).tolist()))
    if split.branches > 2:
        return Direction(grid)
    return _crossing(grid, shares[:, 0] - 0.5)


def stems_of(fit: Fit, split: Split) -> list[str]:
    """Return which predictors move a split: all of the gate's, if it has no other split."""
    alone = split.branches == fit.spec.n_experts
    return list(fit.spec.gate.formulas) if alone else [split.stem]


def tree_text(fit: Fit, *, at: Mapping[str, Any] | None = None) -> str:
    """Return a fit's gate as text: a tree of splits, with the experts as leaves.

    A split is described by the column that moves it most: the one with the largest standardised
    slope, that is the standard deviation, over the fitted rows, of the split's predictor as only
    this column varies. If it is numeric and there are two branches, the text says where both are
    equally likely, the other columns held still. An expert is described by its coefficients, on
    the scale of the link. At the right stand the shares of the rows' responsibility. Of draws, all
    are posterior means.

    Parameters
    ----------
    fit : Fit
        A fit with a gate of splits: a tree, sticks, or one softmax, which is one split.
    at : mapping of str to value, optional
        Where to hold other columns, in their own units. By default numeric columns are held at
        their median and others at their most frequent category.

    Returns
    -------
    str
        Several lines; print it.

    Raises
    ------
    SpecError
        If the gate has no splits.
    DataError
        For columns in ``at`` that the model does not use.

    Examples
    --------
    >>> print(bm.tree_text(fit))  # doctest: +SKIP
    root: by times, 50 % at 14.72                    100 %
    ├─ expert 0 (times < 14.72): accel = -1.4, ...    14 %
    └─ 1 (times > 14.72): by times, 50 % at 25.3      86 %
       ...
    """
    root = outline(fit)
    held: dict[str, Any] = {}
    lines = list(_lines(fit, root, "", "", "", at, held))
    width = max(len(text) for text, _ in lines)
    rows = [f"{text:<{width}}  {100 * share:3.0f} %" for text, share in lines]
    stated = ", ".join(state(held))
    return "\n".join([*rows, f"(other columns at {stated})"] if stated else rows)


def _lines(
    fit: Fit,
    node: OutlineNode,
    first: str,
    rest: str,
    condition: str,
    at: Mapping[str, Any] | None,
    held: dict[str, Any],
) -> Iterator[tuple[str, float]]:
    """Yield lines of a node and all below with shares; note what columns are held at."""
    where = f" ({condition})" if condition else ""
    if node.expert is not None:
        yield f"{first}{node.label}{where}: {_equations(fit, node.expert)}", node.share
    if node.split is None:
        return
    found = direction(fit, node.split, None, at)
    if found is not None:
        relevant = columns_of(fit.design, stems_of(fit, node.split))
        held |= {c: v for c, v in found.grid.held.items() if c in relevant}
    yield f"{first}{node.branch or node.label}{where}: {_course(found)}", node.share
    for c, child in enumerate(node.children):
        last = c == len(node.children) - 1
        own = "" if found is None else found.condition(c)
        below = rest + ("   " if last else "│  ")
        yield from _lines(fit, child, rest + ("└─ " if last else "├─ "), below, own, at, held)


def _course(found: Direction | None) -> str:
    if found is None:
        return "the same for all rows"
    middle = "" if found.middle is None else f", 50 % at {found.middle:.4g}"
    return f"by {found.grid.feature}{middle}"


def _equations(fit: Fit, expert: int) -> str:
    """Posterior mean parameters of an expert in short."""
    posterior = fit.idata[names.POSTERIOR].to_dataset()
    block = next(b for b in fit.spec.blocks if expert in b.positions)
    parts = [_equation(fit, posterior, block, c, expert) for c in block.components]
    return ", ".join(parts)


def _equation(
    fit: Fit, posterior: xr.Dataset, block: Block, component: Component, expert: int
) -> str:
    """``"y = 1 + 2 x"``, ``"log mu = ..."``, ``"sigma = 0.3"``, or the formula of long ones."""
    link, name = component.parameter.link.name, component.parameter.name
    place = {block.dim: block.positions.index(expert)}
    if component.formula is None:
        value = posterior[component.variable].isel(place).mean()
        return f"{name} = {float(value):.3g}"
    location = name == block.family.PARAMS[0].name and link == "identity"
    left = (
        plain_name(fit.spec.response)
        if location
        else name
        if link == "identity"
        else f"{link} {name}"
    )
    if not isinstance(component.predictor, Linear):
        return f"{left} {component.predictor.kind} {component.formula}"
    term = names.term(component.stem)
    coefs = posterior.get(component.variable)
    if coefs is None or term not in coefs.dims or coefs.sizes[term] > MOST_TERMS:
        return f"{left} {component.formula}"
    means = coefs.isel(place).mean((names.CHAIN, names.DRAW))
    right = _sum_of_terms(means[term].values, means.values)
    return f"{left} = {right}" if len(right) <= MOST_LETTERS else f"{left} {component.formula}"


def _sum_of_terms(terms: np.ndarray, values: np.ndarray) -> str:
    """``"1 - 2 x"``."""
    text = ""
    for term, value in zip(terms.tolist(), values.tolist(), strict=True):
        sign = (" - " if value < 0 else " + ") if text else ("-" if value < 0 else "")
        text += f"{sign}{abs(value):.3g}" + ("" if term == INTERCEPT else f" {term}")
    return text


def _slope(fit: Fit, split: Split, column: str, at: Mapping[str, Any] | None) -> float:
    """Standard deviation of a split's predictor over the fitted rows, as one column varies."""
    grid = grid_along(fit.design, column, _others(at, column), fit.spec.known_formulas)
    logs = log_node_probabilities(fit, grid.rows).sel({BRANCH: list(split.labels)}).values
    rows = logs - logs.mean(axis=1, keepdims=True)  # (point, branch)
    seen = grid.positions(fit.design.columns)
    along = [np.interp(seen, grid.x, row) for row in rows.T]
    return float(np.sqrt(np.var(along, axis=1).sum()))


def _others(at: Mapping[str, Any] | None, column: str) -> dict[str, Any]:
    """Values of columns other than the one that walks."""
    return {c: v for c, v in (at or {}).items() if c != column}


def _crossing(grid: Grid, excess: np.ndarray) -> Direction:
    """Find where a function (point,) changes its sign, if it does so once."""
    changes = np.flatnonzero(np.diff(np.sign(excess)) != 0)
    if len(changes) != 1:
        return Direction(grid)
    j, x = int(changes[0]), grid.x
    step = excess[j] / (excess[j] - excess[j + 1])
    middle = float(x[j] + step * (x[j + 1] - x[j]))
    return Direction(grid, middle, int(excess[j] < 0))

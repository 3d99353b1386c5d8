"""A gate as a tree: shares of the rows, dependence of each split on a column, and a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.data.reference_grid import Grid, columns_of, plain_name, state
from bayes_moe.diagnostics.usage import usage
from bayes_moe.gates.splits import Split
from bayes_moe.model.blocks import Block, Component
from bayes_moe.plots.reference import at_observed, fixed_columns, panel_grid, thinned
from bayes_moe.prediction.branch_probabilities import (
    log_node_probabilities,
    node_probabilities,
    split_tree,
)
from bayes_moe.predictors import Linear
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import xarray as xr

MAX_DRAWS = 400
"""Number of draws from which branch probabilities are computed."""

MAX_TERMS, MAX_LETTERS = 4, 60
"""Longest predictor that is written with its coefficients."""


@dataclass(frozen=True, eq=False)
class OutlineNode:
    """A split or an expert, with the nodes below it.

    Attributes
    ----------
    branch : str
        Label of the branch to this node; empty at the root.
    share : float
        Posterior mean of the rows' responsibility for the experts below, as a share of all rows.
    depth : int
        Number of branches on the path from the root.
    split : Split or None
        None of an expert.
    expert : int or None
        Position of the expert; None of a split.
    label : str
        Name of the split, or ``"expert"`` and the expert's label.
    children : tuple of OutlineNode
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

    def nodes(self) -> Iterator[OutlineNode]:
        """Yield this node and all below, parents before children."""
        yield self
        for child in self.children:
            yield from child.nodes()


@dataclass(frozen=True, eq=False)
class Direction:
    """Dependence of a split's branch probabilities on one column, all other columns fixed.

    Attributes
    ----------
    grid : Grid
        Rows along the column.
    middle : float or None
        The value of a numeric column at which two branches are equally likely, if it is unique.
    lower : int or None
        The branch that is likelier below ``middle``.
    likeliest : tuple of int
        Of a categorical column: the likeliest branch of each category.
    """

    grid: Grid
    middle: float | None = None
    lower: int | None = None
    likeliest: tuple[int, ...] = ()

    def condition(self, branch: int) -> str:
        """Return where a branch is the likeliest, such as ``"x < 3"``, or an empty text."""
        levels = [
            str(level)
            for level, best in zip(self.grid.levels, self.likeliest, strict=True)
            if best == branch
        ]
        if 0 < len(levels) < len(self.grid.levels):
            return f"{self.grid.feature} = {', '.join(levels)}"
        if self.middle is None:
            return ""
        sign = "<" if branch == self.lower else ">"
        return f"{self.grid.feature} {sign} {self.middle:.4g}"


def outline(fit: Fit) -> OutlineNode:
    """Return a fit's gate as a tree, with the share of the rows of each node.

    Raises
    ------
    SpecError
        If the gate has no splits.
    """
    # The experts below a split identify it.
    below = {frozenset(split.below): split for split in split_tree(fit).splits}
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
    """Return the dependence of a split on a column, or None if the split has no columns.

    By default it is the column with the largest standardised slope: the standard deviation, over
    the fitted rows, of the split's predictor as only this column varies.
    """
    subset = thinned(fit, MAX_DRAWS)
    if feature is None:
        columns = columns_of(fit.design, stems_of(fit, split))
        if not columns:
            return None
        feature = max(columns, key=lambda column: _slope(subset, split, column, at))
    grid = panel_grid(fit, feature, at)
    branches = {names.GATE_BRANCH: list(split.labels)}
    probabilities = node_probabilities(subset, grid.rows).sel(branches).values
    if grid.levels:
        return Direction(grid, likeliest=tuple(probabilities.argmax(axis=1).tolist()))
    if split.branches > 2:
        return Direction(grid)
    return _crossing(grid, probabilities[:, 0] - 0.5)


def directions(
    fit: Fit,
    root: OutlineNode,
    feature: str | None = None,
    at: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Direction | None], dict[str, Any]]:
    """Return the :func:`direction` of each split by label, and the columns they fix."""
    by_label: dict[str, Direction | None] = {}
    fixed: dict[str, Any] = {}
    for node in root.nodes():
        if node.split is None:
            continue
        along = by_label[node.label] = direction(fit, node.split, feature, at)
        if along is not None:
            fixed |= fixed_columns(fit, along.grid, stems_of(fit, node.split))
    return by_label, fixed


def stems_of(fit: Fit, split: Split) -> list[str]:
    """Return the stems of a split's predictors: all of the gate's, if it is the only split."""
    is_only = split.branches == fit.spec.n_experts
    return list(fit.spec.gate.formulas) if is_only else [split.stem]


def tree_text(fit: Fit, *, at: Mapping[str, Any] | None = None) -> str:
    """Return a fit's gate as text: a tree of splits, with the experts as leaves.

    A split is described by the column with the largest effect on it: the one with the largest
    standardised slope, that is the standard deviation, over the fitted rows, of the split's
    predictor as only this column varies. If it is numeric and there are two branches, the text has
    the value at which both are equally likely, the other columns fixed. An expert is described by
    its coefficients, on the scale of the link. The last column is the share of the rows'
    responsibility. All are posterior means.

    Parameters
    ----------
    fit : Fit
        A fit with a gate of splits: a tree, sticks, or one softmax, which is one split.
    at : mapping of str to value, optional
        Values to fix other columns at, in their own units. By default numeric columns are fixed
        at their median and others at their most frequent category.

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
    by_label, fixed = directions(fit, root, None, at)
    lines = list(_lines(fit, root, by_label))
    width = max(len(text) for text, _ in lines)
    rows = [f"{text:<{width}}  {100 * share:3.0f} %" for text, share in lines]
    statements = ", ".join(state(fixed))
    return "\n".join([*rows, f"(other columns at {statements})"] if statements else rows)


def _lines(
    fit: Fit,
    node: OutlineNode,
    by_label: Mapping[str, Direction | None],
    first: str = "",
    rest: str = "",
    condition: str = "",
) -> Iterator[tuple[str, float]]:
    """Yield the lines of a node and all below, with shares.

    ``first`` and ``rest`` are the prefixes of the node's line and of those below.
    """
    where = f" ({condition})" if condition else ""
    if node.expert is not None:
        yield f"{first}{node.label}{where}: {_equations(fit, node.expert)}", node.share
        return
    along = by_label[node.label]
    yield f"{first}{node.branch or node.label}{where}: {_rule(along)}", node.share
    for c, child in enumerate(node.children):
        is_last = c == len(node.children) - 1
        prefixes = rest + ("└─ " if is_last else "├─ "), rest + ("   " if is_last else "│  ")
        yield from _lines(fit, child, by_label, *prefixes, along.condition(c) if along else "")


def _rule(along: Direction | None) -> str:
    """Return a split's column and where two branches are equally likely, in words."""
    if along is None:
        return "the same for all rows"
    middle = "" if along.middle is None else f", 50 % at {along.middle:.4g}"
    return f"by {along.grid.feature}{middle}"


def _equations(fit: Fit, expert: int) -> str:
    """Return the posterior mean parameters of an expert as a short text."""
    posterior = fit.idata[names.POSTERIOR].to_dataset()
    block = next(b for b in fit.spec.structure.blocks if expert in b.positions)
    parts = [_equation(fit, posterior, block, c, expert) for c in block.components]
    return ", ".join(parts)


def _equation(
    fit: Fit, posterior: xr.Dataset, block: Block, component: Component, expert: int
) -> str:
    """Return ``"y = 1 + 2 x"``, ``"sigma = 0.3"``, or, if that is too long, the formula."""
    position = {block.dim: block.positions.index(expert)}
    if component.formula is None:
        value = posterior[component.variable].isel(position).mean()
        return f"{component.parameter.name} = {float(value):.3g}"
    left = _left_side(fit, block, component)
    if not isinstance(component.predictor, Linear):
        return f"{left} {component.predictor.kind} {component.formula}"
    term = names.term(component.stem)
    coefs = posterior.get(component.variable)
    if coefs is None or term not in coefs.dims or coefs.sizes[term] > MAX_TERMS:
        return f"{left} {component.formula}"
    means = coefs.isel(position).mean((names.CHAIN, names.DRAW))
    right = _sum_of_terms(means[term].values, means.values)
    return f"{left} = {right}" if len(right) <= MAX_LETTERS else f"{left} {component.formula}"


def _left_side(fit: Fit, block: Block, component: Component) -> str:
    """Return the response for its location, ``"log mu"`` or ``"nu"`` for other parameters."""
    link, name = component.parameter.link.name, component.parameter.name
    if link != "identity":
        return f"{link} {name}"
    return plain_name(fit.spec.response) if name == block.family.PARAMS[0].name else name


def _sum_of_terms(terms: np.ndarray, values: np.ndarray) -> str:
    """Return a linear predictor as text, such as ``"1 - 2 x"``."""
    text = ""
    for term, value in zip(terms.tolist(), values.tolist(), strict=True):
        sign = (" - " if value < 0 else " + ") if text else ("-" if value < 0 else "")
        text += f"{sign}{abs(value):.3g}" + ("" if term == INTERCEPT else f" {term}")
    return text


def _slope(fit: Fit, split: Split, column: str, at: Mapping[str, Any] | None) -> float:
    """Standard deviation of a split's predictor over the fitted rows, as one column varies."""
    grid = panel_grid(fit, column, at)
    branches = {names.GATE_BRANCH: list(split.labels)}
    log_probabilities = log_node_probabilities(fit, grid.rows).sel(branches).values
    # Log probabilities less their mean are the softmax predictor up to its free constant.
    centred = log_probabilities - log_probabilities.mean(axis=1, keepdims=True)  # (point, branch)
    return float(np.sqrt(np.var(at_observed(fit, grid, centred), axis=1).sum()))


def _crossing(grid: Grid, excess: np.ndarray) -> Direction:
    """Return the direction with the root of ``excess`` (point,), if there is exactly one."""
    changes = np.flatnonzero(np.diff(np.sign(excess)) != 0)
    if len(changes) != 1:
        return Direction(grid)
    j, x = int(changes[0]), grid.x
    # Linear interpolation between two points of the grid.
    step = excess[j] / (excess[j] - excess[j + 1])
    middle = float(x[j] + step * (x[j + 1] - x[j]))
    return Direction(grid, middle, int(excess[j] < 0))

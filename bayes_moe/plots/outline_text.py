"""A gate as text: its splits with what they go by, and the experts with their coefficients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.data.reference_grid import plain_name, state
from bayes_moe.data.responses import response_parts
from bayes_moe.model.blocks import Block, Component
from bayes_moe.plots.reference import at_observed, few_draws
from bayes_moe.plots.tree_outline import Direction, OutlineNode, directions, outline
from bayes_moe.prediction.predict import predict
from bayes_moe.predictors import Linear
from bayes_moe.results.fit import Fit, posterior_of

if TYPE_CHECKING:
    import xarray as xr

MAX_TERMS, MAX_LETTERS = 4, 60
"""Longest predictor that is written with its coefficients."""

SEPARATES = 0.8
"""Least share of a branch's rows that meet its condition, and of such rows that take the branch."""

WEAK = 0.25
"""Range of a branch's probability along a column below which the split goes weakly by it."""

LEAST_SIDE = 0.1
"""Least share of a split's rows on each side of a threshold that is written."""

ROUNDING = 1e-12


@dataclass(frozen=True)
class SplitWords:
    """How a split is described: in its own line, and in those of its branches."""

    rule: str
    branches: tuple[str, ...]


def tree_text(fit: Fit, *, at: Mapping[str, Any] | None = None) -> str:
    """Return a fit's gate as text: a tree of splits, with the experts as leaves.

    A split is described by the column with the largest effect on it: the one with the largest
    standardised slope, that is the standard deviation, over the fitted rows, of the split's
    predictor as only this column varies. A split goes "weakly" by a column along which no branch's
    probability varies by 25 points. Otherwise, if the column is numeric and there are two branches,
    the text has the value at which both are equally likely, the other columns fixed, unless less
    than a tenth of the split's rows are on one side of it.

    A branch is described by a condition on the column, such as ``x < 3``, only if the condition
    tells its rows from others: of the rows that meet it, at least 80 % are expected to take the
    branch, and of the rows that take the branch at least 80 % meet it, for every branch of the
    split. Otherwise the text has the least and greatest probability of the branch over the fitted
    rows, without those that are less than half as likely to come to the split as another row is;
    it "rises" or "falls" if it does so along the column over all these rows.

    An expert is described by its coefficients, on the scale of the link. The last column is the
    share of the rows' responsibility. All are posterior means.

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
    weights = predict(few_draws(fit, fit.design.rows.size)).weights().values  # (obs, expert)
    words = {
        node.label: _split_words(fit, node, by_label[node.label], weights)
        for node in root.nodes()
        if node.split is not None
    }
    lines = list(_lines(fit, root, words))
    width = max(len(text) for text, _ in lines)
    rows = [f"{text:<{width}}  {100 * share:3.0f} %" for text, share in lines]
    statements = ", ".join(state(fixed))
    return "\n".join([*rows, f"(other columns at {statements})"] if statements else rows)


def _lines(
    fit: Fit,
    node: OutlineNode,
    words: Mapping[str, SplitWords],
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
    own = words[node.label]
    yield f"{first}{node.branch or node.label}{where}: {own.rule}", node.share
    for c, child in enumerate(node.children):
        is_last = c == len(node.children) - 1
        prefixes = rest + ("└─ " if is_last else "├─ "), rest + ("   " if is_last else "│  ")
        yield from _lines(fit, child, words, *prefixes, own.branches[c])


def _split_words(
    fit: Fit, node: OutlineNode, along: Direction | None, weights: np.ndarray
) -> SplitWords:
    """Return the words on a split, from mean gate weights (obs, expert) of the fitted rows."""
    assert node.split is not None
    if along is None:
        return SplitWords("the same for all rows", ("",) * len(node.children))
    assert along.probabilities is not None
    joint = np.stack([weights[:, list(leaves)].sum(axis=1) for leaves in node.split.leaves], axis=1)
    reach = joint.sum(axis=1)
    curves = np.stack(at_observed(fit, along.grid, along.probabilities), axis=1)  # (obs, branch)
    meets = _meets(fit, along)
    # A row that hardly comes to the split says nothing of the rows that do.
    coming = reach >= reach.max() / 2
    varies = np.nanmax(curves[coming], axis=0) - np.nanmin(curves[coming], axis=0)
    is_weak = bool((varies < WEAK).all())
    rule = f"{'weakly ' if is_weak else ''}by {along.grid.feature}"
    sides = (meets * reach[:, None]).sum(axis=0) / reach.sum()
    if along.middle is not None and not is_weak and min(sides) >= LEAST_SIDE:
        rule += f", 50 % at {along.threshold}"
    if _separates(meets, joint):
        return SplitWords(rule, tuple(along.condition(c) for c in range(len(node.children))))
    share = joint[coming]
    share = share / share.sum(axis=1, keepdims=True)
    order = np.argsort(along.grid.positions(fit.design.columns)[coming], kind="stable")
    ordered = not along.grid.levels and not is_weak
    return SplitWords(rule, tuple(_range(p, ordered) for p in share[order].T))


def _meets(fit: Fit, along: Direction) -> np.ndarray:
    """Return which fitted rows meet the condition of each branch (obs, branch)."""
    assert along.probabilities is not None
    x = along.grid.positions(fit.design.columns)
    branches = np.arange(along.probabilities.shape[1])
    if along.grid.levels:
        return np.asarray(np.array(along.likeliest)[x.astype(int)][:, None] == branches)
    if along.middle is None:
        return np.zeros((len(x), len(branches)), dtype=bool)
    below = branches == along.lower
    return np.where(below, (x < along.middle)[:, None], (x > along.middle)[:, None])


def _separates(meets: np.ndarray, joint: np.ndarray) -> bool:
    """Whether the conditions of branches tell which rows take them.

    ``meets`` (obs, branch) are the rows that meet them, and ``joint`` (obs, branch) is the
    probability that a row comes to the split and takes the branch.
    """
    stated = meets.any(axis=0)
    if stated.sum() < 2:
        return False
    both = (meets * joint).sum(axis=0)[stated]
    meeting = (meets * joint.sum(axis=1, keepdims=True)).sum(axis=0)[stated]
    least = SEPARATES * np.maximum(meeting, joint.sum(axis=0)[stated])
    return bool((both >= least).all())


def _range(p: np.ndarray, ordered: bool) -> str:
    """Return least and greatest of probabilities (obs,) in words.

    With ``ordered`` they are in the order of the column, and the words say if they rise or fall.
    """
    low, high = (f"{100 * end:.0f}" for end in (p.min(), p.max()))
    if low == high:
        return f"probability {low} %"
    changes = np.diff(p)
    if ordered and (changes >= -ROUNDING).all():
        return f"probability rises from {low} to {high} %"
    if ordered and (changes <= ROUNDING).all():
        return f"probability falls from {high} to {low} %"
    return f"probability {low} to {high} %"


def _equations(fit: Fit, expert: int) -> str:
    """Return the posterior mean parameters of an expert as a short text."""
    posterior = posterior_of(fit.idata)
    block = next(b for b in fit.spec.structure.blocks if expert in b.positions)
    parts = [_equation(fit, posterior, block, c, expert) for c in block.components]
    return ", ".join(parts)


def _equation(
    fit: Fit, posterior: xr.Dataset, block: Block, component: Component, expert: int
) -> str:
    """Return ``"y = 1 + 2 x"``, ``"sigma = 0.3"``, or, if that is too long, the formula.

    A parameter of several numbers, such as one a class, has an equation or a value for each.
    """
    labels, own = component.parameter.labels, block.positions.index(expert)
    if component.formula is None:
        values = posterior[component.variable].isel({block.dim: own})
        numbers = values.mean((names.CHAIN, names.DRAW)).values.ravel().tolist()
        return f"{component.parameter.name} = {', '.join(f'{number:.3g}' for number in numbers)}"
    left = _left_side(fit, block, component)
    if not isinstance(component.predictor, Linear):
        return f"{left} {component.predictor.kind} {component.formula}"
    term = names.term(component.stem)
    coefs = posterior.get(component.variable)
    if coefs is None or term not in coefs.dims or coefs.sizes[term] > MAX_TERMS:
        return f"{left} {component.formula}"
    means = coefs.isel({block.dim: own}).mean((names.CHAIN, names.DRAW))
    lines = means.transpose(..., term).values.reshape(-1, means.sizes[term])
    rights = [_sum_of_terms(means[term].values, line) for line in lines]
    if sum(map(len, rights)) > MAX_LETTERS:
        return f"{left} {component.formula}"
    lefts = [f"{left}[{label}]" for label in labels] or [left]
    return ", ".join(f"{name} = {right}" for name, right in zip(lefts, rights, strict=True))


def _left_side(fit: Fit, block: Block, component: Component) -> str:
    """Return the response for its location, ``"log mu"`` or ``"nu"`` for other parameters."""
    link, name = component.parameter.link.name, component.parameter.name
    if link != "identity":
        return f"{link} {name}"
    if name not in block.family.locations:
        return name
    return plain_name(response_parts(fit.spec.response)[component.parameter.response])


def _sum_of_terms(terms: np.ndarray, values: np.ndarray) -> str:
    """Return a linear predictor as text, such as ``"1 - 2 x"``."""
    text = ""
    for term, value in zip(terms.tolist(), values.tolist(), strict=True):
        sign = (" - " if value < 0 else " + ") if text else ("-" if value < 0 else "")
        text += f"{sign}{abs(value):.3g}" + ("" if term == INTERCEPT else f" {term}")
    return text

"""Exchangeable experts, and the permutations of labels that leave a model as it is.

Experts of one kind under a flat softmax are exchangeable. Under a tree, the branches of a split are
exchangeable if the subtrees below them are alike; whole subtrees are exchanged, not single leaves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, permutations
from math import factorial
from typing import Any

import numpy as np

MOST_TRIED = 6
"""Orders of branches that are tried one by one; more are left to the Hungarian algorithm."""


@dataclass(frozen=True)
class Node:
    """A leaf, or branches that are exchangeable where they are alike.

    Attributes
    ----------
    leaves : tuple of int
        Positions of the experts below, in the order of the children.
    children : tuple of Node
        Empty at a leaf; in the order of their signatures.
    alike : tuple of tuple of int
        Children that are exchangeable.
    signature
        Nodes with the same signature are alike.
    """

    leaves: tuple[int, ...]
    children: tuple[Node, ...]
    alike: tuple[tuple[int, ...], ...]
    signature: Any


@dataclass(frozen=True)
class Symmetry:
    """The permutations of experts that leave a model as it is.

    ``root`` is None where the order of experts means something.
    """

    root: Node | None
    experts: int

    @property
    def trivial(self) -> bool:
        """Whether no two experts are exchangeable."""
        return not any(True for _ in self.exchanges())

    def exchanges(self) -> Iterator[tuple[Node, Node]]:
        """Pairs of nodes that are exchangeable, below one parent."""
        if self.root is not None:
            yield from _exchanges(self.root)

    def order(self, level: np.ndarray) -> np.ndarray:
        """Experts (..., place) in the order of their level (..., expert), the lowest first.

        The level of a subtree is the mean of its experts' levels.
        """
        places = np.empty(level.shape, dtype=np.int64)
        if self.root is None:
            places[...] = np.arange(self.experts)
            return places
        places[..., list(self.root.leaves)] = _ordered(self.root, level)
        return places

    def assign(self, costs: np.ndarray) -> np.ndarray:
        """Experts (sample, place) of least total cost; ``costs`` are (sample, place, expert)."""
        places = np.tile(np.arange(self.experts), (len(costs), 1))
        if self.root is not None:
            places[:, list(self.root.leaves)] = _Matching(costs).best(self.root, self.root)[1]
        return places

    def cost(self, costs: np.ndarray, place: Node, source: Node) -> np.ndarray:
        """Least cost (sample,) of the experts below ``source`` in the places below ``place``."""
        return _Matching(costs).best(place, source)[0]


def symmetry(arrangement: Any, kinds: tuple[int, ...]) -> Symmetry:
    """The permutations that leave a model as it is, from the exchange tree of its gate.

    For the tree see :class:`bayes_moe.gates.structure.GateStructure`.
    ``kinds`` (expert,) says what an expert is: only those of the same kind are alike.
    """
    root = None if arrangement is None else _node(arrangement, kinds)
    return Symmetry(root, len(kinds))


def _node(arrangement: Any, kinds: tuple[int, ...]) -> Node:
    if isinstance(arrangement, int):
        return Node((arrangement,), (), (), kinds[arrangement])
    stem, below = arrangement
    # Branches in another order are alike all the same.
    children = tuple(sorted((_node(child, kinds) for child in below), key=_signature))
    alike: dict[Any, list[int]] = {}
    for c, child in enumerate(children):
        alike.setdefault(child.signature, []).append(c)
    leaves = tuple(k for child in children for k in child.leaves)
    signature = (stem, tuple(child.signature for child in children))
    return Node(leaves, children, tuple(map(tuple, alike.values())), signature)


def _signature(node: Node) -> str:
    return repr(node.signature)


def _exchanges(node: Node) -> Iterator[tuple[Node, Node]]:
    for group in node.alike:
        for a, b in combinations(group, 2):
            yield node.children[a], node.children[b]
    for child in node.children:
        yield from _exchanges(child)


def _ordered(node: Node, level: np.ndarray) -> np.ndarray:
    """Experts (..., leaf) for the places of a node's leaves, from left to right."""
    if not node.children:
        return np.full((*level.shape[:-1], 1), node.leaves[0], dtype=np.int64)
    below = [_ordered(child, level) for child in node.children]
    parts: list[Any] = [None] * len(below)
    for group in node.alike:
        stacked = np.stack([below[c] for c in group], axis=-2)  # (..., child, leaf)
        means = np.stack([level[..., list(node.children[c].leaves)].mean(-1) for c in group], -1)
        by_level = np.argsort(means, axis=-1, kind="stable")
        taken = np.take_along_axis(stacked, by_level[..., None], axis=-2)
        for j, c in enumerate(group):
            parts[c] = taken[..., j, :]
    return np.concatenate(parts, axis=-1)


class _Matching:
    """Least costs of putting one subtree's experts into the places of another."""

    def __init__(self, costs: np.ndarray) -> None:
        self.costs = costs
        self.known: dict[tuple[tuple[int, ...], tuple[int, ...]], Any] = {}

    def best(self, place: Node, source: Node) -> tuple[np.ndarray, np.ndarray]:
        """Cost (sample,), and the expert (sample, leaf) in each place."""
        key = (place.leaves, source.leaves)
        if key not in self.known:
            self.known[key] = self._best(place, source)
        cost_and_experts: tuple[np.ndarray, np.ndarray] = self.known[key]
        return cost_and_experts

    def _best(self, place: Node, source: Node) -> tuple[np.ndarray, np.ndarray]:
        samples = len(self.costs)
        if not place.children:
            here, there = place.leaves[0], source.leaves[0]
            return self.costs[:, here, there], np.full((samples, 1), there)
        total = np.zeros(samples)
        parts: list[Any] = [None] * len(place.children)
        for group in place.alike:
            pairs = [
                [self.best(place.children[a], source.children[b]) for b in group] for a in group
            ]
            cost = np.stack([np.stack([c for c, _ in row], -1) for row in pairs], -2)
            chosen = _nearest(cost)  # (sample, place among the group)
            for j, a in enumerate(group):
                options = np.stack([experts for _, experts in pairs[j]], axis=1)
                which = chosen[:, j]
                parts[a] = options[np.arange(samples), which]
                total = total + cost[np.arange(samples), j, which]
        return total, np.concatenate(parts, axis=1)


def _nearest(costs: np.ndarray) -> np.ndarray:
    """Assignment of least total cost: costs (sample, place, source) -> source (sample, place)."""
    size = costs.shape[1]
    if factorial(size) <= MOST_TRIED:
        tried = np.array(list(permutations(range(size))))
        totals = np.stack([costs[:, np.arange(size), p].sum(axis=1) for p in tried])
        return tried[totals.argmin(axis=0)]
    from scipy.optimize import linear_sum_assignment

    return np.array([linear_sum_assignment(c)[1] for c in costs])

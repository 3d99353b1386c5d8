"""Tree gate of the hierarchical mixture of experts: a softmax at every split of a tree.

``log w_k(x) = sum log g_vc(x)`` over the branches ``c`` at the splits ``v`` on the path to leaf
``k``, ``g_v = softmax(eta_v(x))``. Under the default prior each split's rows of predictors sum to
zero, so that it is the same for every order of the branches; deeper splits have a narrower one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from scipy.linalg import block_diag, helmert

from bayes_moe import predictors
from bayes_moe.core import names
from bayes_moe.core.checks import is_number, is_whole
from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.core.records import Record
from bayes_moe.gates.base import Gate
from bayes_moe.gates.splits import Split, SplitTree
from bayes_moe.gates.structure import GateStructure, Head
from bayes_moe.predictors import Linear, Predictor

MOST_LEAVES = 1000

ROOT = "root"
SHRINK = 0.8
"""Factor of the prior's standard deviation, a level."""

Nested = Any
"""An expert's position, or a tuple of branches."""


class Tree(Gate, Record):
    """Gate of a hierarchical mixture of experts.

    Parameters
    ----------
    tree : nested sequence of int or str, optional
        A sequence is a split, its members are branches; a number or a name is a leaf. Numbers are
        positions of experts, all of ``0 .. K - 1``; names are those of the experts in their order:
        ``[["a", "b"], "c"]``. Any depth, any number of branches, unbalanced too.
    branching : sequence of int, optional
        A balanced tree instead: ``(2, 2)`` has two splits of two branches below one of two.
    formula : str, optional
        Features of every split, e.g. ``"~ z"``. Left out, the experts' right-hand side.
    formulas : mapping of str to str, optional
        Features of single splits by name: ``"root"``, or the path of branches that leads there,
        ``"0"``, ``"0.1"``.
    shrink : float
        Standard deviation of a split's prior over that of the split above it (at most 1), so that
        deep splits need evidence: without any, both branches have the same weight everywhere.
    predictor : Predictor or str, optional
        What makes predictors of features at every split, as in :class:`bayes_moe.gates.Softmax`.

    Raises
    ------
    SpecError
        For trees with a split of one branch, missing or doubled positions, and formulas of splits
        that the tree does not have.

    References
    ----------
    Jordan, M. I., & Jacobs, R. A. (1994). Hierarchical mixtures of experts and the EM algorithm.
    Neural Computation, 6(2), 181-214.

    Bishop, C. M., & Svensén, M. (2003). Bayesian hierarchical mixtures of experts. Proceedings of
    the 19th Conference on Uncertainty in Artificial Intelligence, 57-64.

    Examples
    --------
    >>> Tree(branching=(2, 2)).tree
    ((0, 1), (2, 3))
    """

    __slots__ = ("by_split", "formula", "predictor", "shrink", "tree")

    tree: Nested
    formula: str | None
    by_split: Mapping[str, str]
    shrink: float
    predictor: Predictor

    kind: ClassVar[str] = "tree"

    def __init__(
        self,
        tree: Nested = None,
        *,
        branching: Sequence[int] | None = None,
        formula: str | None = None,
        formulas: Mapping[str, str] | None = None,
        shrink: float = SHRINK,
        predictor: Predictor | str | None = None,
    ) -> None:
        if (tree is None) == (branching is None):
            raise SpecError("Give either `tree` or `branching`.")
        shape = _checked(tree) if branching is None else _balanced(branching)
        shape = _numbered(shape)
        if not is_number(shrink) or not 0 < shrink <= 1:
            raise SpecError(f"`shrink` must lie above 0 and not above 1; it is {shrink!r}.")
        if formulas is not None and not isinstance(formulas, Mapping):
            raise SpecError(f"`formulas` must map splits to formulas; it is {formulas!r}.")
        valid = [name for name, _, _ in _walk(shape)]
        for name in formulas or {}:
            if name not in valid:
                raise SpecError(unknown("split", name, valid))
        by_split = dict(formulas or {})
        if by_split and set(by_split) >= set(valid):  # no split has the formula of all others
            formula = by_split[ROOT]
        by_split = {name: f for name, f in by_split.items() if not _same(f, formula)}
        self._set(
            tree=shape,
            formula=formula,
            by_split=MappingProxyType(by_split),
            shrink=float(shrink),
            predictor=predictors.made(predictor),
        )

    def __repr__(self) -> str:
        more = "" if self.formula is None else f", formula={self.formula!r}"
        more += f", formulas={dict(self.by_split)!r}" if self.by_split else ""
        more += "" if self.shrink == SHRINK else f", shrink={self.shrink!r}"
        more += "" if self.predictor == Linear() else f", predictor={self.predictor!r}"
        return f"Tree({_listed(self.tree)!r}{more})"

    @property
    def n_leaves(self) -> int:
        """Number of leaves."""
        return len(list(_leaves(self.tree)))

    @property
    def formulas(self) -> Mapping[str, str | None]:
        formulas: dict[str, str | None] = {}
        for name, _, _ in _walk(self.tree):
            formulas.setdefault(self._stem(name), self.by_split.get(name, self.formula))
        return formulas

    def structure(self, n_experts: int) -> GateStructure:
        self._check_leaves(n_experts)
        splits = _splits(self)
        linear = self.predictor == Linear()
        return GateStructure(
            n_experts,
            _heads(self, splits),
            splits,
            self._exchange_tree(self.tree, ROOT),
            surrogate=None if linear else self._with(self.tree, self.by_split, Linear()),
            coarser=tuple(self.cut(depth) for depth in range(1, self.depth)),
        )

    def _check_leaves(self, n_experts: int) -> None:
        if n_experts != self.n_leaves:
            raise SpecError(
                f"The tree has {self.n_leaves} leaves, but there are {n_experts} experts: a leaf "
                "is an expert."
            )

    def reordered(self, order: tuple[int, ...]) -> Gate:
        self._check_leaves(len(order))
        place = {k: j for j, k in enumerate(order)}
        moved = _mapped(self.tree, place.__getitem__)
        return self._with(moved, self.by_split)

    def _exchange_tree(self, node: Nested, name: str) -> Any:
        """Nested ``(stem, children)`` of a node: only splits of one stem are alike."""
        if isinstance(node, int):
            return node
        children = (self._exchange_tree(child, _path(name, c)) for c, child in enumerate(node))
        return (self._stem(name), tuple(children))

    def cut(self, depth: int) -> tuple[Tree, tuple[tuple[int, ...], ...]]:
        """Return the tree without the splits at a depth and below.

        Besides, the leaves of this tree below each leaf of that one.
        """
        groups: list[tuple[int, ...]] = []

        def node(at: Nested, level: int) -> Nested:
            if isinstance(at, int) or level == depth:
                groups.append(tuple(_leaves(at)))
                return len(groups) - 1
            return tuple(node(child, level + 1) for child in at)

        shape = node(self.tree, 0)
        kept = {name for name, _, level in _walk(self.tree) if level < depth}
        by_split = {name: f for name, f in self.by_split.items() if name in kept}
        return self._with(shape, by_split), tuple(groups)

    def _with(
        self, tree: Nested, by_split: Mapping[str, str], predictor: Predictor | None = None
    ) -> Tree:
        return Tree(
            tree,
            formula=self.formula,
            formulas=by_split,
            shrink=self.shrink,
            predictor=predictor or self.predictor,
        )

    @property
    def depth(self) -> int:
        """Number of splits on the longest path."""
        return 1 + max(level for _, _, level in _walk(self.tree))

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "tree": _listed(self.tree),
            "formula": self.formula,
            "formulas": dict(self.by_split),
            "shrink": self.shrink,
            **({} if self.predictor == Linear() else {"predictor": self.predictor.to_dict()}),
        }

    def _stem(self, name: str) -> str:
        """Stem of a split: splits with the same formula of their own share one."""
        if name not in self.by_split:
            return names.GATE
        same = [
            (d, n)
            for n, _, d in _walk(self.tree)
            if _same(self.by_split.get(n), self.by_split[name])
        ]
        first = min(same, key=lambda at: at[0])[1]  # a tree cut at any depth has the same stems
        return f"{names.GATE}_{first.replace('.', '_')}"


def _splits(gate: Tree) -> SplitTree:
    """Splits by stem, so that outputs of one predictor are neighbours, parents first in each."""
    nodes = list(_walk(gate.tree))
    splits = []
    output = 0
    for stem in gate.formulas:
        for name, children, depth in nodes:
            if gate._stem(name) != stem:
                continue
            outputs = slice(output, output + len(children))
            leaves = tuple(tuple(_leaves(child)) for child in children)
            labels = tuple(_path(name, c) for c in range(len(children)))
            splits.append(Split(name, stem, outputs, leaves, labels, depth))
            output += len(children)
    return SplitTree(tuple(splits), gate.n_leaves)


def _heads(gate: Tree, tree: SplitTree) -> tuple[Head, ...]:
    """One head a stem, for all splits of that stem."""
    heads = []
    for stem in gate.formulas:
        splits = [s for s in tree.splits if s.stem == stem]
        spread = [gate.shrink**s.depth for s in splits]
        bases = [f * helmert(s.branches) for s, f in zip(splits, spread, strict=True)]
        directions = [
            s.name if s.branches == 2 else f"{s.name}[{d}]"
            for s in splits
            for d in range(s.branches - 1)
        ]
        heads.append(
            Head(
                stem,
                gate.predictor,
                f"{stem}_branch",
                tuple(label for s in splits for label in s.labels),
                slice(splits[0].rows.start, splits[-1].rows.stop),
                block_diag(*bases),
                np.repeat(spread, [s.branches for s in splits]),
                tuple(directions),
            )
        )
    return tuple(heads)


def _checked(tree: Nested) -> Nested:
    """Nested tuples of a user's nested sequences."""
    if isinstance(tree, str | int | np.integer) and not isinstance(tree, bool):
        return tree if isinstance(tree, str) else int(tree)
    if not isinstance(tree, Sequence):
        raise SpecError(
            f"A tree is nested sequences of positions or names of experts; {tree!r} is neither."
        )
    if len(tree) < 2:
        raise SpecError(f"A split has at least two branches; {tree!r} has {len(tree)}.")
    return tuple(_checked(child) for child in tree)


def _balanced(branching: Any) -> Nested:
    """Nested tuples with so many branches at each level."""
    whole = isinstance(branching, Sequence) and all(is_whole(b) and b >= 2 for b in branching)
    if not whole or not branching:
        raise SpecError(
            "`branching` must be numbers of branches at each level, at least 2 each, such as "
            f"(2, 2); it is {branching!r}."
        )
    _check_leaf_count(prod(map(int, branching)))
    layer: list[Nested] = list(range(prod(map(int, branching))))
    for width in reversed(branching):
        layer = [tuple(layer[j : j + width]) for j in range(0, len(layer), width)]
    return layer[0]


def _check_leaf_count(count: int) -> None:
    if count > MOST_LEAVES:
        raise SpecError(f"A tree has at most {MOST_LEAVES} leaves; this one has {count}.")


def _numbered(tree: Nested) -> Nested:
    """Replace names by positions in the order of the leaves; check positions."""
    if not isinstance(tree, tuple):
        raise SpecError(f"A tree has at least one split; {tree!r} is a leaf.")
    leaves = list(_leaves(tree))
    _check_leaf_count(len(leaves))
    if len(set(leaves)) < len(leaves):
        twice = next(leaf for leaf in leaves if leaves.count(leaf) > 1)
        raise SpecError(f"The leaf {twice!r} is twice in the tree.")
    if all(isinstance(leaf, str) for leaf in leaves):
        return _mapped(tree, leaves.index)
    if set(leaves) != set(range(len(leaves))):
        raise SpecError(
            f"Leaves must be all names, or the positions 0 to {len(leaves) - 1}; they are {leaves}."
        )
    return tree


def leaf_labels(tree: Nested) -> list[Any]:
    """Return the leaves of a user's nested sequences, from left to right."""
    return list(_leaves(_checked(tree)))


def _same(one: Any, other: Any) -> bool:
    """Whether two formulas are the same but for spaces."""
    if not (isinstance(one, str) and isinstance(other, str)):
        return one is other
    return one.replace(" ", "") == other.replace(" ", "")


def _leaves(tree: Nested) -> Iterator[Any]:
    if not isinstance(tree, tuple):
        yield tree
        return
    for child in tree:
        yield from _leaves(child)


def _walk(
    tree: Nested, name: str = ROOT, depth: int = 0
) -> Iterator[tuple[str, tuple[Nested, ...], int]]:
    """Name, branches and depth of every split, parents before children."""
    if not isinstance(tree, tuple):
        return
    yield name, tree, depth
    for c, child in enumerate(tree):
        yield from _walk(child, _path(name, c), depth + 1)


def _path(name: str, branch: int) -> str:
    return str(branch) if name == ROOT else f"{name}.{branch}"


def _mapped(tree: Nested, change: Any) -> Nested:
    if not isinstance(tree, tuple):
        return change(tree)
    return tuple(_mapped(child, change) for child in tree)


def _listed(tree: Nested) -> Nested:
    return [_listed(child) for child in tree] if isinstance(tree, tuple) else tree

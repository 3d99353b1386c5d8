"""Soft decision tree: ``eta = coef_0 + sum_l coef_l P(leaf l | z)``, with splits that are learned.

At each node a row goes to the right with probability ``sigmoid(sharpness w'z)``; the probability of
a leaf is the product along its path. Nodes are stored level by level. Position ``i`` of a level has
the children ``i`` (left) and ``i + m`` (right) of the next one, where ``m`` is the number of nodes
of the level: bit ``d`` of a leaf's position is 1 if its path goes to the right at depth ``d``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import NUMERIC, Arrays, Values
from bayes_moe.core.checks import check_positive, check_whole
from bayes_moe.core.errors import SpecError
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.basis import Basis, turned
from bayes_moe.predictors.site import Binding, Site
from bayes_moe.predictors.variables import Variable, Variables, coefficients
from bayes_moe.priors.prior import Prior

DEEPEST = 6
TAILS = 2.0
"""Degrees of freedom of the weights' prior: its tails prefer few large weights."""
START = 5.0
"""Initial sharpness: at this one the gradient still reaches rows away from an edge."""
CANDIDATES = 31
"""Candidate thresholds of a column, at quantiles of the rows of a node."""
TRIED = 0.5
"""Share of the candidates that is tried, drawn anew for each node, so that starts differ."""


@dataclass(frozen=True)
class SoftTree(Basis):
    r"""Decision tree with soft splits.

    Where the predictor is that of ``mu``: a row with standardised features ``z`` (1 among them)
    goes to the right at node ``j`` with probability ``sigmoid(mu_sharpness[j] * mu_split[j] @ z)``.
    The leaves' probabilities are products along their paths, and
    ``mu = mu_coef[Intercept] + sum_l mu_coef[l] P(l | z)``: a level and a deviation for each leaf,
    which is named by its path, ``"LR"`` for left, then right. Between sharp edges mu is constant;
    at an edge it changes within ``4 / (sharpness |slopes|)`` standard deviations of the feature.

    Split weights ``mu_split (mu_node, mu_term)`` have a prior ``StudentT(2)``, with scale 1 for the
    intercept, which is minus the threshold for a slope of 1, and 0.5 for slopes: its heavy tails
    prefer one large weight to several of middling size, so that splits use one feature unless the
    data support several. The prior of ``mu_sharpness (mu_node)``, ``LogNormal(log sharpness,
    1)``, is wide enough for edges as sharp as the data can resolve. Coefficients of leaves have the
    standard deviation of a linear predictor's slopes, and the intercept its own. Experts have trees
    of their own, ``mu_split (expert, mu_node, mu_term)``; outputs of a gate share one.

    Parameters
    ----------
    depth : int
        Splits along a path, 1 to 6: the tree has ``2**depth`` leaves.
    sharpness : float
        Prior median of the sharpness, per standard deviation of a feature.

    Raises
    ------
    SpecError
        For settings outside their range, and for a formula without an intercept or a feature.

    Notes
    -----
    The density does not change when a node's sides are exchanged together with their subtrees, and
    the splits of some trees have several equivalent orders: chains agree about predictions, and
    need not about splits and leaves. The posterior of a threshold between two sharp levels has
    many small steps: HMC needs small steps too where edges are sharp.

    References
    ----------
    Jordan, M. I., & Jacobs, R. A. (1994). Hierarchical mixtures of experts and the EM algorithm.
    Neural Computation, 6(2), 181-214.

    Irsoy, O., Yildiz, O. T., & Alpaydin, E. (2012). Soft decision trees. Proceedings of the 21st
    International Conference on Pattern Recognition, 1819-1822.

    Frosst, N., & Hinton, G. (2017). Distilling a neural network into a soft decision tree.
    arXiv:1711.09784.

    Breiman, L., Friedman, J. H., Olshen, R. A., & Stone, C. J. (1984). Classification and
    regression trees. Wadsworth. (Initial splits.)
    """

    depth: int = 2
    sharpness: float = 8.0

    kind: ClassVar[str] = "softtree"

    def __post_init__(self) -> None:
        check_whole("depth", self.depth, 1)
        if self.depth > DEEPEST:
            raise SpecError(f"`depth` must be at most {DEEPEST}; it is {self.depth!r}.")
        check_positive("sharpness", self.sharpness)

    @property
    def nodes(self) -> int:
        """Number of splits."""
        return int(2**self.depth - 1)

    def labels(self, matrix: Matrix) -> list[str]:
        if matrix.intercept != 0 or len(matrix.terms) < 2:
            raise SpecError(f"{self!r} needs a formula with an intercept and a feature.")
        return [INTERCEPT, *paths(self.depth)]

    def features(self, matrix: Matrix) -> np.ndarray:
        return matrix.standardised

    def spread(self, b: Binding, values: Mapping[str, Any], xp: Arrays) -> np.ndarray:
        return np.array([b.units.intercept, *[b.units.slope] * 2**self.depth])

    def phi(self, site: Site, values: Mapping[str, Any], features: Any, xp: Arrays) -> Any:
        weights = values[_split(site)] * values[_sharpness(site)][..., None]  # (..., node, term)
        right = xp.sigmoid(xp.matmul(weights, turned(features)))  # (..., node, obs)
        leaves = xp.concatenate([1.0 - right[..., :1, :], right[..., :1, :]], axis=-2)
        for level in range(1, self.depth):
            m = 2**level
            to_right = leaves * right[..., m - 1 : 2 * m - 1, :]
            leaves = xp.concatenate([leaves - to_right, to_right], axis=-2)
        return leaves

    def leaves(self, site: Site, draws: Values, matrix: Matrix) -> np.ndarray:
        """Return the probabilities of the leaves, which sum to 1.

        Parameters
        ----------
        site : Site
            Site of the tree; ``spec.structure.sites`` lists sites and predictors.
        draws : mapping of arrays
            Reported variables (sample, ...), the site's ``*_split`` and ``*_sharpness`` among
            them.
        matrix : Matrix
            Features of rows, e.g. ``fit.design.rows.matrices[site.stem]``.

        Returns
        -------
        array (sample, output, leaf, obs)
            In the order of :func:`paths`. Outputs of a gate share a tree: (sample, 1, leaf, obs).
        """
        probabilities: np.ndarray = self.phi(site, draws, self.features(matrix), NUMERIC)
        return probabilities if site.each else probabilities[:, None]

    def variables(self, site: Site) -> Variables:
        node = (*site.lead, names.part(site.stem, names.NODE))

        def split_prior(b: Binding) -> Prior:
            sigma = (1.0, *[0.5] * (len(b.matrix.terms) - 1))
            return Prior("StudentT", nu=TAILS, mu=0.0, sigma=sigma)

        def initial_split(b: Binding, rng: np.random.Generator) -> np.ndarray:
            return rng.standard_normal((*b.site.lead_shape, self.nodes, len(b.matrix.terms)))

        split = Variable(
            _split(site),
            (*node, names.term(site.stem)),
            prior=split_prior,
            initial=initial_split,
            in_basis=True,
            identified=False,
        )
        sharpness = Variable(
            _sharpness(site),
            node,
            prior=lambda b: Prior("LogNormal", mu=float(np.log(self.sharpness)), sigma=1.0),
            initial=lambda b, rng: np.full((*b.site.lead_shape, self.nodes), START),
            positive=True,
            in_basis=True,
            identified=False,
        )
        coef = coefficients(site, names.part(site.stem, names.BASIS), identified=False)
        return Variables([coef, split, sharpness])

    def coords(self, b: Binding) -> dict[str, list[Any]]:
        return super().coords(b) | {
            names.part(b.site.stem, names.NODE): list(range(self.nodes)),
            names.term(b.site.stem): list(b.matrix.terms),
        }

    def initial_values(
        self, b: Binding, target: np.ndarray, rng: np.random.Generator, weights: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """Return splits of regression trees grown on ``target``: one tree, or one an output."""
        initial = super().initial_values(b, target, rng, weights)
        shares = np.ones_like(target) if weights is None else weights
        if not b.site.each:
            return initial | {_split(b.site): self._grown(b.matrix, target, shares, rng)}
        trees = [
            self._grown(b.matrix, eta[None], share[None], rng)
            for eta, share in zip(target, shares, strict=True)
        ]
        return initial | {_split(b.site): np.stack(trees)}

    def _grown(
        self, matrix: Matrix, target: np.ndarray, weights: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Return split weights (node, term) of a greedy tree on ``target`` (output, obs)."""
        z = matrix.standardised
        splits, where = [], np.zeros(len(z), dtype=np.int64)
        for level in range(self.depth):
            for i in range(2**level):
                at = where == i
                splits.append(_cut(z[at], target[:, at], weights[:, at], rng))
            level_splits = np.array(splits[-(2**level) :])
            where += 2**level * (np.einsum("ot,ot->o", z, level_splits[where]) > 0)
        return np.array(splits)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind} | asdict(self)


def paths(depth: int) -> list[str]:
    """Return names of the leaves by where their paths turn: ``["LL", "RL", "LR", "RR"]``."""
    return ["".join("LR"[i >> d & 1] for d in range(depth)) for i in range(2**depth)]


def _split(site: Site) -> str:
    return names.part(site.stem, names.SPLIT)


def _sharpness(site: Site) -> str:
    return names.part(site.stem, names.SHARPNESS)


def _cut(
    z: np.ndarray, target: np.ndarray, weights: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Weights (term,) of a split of the rows of a node by one feature.

    The feature is drawn in proportion to how much its best candidate threshold reduces the sum of
    squares of ``target`` (output, obs); the threshold is that one.
    """
    terms = z.shape[1]
    split, total = np.zeros(terms), weights.sum()
    if total <= 0:
        split[0], split[rng.integers(1, terms)] = rng.standard_normal(), 1.0
        return split
    columns = np.repeat(np.arange(1, terms), CANDIDATES)
    thresholds = np.concatenate([_quantiles(z[:, j], weights.sum(axis=0)) for j in range(1, terms)])
    right = (z[:, columns] > thresholds).T.astype(float)  # (candidate, obs)
    gains = _gains(right, target, weights) * (rng.uniform(size=columns.size) < TRIED)
    # The summand gives every column a chance where no candidate has a gain.
    by_column = gains.reshape(-1, CANDIDATES).max(axis=1) + 1e-12 * total
    column = rng.choice(terms - 1, p=by_column / by_column.sum())
    best = column * CANDIDATES + gains[column * CANDIDATES :][:CANDIDATES].argmax()
    split[0], split[column + 1] = -thresholds[best], 1.0
    return split


def _quantiles(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted quantiles (candidate,) at equally spaced probabilities between 0 and 1."""
    order = np.argsort(x)
    reached = np.cumsum(weights[order]) / weights.sum()
    probabilities = np.arange(1, CANDIDATES + 1) / (CANDIDATES + 1)
    return np.interp(probabilities, reached, x[order])


def _gains(right: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Reductions (candidate,) of the weighted sum of squares of ``target`` (output, obs)."""
    total, sums = weights.sum(axis=1), (weights * target).sum(axis=1)
    means = np.divide(sums, total, out=np.zeros_like(sums), where=total > 0)
    centred = weights * (target - means[:, None])
    size, shift = right @ weights.T, right @ centred.T  # (candidate, output)
    # A side without weight has no mean; rounding may leave a little on it.
    tiny = 1e-12 * total.sum()
    both = (size > tiny) & (total - size > tiny)
    gains = np.divide(shift**2 * total, size * (total - size), out=np.zeros_like(size), where=both)
    reductions: np.ndarray = gains.sum(axis=1)
    return reductions

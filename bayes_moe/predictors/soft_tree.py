"""Soft decision tree: ``eta = coef_0 + sum_l coef_l P(leaf l | z)``, with splits that are learned.

At each node a row goes to the right with probability ``sigmoid(sharpness w'z)``; the probability of
a leaf is the product along its path. Nodes stand level by level. Position ``i`` of a level has the
children ``i`` (left) and ``i + m`` (right) of the next one, where ``m`` is the number of nodes of
the level: bit ``d`` of a leaf's position says where its path turns at depth ``d``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import NUMERIC, Arrays
from bayes_moe.core.checks import check_positive, check_whole
from bayes_moe.core.errors import SpecError
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.base import Values
from bayes_moe.predictors.basis import Basis
from bayes_moe.predictors.site import Site
from bayes_moe.priors.defaults import Units
from bayes_moe.priors.prior import Prior

DEEPEST = 6
TAILS = 2.0
"""Degrees of freedom of the weights' prior: its tails prefer few large weights."""
START = 5.0
"""Sharpness at which climbs begin: edges that far away are still seen."""
CANDIDATES = 31
"""Thresholds of a column that are tried, at quantiles of the rows of a node."""
TRIED = 0.5
"""Share of these, drawn anew for each node, so that starts differ."""


@dataclass(frozen=True)
class SoftTree(Basis):
    r"""Decision tree with soft splits.

    Where the predictor is that of ``mu``: a row with standardised features ``z`` (1 among them)
    goes to the right at node ``j`` with probability ``sigmoid(mu_sharpness[j] * mu_split[j] @ z)``.
    The leaves' probabilities are products along their paths, and
    ``mu = mu_coef[Intercept] + sum_l mu_coef[l] P(l | z)``: a level and a deviation for each leaf,
    which is named by its path, ``"LR"`` for left, then right. Between sharp edges mu is constant;
    at an edge it moves over about ``4 / (sharpness |slopes|)`` standard deviations of the feature.

    Split weights ``mu_split (mu_node, mu_term)`` have a prior ``StudentT(2)``, with scale 1 for the
    intercept, which is minus the threshold for a slope of 1, and 0.5 for slopes: its heavy tails
    prefer one large weight to several middling ones, so that splits lie along one feature unless
    the rows say otherwise. The prior of ``mu_sharpness (mu_node)``, ``LogNormal(log sharpness,
    1)``, is wide enough for edges as sharp as the rows can tell. Coefficients of leaves have the
    standard deviation of a linear predictor's slopes, and the intercept its own. Experts have trees
    of their own, ``mu_split (expert, mu_node, mu_term)``; rows of a gate share one.

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
    A node's sides may trade places together with the subtrees below, without any change of the
    density, and the splits of some trees may be told in another order: chains agree about
    predictions, and need not about splits and leaves. The posterior of a threshold between two
    sharp levels has many small steps: HMC needs small steps too where edges are sharp.

    References
    ----------
    Jordan, M. I., & Jacobs, R. A. (1994). Hierarchical mixtures of experts and the EM algorithm.
    Neural Computation, 6(2), 181-214.

    Irsoy, O., Yildiz, O. T., & Alpaydin, E. (2012). Soft decision trees. Proceedings of the 21st
    International Conference on Pattern Recognition, 1819-1822.

    Frosst, N., & Hinton, G. (2017). Distilling a neural network into a soft decision tree.
    arXiv:1711.09784.

    Breiman, L., Friedman, J. H., Olshen, R. A., & Stone, C. J. (1984). Classification and
    regression trees. Wadsworth. (Where climbs begin.)
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

    def spreads(
        self, place: Site, own: Mapping[str, Any], units: Units, matrix: Matrix, xp: Arrays
    ) -> np.ndarray:
        return np.array([units.intercept, *[units.slope] * 2**self.depth])

    def phi(self, place: Site, own: Mapping[str, Any], features: Any, xp: Arrays) -> Any:
        weights = own[_split(place)] * own[_sharpness(place)][..., None]  # (..., node, term)
        right = xp.sigmoid(xp.matmul(weights, features.T))  # (..., node, obs)
        found = xp.concatenate([1.0 - right[..., :1, :], right[..., :1, :]], axis=-2)
        for level in range(1, self.depth):
            m = 2**level
            turned = found * right[..., m - 1 : 2 * m - 1, :]
            found = xp.concatenate([found - turned, turned], axis=-2)
        return found

    def leaves(self, place: Site, draws: Values, matrix: Matrix) -> np.ndarray:
        """Return the probabilities of the leaves, which sum to 1.

        Parameters
        ----------
        place : Place
            Where the tree stands; ``spec.placed`` lists places and predictors.
        draws : mapping of arrays
            Reported variables (sample, ...), the place's ``*_split`` and ``*_sharpness`` among
            them.
        matrix : Matrix
            Features of rows, e.g. ``fit.design.rows.matrices[place.stem]``.

        Returns
        -------
        array (sample, row, leaf, obs)
            In the order of :func:`paths`. Rows of a gate share a tree: (sample, 1, leaf, obs).
        """
        found: np.ndarray = self.phi(place, draws, self.features(matrix), NUMERIC)
        return found if self.each(place) else found[:, None]

    # --- splits -------------------------------------------------------------------------------

    def hyperparameter_priors(
        self, place: Site, matrix: Matrix, response: np.ndarray
    ) -> dict[str, Prior]:
        sigma = (1.0, *[0.5] * (len(matrix.terms) - 1))
        return {
            _split(place): Prior("StudentT", nu=TAILS, mu=0.0, sigma=sigma),
            _sharpness(place): Prior("LogNormal", mu=float(np.log(self.sharpness)), sigma=1.0),
        }

    def hyperparameter_dims(self, place: Site) -> dict[str, tuple[str, ...]]:
        lead = (*self.lead(place), f"{place.stem}_node")
        return {_split(place): (*lead, names.term(place.stem)), _sharpness(place): lead}

    def positive(self, place: Site) -> frozenset[str]:
        return frozenset({_sharpness(place)})

    def basis_parameters(self, place: Site) -> frozenset[str]:
        return frozenset({_split(place), _sharpness(place)})

    def coords(self, place: Site, matrix: Matrix) -> dict[str, list[Any]]:
        return super().coords(place, matrix) | {
            f"{place.stem}_node": list(range(self.nodes)),
            names.term(place.stem): list(matrix.terms),
        }

    # --- where climbs begin -------------------------------------------------------------------

    def initial_hyperparameters(
        self, place: Site, matrix: Matrix, rng: np.random.Generator
    ) -> dict[str, Any]:
        lead = (*self.lead_shape(place), self.nodes)
        weights = rng.standard_normal((*lead, len(matrix.terms)))
        return {_split(place): weights, _sharpness(place): np.full(lead, START)}

    def initialise(
        self,
        place: Site,
        matrix: Matrix,
        target: np.ndarray,
        rng: np.random.Generator,
        weights: np.ndarray | None,
    ) -> dict[str, np.ndarray]:
        """Splits of a regression tree that is grown on ``target``, one or one for each row."""
        found = self.initial_hyperparameters(place, matrix, rng)
        shares = np.ones_like(target) if weights is None else weights
        if not self.each(place):
            return found | {_split(place): self._grown(matrix, target, shares, rng)}
        grown = [
            self._grown(matrix, own[None], share[None], rng)
            for own, share in zip(target, shares, strict=True)
        ]
        return found | {_split(place): np.stack(grown)}

    def _grown(
        self, matrix: Matrix, target: np.ndarray, weights: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Split weights (node, term) of a tree grown greedily on ``target`` (row, obs)."""
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


def _split(place: Site) -> str:
    return f"{place.stem}_split"


def _sharpness(place: Site) -> str:
    return f"{place.stem}_sharpness"


def _cut(
    z: np.ndarray, target: np.ndarray, weights: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Weights (term,) of a split of some rows by one feature.

    The feature is drawn in proportion to what its best threshold takes off the sum of squares of
    ``target`` (row, obs), the threshold is the best of some.
    """
    terms = z.shape[1]
    found, total = np.zeros(terms), weights.sum()
    if total <= 0:
        found[0], found[rng.integers(1, terms)] = rng.standard_normal(), 1.0
        return found
    columns = np.repeat(np.arange(1, terms), CANDIDATES)
    thresholds = np.concatenate([_quantiles(z[:, j], weights.sum(axis=0)) for j in range(1, terms)])
    right = (z[:, columns] > thresholds).T.astype(float)  # (candidate, obs)
    gains = _gains(right, target, weights) * (rng.uniform(size=columns.size) < TRIED)
    by_column = gains.reshape(-1, CANDIDATES).max(axis=1) + 1e-12 * total
    column = rng.choice(terms - 1, p=by_column / by_column.sum())
    best = column * CANDIDATES + gains[column * CANDIDATES :][:CANDIDATES].argmax()
    found[0], found[column + 1] = -thresholds[best], 1.0
    return found


def _quantiles(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted quantiles at equal steps, none at the ends."""
    order = np.argsort(x)
    reached = np.cumsum(weights[order]) / weights.sum()
    found: np.ndarray = np.interp(
        np.arange(1, CANDIDATES + 1) / (CANDIDATES + 1), reached, x[order]
    )
    return found


def _gains(right: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Falls (candidate,) of the weighted sum of squares of ``target`` (row, obs) by each split."""
    whole, sums = weights.sum(axis=1), (weights * target).sum(axis=1)
    means = np.divide(sums, whole, out=np.zeros_like(sums), where=whole > 0)
    centred = weights * (target - means[:, None])
    size, moved = right @ weights.T, right @ centred.T  # (candidate, row)
    tiny = 1e-12 * whole.sum()
    both = (size > tiny) & (whole - size > tiny)
    gains = np.divide(moved**2 * whole, size * (whole - size), out=np.zeros_like(size), where=both)
    found: np.ndarray = gains.sum(axis=1)
    return found

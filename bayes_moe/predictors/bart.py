"""Bayesian additive regression trees: eta is a sum of many small trees.

The trees have no gradient. pymc-bart moves them by particle Gibbs, in turn with the steps by which
NUTS moves everything else; their values on new rows need no pymc-bart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_positive, check_whole
from bayes_moe.core.errors import SpecError, need
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.bart_trees import Cuts, cuts, forest_eta
from bayes_moe.predictors.base import NOTHING, Predictor, Values
from bayes_moe.predictors.site import Site
from bayes_moe.priors.defaults import standard
from bayes_moe.priors.prior import Prior

SPREAD = {"rate": 1.0, "odds": 2.0, "scale": 0.5}
"""Standard deviation that the sum of the trees begins with on a log or logit scale."""
MOST_COLUMNS = 32767


@dataclass(frozen=True)
class BART(Predictor):
    r"""A sum of regression trees, one sum for each expert.

    ``eta(x) = sum_j g_j(x)``, with trees ``g_j`` that are constant in boxes of the features. A node
    at depth ``d`` splits with prior probability ``alpha (1 + d)**-beta``, at a value of a column
    that is drawn from those of its rows. Values in the leaves are normal about what the trees say
    already; their spread begins with that of the response (on the link scale, with a usual one),
    and pymc-bart adapts it while tuning. So the level of the trees has no prior of its own.

    The features are the columns of the formula's design without the intercept; a category's are 0
    and 1. Write columns plainly: trees find bends and interactions, and no scaling matters to them.

    It needs ``pip install bayes_moe[bart]`` and ``method="nuts"`` with PyMC's sampler, which is
    then the default. It predicts a parameter of an expert, and cannot stand in a gate.

    Parameters
    ----------
    trees : int
        Number of trees of each expert.
    alpha, beta : float
        Prior of the trees' depth: ``alpha`` between 0 and 1, ``beta`` positive.
    particles : int
        Candidates for each new tree. Chains mix much better with 40 than with pymc-bart's own 10.
    batch : float
        Share of the trees that a draw replaces, one after another.

    Notes
    -----
    A fit has ``mu_split`` and ``mu_cut`` (chain, draw, expert, mu_node): for every expert the nodes
    of all its trees, in preorder. ``mu_split`` is the column by which a node splits (-1 at a leaf,
    -2 where there is no node), ``mu_cut`` the largest value that goes to the left, or what a leaf
    adds. ``mu_raw`` (chain, draw, expert, obs_id) is their sum at the fitted rows. Summaries leave
    the trees out.

    References
    ----------
    Chipman, H. A., George, E. I., & McCulloch, R. E. (2010). BART: Bayesian additive regression
    trees. The Annals of Applied Statistics, 4(1), 266-298.

    Quiroga, M., Garay, P. G., Alonso, J. M., Loyola, J. M., & Martin, O. A. (2023). Bayesian
    additive regression trees for probabilistic programming. arXiv:2206.03619.
    """

    kind: ClassVar[str] = "bart"
    gradient: ClassVar[bool] = False

    trees: int = 50
    alpha: float = 0.95
    beta: float = 2.0
    particles: int = 40
    batch: float = 0.1

    def __post_init__(self) -> None:
        for name, least in (("trees", 1), ("particles", 2)):
            check_whole(name, getattr(self, name), least)
        for name in ("alpha", "beta", "batch"):
            check_positive(name, getattr(self, name))
        if self.alpha >= 1:
            raise SpecError(f"`alpha` must be a number between 0 and 1; it is {self.alpha!r}.")
        if self.batch > 1:
            raise SpecError(f"`batch` must be a share of the trees; it is {self.batch!r}.")

    # --- in a graph ---------------------------------------------------------------------------

    def build(
        self,
        place: Site,
        matrix: Matrix,
        response: np.ndarray,
        prior: Prior | None,
        own: Mapping[str, Prior] | None = None,
    ) -> Any:
        if not place.each:
            raise SpecError(
                f"{self!r} predicts a parameter of an expert and cannot stand in a gate: give the "
                "gate a linear predictor, 'spline', 'hsgp' or 'mlp'."
            )
        need("pymc_bart", "bart")
        import pymc_bart

        columns = self.columns(place, matrix)
        return pymc_bart.BART(
            place.raw,
            columns.values,
            self.target(place, response),
            m=self.trees,
            alpha=self.alpha,
            beta=self.beta,
            split_rules=columns.rules,
            dims=(place.dim, names.OBS),
        )

    def columns(self, place: Site, matrix: Matrix) -> Cuts:
        """Return the features as the sampler of trees is given them."""
        features = _features(matrix)
        if not 0 < features.shape[1] <= MOST_COLUMNS:
            raise SpecError(
                f"{self!r} of {place.stem!r} needs features to split by, at most {MOST_COLUMNS}; "
                f"the formula makes {features.shape[1]}."
            )
        return cuts(features)

    def target(self, place: Site, response: np.ndarray) -> np.ndarray:
        """About where eta may lie (obs,): the mean and the spread with which trees begin."""
        units = standard(place.role, response, True)
        z = (response - response.mean()) / response.std()
        found: np.ndarray = units.offset + SPREAD.get(place.role, 1.0) * units.unit * z
        return found

    # --- on draws -----------------------------------------------------------------------------

    def evaluate(self, place: Site, draws: Values, matrix: Matrix) -> np.ndarray:
        split, cut = (draws[name] for name in self.dims(place))
        return forest_eta(split, cut, _features(matrix))

    def to_raw(self, place: Site, matrix: Matrix, response: np.ndarray, values: Values) -> Values:
        return {place.raw: values[place.raw]}

    def project(
        self,
        place: Site,
        matrix: Matrix,
        response: np.ndarray,
        target: np.ndarray,
        rng: np.random.Generator,
        *,
        ridge: float = 1e-8,
        weights: np.ndarray | None = None,
        known: Values = NOTHING,
    ) -> dict[str, np.ndarray]:
        return {place.raw: np.array(target)}

    # --- names and shapes ---------------------------------------------------------------------

    def dims(self, place: Site) -> dict[str, tuple[str, ...]]:
        node = f"{place.stem}_node"
        return {
            f"{place.stem}_split": (place.dim, node),
            f"{place.stem}_cut": (place.dim, node),
        }

    def unidentified(self, place: Site) -> frozenset[str]:
        return frozenset(self.dims(place))

    def internal_dims(self, place: Site) -> dict[str, tuple[str, ...]]:
        return {place.raw: (place.dim, names.OBS)}

    def shapes(self, place: Site, matrix: Matrix) -> dict[str, tuple[int, ...]]:
        raise SpecError(f"Trees cannot be given as parameters: {place.stem!r} has {self!r}.")

    def default_prior(self, place: Site, matrix: Matrix, response: np.ndarray) -> Prior:
        raise SpecError(f"{self!r} of {place.stem!r} has no coefficients.")

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


def _features(matrix: Matrix) -> np.ndarray:
    """Columns without the intercept (obs, column)."""
    return np.delete(matrix.values, [] if matrix.intercept is None else [matrix.intercept], axis=1)

"""Bayesian additive regression trees: eta is a sum of many small trees.

The trees have no gradient. pymc-bart samples them by particle Gibbs, in turn with NUTS steps of all
other parameters; their values on new rows need no pymc-bart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import Values
from bayes_moe.core.checks import check_positive, check_whole
from bayes_moe.core.errors import SpecError, need
from bayes_moe.core.graph_context import CONSTANTS, GraphContext
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.bart_trees import Cuts, cuts, forest_eta
from bayes_moe.predictors.base import NO_PRIORS, Predictor, Target
from bayes_moe.predictors.site import Binding, Site
from bayes_moe.predictors.variables import Variable, Variables
from bayes_moe.priors.defaults import units_of
from bayes_moe.priors.prior import Prior

SPREAD = {"rate": 1.0, "odds": 2.0, "scale": 0.5}
"""Initial standard deviation of the sum of the trees on a log or logit scale, by role."""
MOST_COLUMNS = 32767
MOST_TREES = 10_000


@dataclass(frozen=True)
class BART(Predictor):
    r"""A sum of regression trees, one sum for each expert.

    ``eta(x) = sum_j g_j(x)``, with trees ``g_j`` that are constant in boxes of the features. A node
    at depth ``d`` splits with prior probability ``alpha (1 + d)**-beta``, at a value of a column
    that is drawn from those of its rows. Values in the leaves are normal about the current values
    of the trees; their initial spread is that of the response (on the link scale, a usual one),
    and pymc-bart adapts it while tuning. So the level of the trees has no separate prior.

    The features are the columns of the formula's design without the intercept; a category's are 0
    and 1. Columns need no transformation: trees model curves and interactions, whatever the scale.

    It needs ``pip install bayes_moe[bart]`` and ``method="nuts"`` with PyMC's sampler, which is
    then the default. It predicts a parameter of an expert, never a gate.

    Parameters
    ----------
    trees : int
        Number of trees of each expert.
    alpha, beta : float
        Prior of the trees' depth: ``alpha`` between 0 and 1, ``beta`` positive.
    particles : int
        Candidates for each new tree. Chains mix much better with 40 than with pymc-bart's own 10.
    batch : float
        Share of the trees that each draw replaces.

    Notes
    -----
    A fit has ``mu_split`` and ``mu_cut`` (chain, draw, expert, mu_node): for every expert the nodes
    of all its trees, in preorder. ``mu_split`` is the column by which a node splits (-1 at a leaf,
    -2 where there is no node), ``mu_cut`` the largest value that goes to the left, or what a leaf
    adds. ``mu_raw`` (chain, draw, expert, obs_id) in the group ``unconstrained_posterior`` is their
    sum at the fitted rows. Summaries leave the trees out.

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
            check_whole(name, getattr(self, name), least, MOST_TREES)
        for name in ("alpha", "beta", "batch"):
            check_positive(name, getattr(self, name))
        if self.alpha >= 1:
            raise SpecError(f"`alpha` must be a number between 0 and 1; it is {self.alpha!r}.")
        if self.batch > 1:
            raise SpecError(f"`batch` must be a share of the trees; it is {self.batch!r}.")

    def build(
        self,
        b: Binding,
        prior: Prior | None,
        priors: Mapping[str, Prior] = NO_PRIORS,
        context: GraphContext = CONSTANTS,
    ) -> Any:
        if not b.site.each:
            raise SpecError(
                f"{self!r} predicts a parameter of an expert and cannot stand in a gate: give the "
                "gate a linear predictor, 'spline', 'hsgp' or 'mlp'."
            )
        if context.given:
            from bayes_moe.predictors.evaluation_op import Evaluation

            dims = self.variables(b.site).dims
            trees = {n: context.given_variable(n, d) for n, d in dims.items()}
            return Evaluation(self, b, tuple(trees))(*trees.values())
        need("pymc_bart", "bart")
        import pymc_bart

        columns = self.columns(b)
        return pymc_bart.BART(
            b.site.raw,
            columns.values,
            self.target(b),
            m=self.trees,
            alpha=self.alpha,
            beta=self.beta,
            split_rules=columns.rules,
            dims=(b.site.dim, names.OBS),
        )

    def columns(self, b: Binding) -> Cuts:
        """Return the features in the form that the sampler of trees takes."""
        features = _features(b.matrix)
        if not 0 < features.shape[1] <= MOST_COLUMNS:
            raise SpecError(
                f"{self!r} of {b.site.stem!r} needs features to split by, at most {MOST_COLUMNS}; "
                f"the formula makes {features.shape[1]}."
            )
        return cuts(features)

    def target(self, b: Binding) -> np.ndarray:
        """Return values (obs,) with the mean and the standard deviation of the initial trees."""
        # Not the binding's units: trees have a level even where the formula has no intercept.
        units = units_of(b.site.role, b.response, True, b.matrix.level)
        z = (b.response.values - b.response.mean) / b.response.sd
        target: np.ndarray = units.offset + SPREAD.get(b.site.role, 1.0) * units.unit * z
        return target

    def evaluate(self, b: Binding, draws: Values) -> np.ndarray:
        split, cut = (draws[v.name] for v in self.variables(b.site))
        return forest_eta(split, cut, _features(b.matrix))

    def to_raw(self, b: Binding, values: Values) -> Values:
        return {b.site.raw: values[b.site.raw]}

    def project(self, b: Binding, target: Target) -> dict[str, np.ndarray]:
        return {b.site.raw: np.array(target.eta)}

    def variables(self, site: Site) -> Variables:
        dims = (site.dim, names.part(site.stem, names.NODE))
        return Variables(
            Variable(names.part(site.stem, suffix), dims, identified=False)
            for suffix in (names.SPLIT, names.CUT)
        )

    def internal_dims(self, site: Site) -> dict[str, tuple[str, ...]]:
        return {site.raw: (site.dim, names.OBS)}

    def shapes(self, b: Binding) -> dict[str, tuple[int, ...]]:
        raise SpecError(f"Trees cannot be given as parameters: {b.site.stem!r} has {self!r}.")

    def default_prior(self, b: Binding) -> Prior:
        raise SpecError(f"{self!r} of {b.site.stem!r} has no coefficients.")

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


def _features(matrix: Matrix) -> np.ndarray:
    """Columns without the intercept (obs, column)."""
    return np.delete(matrix.values, [] if matrix.intercept is None else [matrix.intercept], axis=1)

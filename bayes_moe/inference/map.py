"""The mode of any model through its graph's gradient: quasi-Newton from many starts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_share, check_whole
from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.core.progress import progress
from bayes_moe.data.design import Design
from bayes_moe.em.modes import merge_modes
from bayes_moe.em.multistart import SUBSAMPLE
from bayes_moe.graph.build import build
from bayes_moe.graph.log_density import GraphLogDensity
from bayes_moe.inference.base import Method
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.optimize.adam import Schedule, descend
from bayes_moe.optimize.graph_modes import ends
from bayes_moe.optimize.hyperparameters import optimise_hyperparameters
from bayes_moe.optimize.lbfgs import search
from bayes_moe.optimize.linear_surrogate import first_values
from bayes_moe.results.mode_tree import point_tree

if TYPE_CHECKING:
    import xarray as xr


OPTIMIZERS = ("auto", "lbfgs", "adam")
MOST_ROWS = 20_000
"""Rows up to which ``"auto"`` is L-BFGS."""


@dataclass(frozen=True)
class MAP(Method):
    """Settings of maximisation through the graph.

    The objective is that of ``method="em"`` under the priors, the PyMC model's log density without
    Jacobian. Where EM can treat a model, EM is faster: no graph is compiled. A model that is not
    linear is climbed from modes of one whose gate is a softmax of linear predictors.

    Learned scales, such as weight decay and smoothing, have no mode together with what they scale.
    They are put at their marginal mode (:mod:`bayes_moe.optimize.hyperparameters`), and the
    objective is the density given these; where second derivatives are not affordable, and by Adam,
    they stay where climbs begin.

    L-BFGS climbs with the graph's own gradient; of eight starts or more the better half is
    followed to the end. The best climbs end with Newton steps, with a Hessian from differences of
    gradients, which also gives the standard errors. Where it is not affordable (more than 400
    coordinates, or coordinates x rows x experts above 2e7), ``converged`` says that the gradient's
    norm is below ``1e-6 * (1 + |objective|)``, and there are no standard errors: they are NaN.

    Adam follows gradients of ``log prior + (n / b) log likelihood`` of batches of ``b`` of the
    ``n`` rows (:mod:`bayes_moe.optimize.adam`). Some rows are held out, and the point of their best
    mean log density is the answer; short runs from all starts decide from which one to go on.
    ``converged`` says that it hardly rose in the last third of the epochs, not that the gradient is
    zero; there are no standard errors. The group ``fit`` has ``validation_log_density``, the
    held-out mean after each epoch ``validation_path``, and ``epochs``; the objective is that of all
    rows.

    Parameters
    ----------
    restarts : int
        Number of starts.
    max_iter : int
        Most L-BFGS iterations of a climb.
    progressbar : bool
        Whether to show progress, if there is something to wait for.
    optimizer : {"auto", "lbfgs", "adam"}
        ``"auto"`` is Adam for models that are not linear on more than 20,000 rows, else L-BFGS.
    batch_size : int, optional
        Rows of a batch of Adam's; by default 100 to 1000, more for longer tables.
    epochs : int, optional
        Most passes of Adam over the rows; by default as many as make 12,000 steps.
    learning_rate : float
        Of Adam at its beginning, for batches of up to 250 rows; it grows with the square root of
        larger ones, and falls to zero along half a cosine.
    validation : float
        Share of the rows that Adam holds out, of at most 20,000 rows.
    patience : int, optional
        Epochs without a rise of the held-out density after which half of those that are left are
        passed over; by default a fifth of the epochs, and at least three.

    References
    ----------
    Byrd, R. H., Lu, P., Nocedal, J., & Zhu, C. (1995). A limited memory algorithm for bound
    constrained optimization. SIAM Journal on Scientific Computing, 16(5), 1190-1208.

    Kingma, D. P., & Ba, J. (2015). Adam: a method for stochastic optimization. International
    Conference on Learning Representations.
    """

    restarts: int = 10
    max_iter: int = 2000
    progressbar: bool = True
    optimizer: str = "auto"
    batch_size: int | None = None
    epochs: int | None = None
    learning_rate: float = 0.01
    validation: float = 0.1
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("restarts", "max_iter"):
            check_whole(name, getattr(self, name), 1)
        for name in ("batch_size", "epochs", "patience"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), 1)
        if self.optimizer not in OPTIMIZERS:
            raise SpecError(unknown("optimizer", self.optimizer, OPTIMIZERS))
        check_share("learning_rate", self.learning_rate)
        check_share("validation", self.validation)

    def run(self, spec: MixtureOfExperts, design: Design, random_seed: int) -> xr.DataTree:
        rng = np.random.default_rng(random_seed)
        if self.by_batches(spec, design):
            return self._adam(spec, design, rng)
        surface = GraphLogDensity(build(spec, design))
        with progress("MAP", shown=self.progressbar) as tell:
            starts = first_values(spec, design, self.restarts, rng)
            climbs = search(surface, starts, self.max_iter, tell)
            climbs = optimise_hyperparameters(surface, climbs)
        found = replace(merge_modes(ends(surface, climbs), design.rows), restarts=self.restarts)
        best = found.best
        errors = None if found.singular[best] else surface.errors(found.theta[best])
        tree = point_tree(found, "posterior", errors)
        return described(tree, {}, "lbfgs", surface.affordable(found.theta.shape[1]))

    def by_batches(self, spec: MixtureOfExperts, design: Design) -> bool:
        """Whether Adam climbs.

        Raises
        ------
        SpecError
            If it should, and the gate models the features' density.
        """
        if self.optimizer == "auto":
            long = design.rows.size > MOST_ROWS
            return long and not spec.is_linear and not spec.gate.feature_densities
        if self.optimizer == "adam" and spec.gate.feature_densities:
            raise SpecError(
                f"Adam takes models of the response alone; the gate {spec.gate!r} models features "
                "too. Use optimizer='lbfgs' or method='em'."
            )
        return self.optimizer == "adam"

    def _adam(
        self, spec: MixtureOfExperts, design: Design, rng: np.random.Generator
    ) -> xr.DataTree:
        schedule = Schedule(
            self.batch_size, self.epochs, self.learning_rate, self.validation, self.patience
        )
        surface = GraphLogDensity(build(spec, design))
        with progress("MAP", shown=self.progressbar) as tell:
            starts = first_values(spec, _some(design, rng), self.restarts, rng)
            climb, done = descend(surface, starts, schedule, rng, tell)
        found = replace(merge_modes(ends(surface, [climb]), design.rows), restarts=self.restarts)
        figures = {
            "epochs": len(done.path) - 1,
            "validation_log_density": done.held_out,
            "validation_path": ("epoch", done.path),
        }
        return described(point_tree(found, "posterior", None), figures, "adam", False)


def _some(design: Design, rng: np.random.Generator) -> Design:
    """A design of at most ``SUBSAMPLE`` rows."""
    size = min(SUBSAMPLE, design.rows.size)
    which = np.sort(rng.choice(design.rows.size, size, replace=False))
    return replace(design, rows=design.rows.pick(which))


def described(
    tree: xr.DataTree, figures: dict[str, Any], optimizer: str, affordable: bool
) -> xr.DataTree:
    """Add how a mode was found to a tree, and whether standard errors were looked for."""
    import xarray as xr

    told = tree[names.FIT].to_dataset().assign(figures)
    told = told.assign_attrs(optimizer=optimizer, curvature=int(affordable))
    tree[names.FIT] = xr.DataTree(told)
    return tree

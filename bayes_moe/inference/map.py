"""The mode of any model through its graph's gradient: quasi-Newton from many starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.design import Design
from bayes_moe.errors import SpecError
from bayes_moe.graph import build
from bayes_moe.inference.base import Method, check_whole
from bayes_moe.modal import point_tree
from bayes_moe.optima import distinct
from bayes_moe.predictors import Shrunk
from bayes_moe.progress import progress
from bayes_moe.spec import MixtureOfExperts
from bayes_moe.standin import first_values
from bayes_moe.surface import Surface, climb, ends

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class MAP(Method):
    """Settings of maximisation through the graph.

    The objective is that of ``method="em"`` under the priors, the PyMC model's log density without
    Jacobian; it is climbed by L-BFGS with the graph's own gradient, then by Newton's method with a
    Hessian from differences of gradients. Where EM can treat a model, EM is faster: no graph is
    compiled. A model that is not linear is climbed from modes of one whose gate is a softmax of
    linear predictors.

    Parameters
    ----------
    restarts : int
        Number of starts.
    max_iter : int
        Most L-BFGS iterations of a climb.
    progressbar : bool
        Whether to show progress, if there is something to wait for.

    References
    ----------
    Byrd, R. H., Lu, P., Nocedal, J., & Zhu, C. (1995). A limited memory algorithm for bound
    constrained optimization. SIAM Journal on Scientific Computing, 16(5), 1190-1208.
    """

    restarts: int = 10
    max_iter: int = 2000
    progressbar: bool = True

    def __post_init__(self) -> None:
        check_whole("restarts", self.restarts, 1)
        check_whole("max_iter", self.max_iter, 1)

    def run(self, spec: MixtureOfExperts, design: Design, random_seed: int) -> xr.DataTree:
        _check_mode(spec)
        graph = build(spec, design, likelihood="symbolic")
        surface = Surface(graph)
        with progress("MAP", shown=self.progressbar) as tell:
            climbs = []
            starts = first_values(spec, design, self.restarts, np.random.default_rng(random_seed))
            for start in starts:
                climbs.append(climb(surface, surface.point(start), self.max_iter))
                tell(len(climbs), len(starts))
        found = distinct(ends(surface, climbs), design.rows)
        best = found.best
        errors = None if found.singular[best] else surface.errors(found.theta[best])
        return point_tree(found, "posterior", errors)


def _check_mode(spec: MixtureOfExperts) -> None:
    """Raise :class:`SpecError` for learned spreads, which have no joint mode with coefficients."""
    for h in spec.gate.heads(spec.n_experts):
        if isinstance(h.predictor, Shrunk):
            raise SpecError(
                f"The spreads of {h.predictor!r} have no mode together with the coefficients: use "
                "method='em' or 'laplace', which put them at their marginal mode, or 'nuts'."
            )

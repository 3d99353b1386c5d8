"""Expectation-maximisation with many starts: modes, and how sure they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import cpu_count
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_whole
from bayes_moe.core.errors import DataError, SpecError, unknown
from bayes_moe.core.progress import progress
from bayes_moe.data.design import Design
from bayes_moe.em.hyperparameters import optimise_hyperparameters
from bayes_moe.em.missing_e_step import incomplete, mean_imputed_design
from bayes_moe.em.missing_search import search_incomplete, standard_errors
from bayes_moe.em.modes import Modes, covariance
from bayes_moe.em.multistart import RESTARTS
from bayes_moe.em.parameter_vector import ParameterVector
from bayes_moe.em.vector_layout import coordinates
from bayes_moe.inference.base import Method
from bayes_moe.model.parameters import checked
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.results.mode_tree import point_tree

if TYPE_CHECKING:
    import xarray as xr

OBJECTIVES = ("posterior", "likelihood")


@dataclass(frozen=True)
class EM(Method):
    """Settings of EM.

    Parameters
    ----------
    objective : {"posterior", "likelihood"}
        What to maximise: the log density of the PyMC model's natural variables (no Jacobian), or
        the plain log likelihood, with scale parameters kept above 1e-3 times the response's
        standard deviation.
    restarts : int
        Number of starts, from splits of the rows of several kinds (:mod:`bayes_moe.em.partitions`).
    start : array or mapping, optional
        Where to start instead, on all rows: responsibilities (obs, expert), such as
        ``bm.responsibilities(fit)`` of a mode, or every reported variable on the user's scale, as
        for :func:`bayes_moe.simulate`. Experts come back in the order of their average location.
    max_iter : int
        Most iterations (EM sweeps and Newton steps) of a climb.
    tol : float
        A climb ends where the gradient's norm is below ``tol * (1 + |objective|)``.
    cores : int, optional
        Threads; by default as many as there are processors. The result does not depend on it.
    progressbar : bool
        Whether to show progress, if there is something to wait for.

    Notes
    -----
    With ``missing="model"``, what is missing of a row's features is integrated out; the log
    likelihood is that of what is observed, and so are the standard errors.

    References
    ----------
    Jordan, M. I., & Jacobs, R. A. (1994). Hierarchical mixtures of experts and the EM algorithm.
    Neural Computation, 6(2), 181-214.
    """

    objective: str = "posterior"
    restarts: int = RESTARTS
    start: Any = None
    max_iter: int = 1000
    tol: float = 1e-9
    cores: int | None = None
    progressbar: bool = True

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise SpecError(unknown("objective", self.objective, OBJECTIVES))
        check_whole("restarts", self.restarts, 1)
        check_whole("max_iter", self.max_iter, 1)
        if self.cores is not None:
            check_whole("cores", self.cores, 1)
        tol = self.tol
        if not isinstance(tol, float | np.floating) or not 0 < tol < 1:
            raise SpecError(f"`tol` must lie between 0 and 1; it is {tol!r}.")

    def run(self, spec: MixtureOfExperts, design: Design, random_seed: int) -> xr.DataTree:
        if incomplete(spec, design):
            return self._run_incomplete(spec, design, random_seed)
        moving = coordinates(spec, design, likelihood=self.objective == "likelihood")
        found = self.climb(moving, random_seed)
        best, errors = found.best, None
        if found.objective is not None and not found.singular[best]:
            spread = covariance(found.objective, found.theta[best])
            reported = found.objective.coordinates.reported_sds
            errors = None if spread is None else reported(found.theta[best], spread)
        return point_tree(found, self.objective, errors)

    def _run_incomplete(
        self, spec: MixtureOfExperts, design: Design, random_seed: int
    ) -> xr.DataTree:
        likelihood = self.objective == "likelihood"
        moving = coordinates(spec, mean_imputed_design(spec, design), likelihood=likelihood)
        allocation, theta = _given(self.start, moving)
        with progress("EM", shown=self.progressbar) as tell:
            found = search_incomplete(
                moving,
                design,
                likelihood=likelihood,
                restarts=self.restarts,
                max_iter=self.max_iter,
                tol=self.tol,
                rng=np.random.default_rng(random_seed),
                allocation=allocation,
                theta=theta,
                cores=self.cores or cpu_count() or 1,
                progress=tell,
            )
        return point_tree(found, self.objective, standard_errors(found, moving, design))

    def climb(self, moving: ParameterVector, random_seed: int) -> Modes:
        """Find the modes."""
        allocation, theta = _given(self.start, moving)
        with progress("EM", shown=self.progressbar) as tell:
            return optimise_hyperparameters(
                moving,
                restarts=self.restarts,
                max_iter=self.max_iter,
                tol=self.tol,
                rng=np.random.default_rng(random_seed),
                allocation=allocation,
                theta=theta,
                cores=self.cores or cpu_count() or 1,
                progress=tell,
            )


def _given(start: Any, moving: ParameterVector) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the user's start as responsibilities (1, expert, obs) or a point (1, coordinate)."""
    if start is None:
        return None, None
    if isinstance(start, Mapping):
        reported = {k: v for k, v in start.items() if not str(k).endswith(names.RAW_SUFFIX)}
        values = checked(moving.spec, moving.design, reported)
        return None, moving.points({k: v[None] for k, v in values.items()})
    try:
        shares = np.asarray(start, dtype=float)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"`start` must be responsibilities or parameters; it is {start!r}."
        ) from error
    if shares.ndim == 4 and shares.shape[:2] == (1, 1):  # one chain with one draw
        shares = shares[0, 0]
    shape = (moving.design.rows.size, moving.spec.n_experts)
    if shares.shape != shape:
        raise DataError(
            f"`start` must be responsibilities of shape (rows, experts) = {shape}, or a mapping of "
            f"parameters; its shape is {shares.shape}."
        )
    if not (np.isfinite(shares).all() and (shares >= 0).all()):
        raise DataError("Responsibilities in `start` must be finite and not negative.")
    total = shares.sum(axis=1, keepdims=True)
    if (total == 0).any():
        raise DataError(
            f"Row {int((total == 0).argmax())} of `start` has no responsibility at all."
        )
    return (shares / total).T[None], None

"""Posterior modes by expectation-maximisation from many starts, with standard errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import cpu_count
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_one_of, check_whole, is_number
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.core.progress import Progress, progress
from bayes_moe.core.threads import one_blas_thread
from bayes_moe.data.design import Design
from bayes_moe.data.sparse_matrix import sparse_in
from bayes_moe.em.class_information import ClassInformation
from bayes_moe.em.class_mixture import ClassMixture
from bayes_moe.em.class_search import (
    class_coefficients,
    class_mixture,
    class_search,
    has_many_classes,
    points_of,
    refuse,
    warn_of_matrices,
    why_not,
)
from bayes_moe.em.hyperparameters import optimise_hyperparameters
from bayes_moe.em.missing_e_step import has_missing_features, mean_imputed_design
from bayes_moe.em.missing_search import curvature_figures, search_incomplete
from bayes_moe.em.modes import Modes, covariance
from bayes_moe.em.multistart import MOVES, NO_START, SearchSettings, Start, search
from bayes_moe.em.objective import LARGEST_INFORMATION
from bayes_moe.em.parameter_vector import ParameterVector
from bayes_moe.em.random_effects import MarginalModes, has_random_effects, marginal_modes
from bayes_moe.em.sparse_search import sparse_search
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.inference.base import Method
from bayes_moe.model.allocation import allocation_of
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
        the plain log likelihood, without priors; ``priors=`` of the model is then refused.
    restarts : int, optional
        Number of starts, from partitions of the rows (:mod:`bayes_moe.em.partitions`). By default
        30, but on a large table whose first eight disagree, moves take the time of the others.
    moves : int
        Most moves after the starts, such as to merge two experts and to split a third
        (:mod:`bayes_moe.em.split_merge`). None are made from a given start, from a single one, or
        where the starts agree; 0 turns them off.
    start : array or mapping, optional
        Start instead, on all rows: responsibilities (obs, expert), or of groups that share an
        expert (group, expert), such as
        ``bm.responsibilities(fit)`` of a mode, or every reported variable on the user's scale, as
        for :func:`bayes_moe.simulate`. Experts of the fit are ordered by their average location.
    max_iter : int
        Most iterations (EM sweeps and Newton steps) of a run.
    tol : float
        A run ends where the gradient's norm is below ``tol * (1 + |objective|)``.
    cores : int, optional
        Threads for tables of 50,000 rows or more; by default as many as there are processors. The
        result does not depend on it.
    progressbar : bool
        Whether to show progress of work longer than a second.

    Notes
    -----
    Random effects of groups are integrated out by Laplace's method: the objective is the marginal
    posterior density, or likelihood, of all else (:mod:`bayes_moe.em.group_marginal`).

    With columns that are sparse matrices, modes are found by L-BFGS and truncated Newton steps on
    the same objective (:mod:`bayes_moe.em.sparse_search`): by default from 10 starts, from six on
    in a race, without moves; ``max_iter`` are their iterations. There are no standard errors of
    more than 2000 coefficients.

    Categorical experts with constant class probabilities (``y ~ 1``), with 64 class coefficients of
    all experts or more, are fitted by sums over rows by class, under a softmax gate with linear
    predictors: modes are found by L-BFGS (:mod:`bayes_moe.em.class_search`), by default from 10
    starts on at most 50,000 rows, of which the best three go on with all rows, without moves. Of
    more than 2000 coefficients, or with sparse columns in the gate, standard errors and effective
    parameters are NaN.

    With ``missing="model"``, missing features are integrated out; log likelihood and standard
    errors are those of the observed values.

    References
    ----------
    Jordan, M. I., & Jacobs, R. A. (1994). Hierarchical mixtures of experts and the EM algorithm.
    Neural Computation, 6(2), 181-214.
    """

    name: ClassVar[str] = "em"
    integrates_missing: ClassVar[bool] = True
    takes_sparse: ClassVar[bool] = True

    objective: str = "posterior"
    restarts: int | None = None
    moves: int = MOVES
    start: Any = None
    max_iter: int = 1000
    tol: float = 1e-9
    cores: int | None = None
    progressbar: bool = True

    def __post_init__(self) -> None:
        check_one_of("objective", self.objective, OBJECTIVES)
        if self.restarts is not None:
            check_whole("restarts", self.restarts, 1)
        check_whole("moves", self.moves, 0)
        check_whole("max_iter", self.max_iter, 1)
        if self.cores is not None:
            check_whole("cores", self.cores, 1)
        if not is_number(self.tol) or not 0 < self.tol < 1:
            raise SpecError(f"`tol` must lie between 0 and 1; it is {self.tol!r}.")

    def run(self, spec: MixtureOfExperts, design: Design, random_seed: int) -> xr.DataTree:
        if self.objective == "likelihood" and spec.priors:
            raise SpecError(
                "objective='likelihood' has no priors, and would ignore those of this model "
                f"({', '.join(spec.priors)}): leave `priors=` out, or use objective='posterior'."
            )
        if spec.structure.gate.features and has_missing_features(spec, design):
            return self._run_incomplete(spec, design, random_seed)
        if has_random_effects(spec):
            return self._run_grouped(spec, design, random_seed)
        if has_many_classes(spec):
            reason = why_not(spec, design, self.objective)
            if not reason:
                return self._run_classes(spec, design, random_seed)
            if class_coefficients(spec) > LARGEST_INFORMATION:
                raise refuse(spec, reason)
            if not sparse_in(design.rows):  # sparse columns have a search without matrices
                warn_of_matrices(spec, reason)
        vector = parameter_vector(spec, design, likelihood=self.objective == "likelihood")
        with one_blas_thread(vector.size):
            modes = self.find_modes(vector, random_seed)
            best, errors = modes.best, None
            if modes.objective is not None and not modes.singular[best]:
                spread = covariance(modes.objective, modes.theta[best])
                reported_sds = modes.objective.vector.reported_sds
                errors = None if spread is None else reported_sds(modes.theta[best], spread)
            tree = point_tree(modes, self.objective, errors)
            if modes.objective is not None and not modes.objective.has_matrices:
                tree[names.FIT].attrs[names.CURVATURE] = 0
            return tree

    def _run_classes(self, spec: MixtureOfExperts, design: Design, random_seed: int) -> xr.DataTree:
        """Modes of constant class probabilities of many classes."""
        mixture = class_mixture(spec, design, self.cores or cpu_count() or 1)
        start = _class_start(self.start, mixture)
        rng = np.random.default_rng(random_seed)
        with one_blas_thread(0), progress("EM", shown=self.progressbar) as update:
            modes = class_search(mixture, self._search_settings(update), rng, start)
        theta, errors = modes.theta[modes.best], None
        information = ClassInformation.at(mixture, theta)
        spread = None if information is None else information.covariance()
        if information is not None and spread is not None:
            errors = information.standard_errors(theta, spread)
            effective = information.effective_parameters(spread)
            modes = replace(modes, effective_parameters=effective)
        tree = point_tree(modes, self.objective, errors)
        if information is None:
            tree[names.FIT].attrs[names.CURVATURE] = 0
        return tree

    def _run_grouped(self, spec: MixtureOfExperts, design: Design, random_seed: int) -> xr.DataTree:
        found = self.find_marginal_modes(spec, design, random_seed, self.objective)
        return point_tree(found.modes, self.objective, found.errors)

    def find_marginal_modes(
        self, spec: MixtureOfExperts, design: Design, random_seed: int, density: str
    ) -> MarginalModes:
        """Modes of a model with random effects, which are integrated out.

        ``density`` is that of :func:`bayes_moe.em.random_effects.marginal_modes`.
        """
        start = _user_start(self.start, parameter_vector(spec, design))
        rng = np.random.default_rng(random_seed)
        with one_blas_thread(0), progress("EM", shown=self.progressbar) as update:
            settings = self._search_settings(update)
            return marginal_modes(spec, design, settings, rng, start, density=density)

    def _run_incomplete(
        self, spec: MixtureOfExperts, design: Design, random_seed: int
    ) -> xr.DataTree:
        likelihood = self.objective == "likelihood"
        vector = parameter_vector(spec, mean_imputed_design(spec, design), likelihood=likelihood)
        start, rng = _user_start(self.start, vector), np.random.default_rng(random_seed)
        with one_blas_thread(vector.size), progress("EM", shown=self.progressbar) as update:
            modes = search_incomplete(vector, design, self._search_settings(update), rng, start)
        errors, effective = curvature_figures(modes, vector, design)
        modes = replace(modes, effective_parameters=effective)
        return point_tree(modes, self.objective, errors)

    def find_modes(self, vector: ParameterVector, random_seed: int) -> Modes:
        """Modes of complete data, hyperparameters at their marginal mode."""
        start, rng = _user_start(self.start, vector), np.random.default_rng(random_seed)
        find = optimise_hyperparameters if vector.hyperparameters else search
        if sparse_in(vector.design.rows):
            find = sparse_search
        with progress("EM", shown=self.progressbar) as update:
            return find(vector, self._search_settings(update), rng, start)

    def _search_settings(self, update: Progress) -> SearchSettings:
        cores = self.cores or cpu_count() or 1
        return SearchSettings(self.restarts, self.max_iter, self.tol, cores, update, self.moves)


def _user_start(start: Any, vector: ParameterVector) -> Start:
    """User's start as responsibilities (1, expert, obs) or a point (1, coordinate)."""
    if start is None:
        return NO_START
    if isinstance(start, Mapping):
        values = checked(vector.spec, vector.design, start)
        return Start(theta=vector.points({k: v[None] for k, v in values.items()}))
    return Start(allocation=_responsibilities(start, vector.spec, vector.design))


def _class_start(start: Any, mixture: ClassMixture) -> Start | None:
    """User's start of class probabilities; None without one."""
    if start is None:
        return None
    if isinstance(start, Mapping):
        values = checked(mixture.spec, mixture.design, start)
        return Start(theta=points_of(mixture, {k: v[None] for k, v in values.items()}))
    return Start(allocation=_responsibilities(start, mixture.spec, mixture.design))


def _responsibilities(start: Any, spec: MixtureOfExperts, design: Design) -> np.ndarray:
    """Responsibilities (1, expert, obs) that sum to 1 over the experts.

    They are given by row, or by group if rows share an expert by group.
    """
    try:
        shares = np.asarray(start, dtype=float)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"`start` must be responsibilities or parameters; it is {start!r}."
        ) from error
    if shares.ndim == 4 and shares.shape[:2] == (1, 1):  # one chain with one draw
        shares = shares[0, 0]
    shared = allocation_of(design.rows.observation)
    what, count = "rows", design.rows.size
    if shared.leads is not None:
        what, count = "groups", int(shared.leads.sum())
    shape = (count, spec.n_experts)
    if shares.shape != shape:
        raise DataError(
            f"`start` must be responsibilities of shape ({what}, experts) = {shape}, or a mapping "
            f"of parameters; its shape is {shares.shape}."
        )
    if not (np.isfinite(shares).all() and (shares >= 0).all()):
        raise DataError("Responsibilities in `start` must be finite and not negative.")
    total = shares.sum(axis=1, keepdims=True)
    if (total == 0).any():
        raise DataError(
            f"{what[:-1].capitalize()} {int((total == 0).argmax())} of `start` has no "
            "responsibility at all."
        )
    return shared.spread((shares / total).T[None])

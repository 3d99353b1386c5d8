"""A log density as a function of one vector: what optimisers ask of it, and its curvature.

It is that of a graph (:class:`bayes_moe.graph.log_density.GraphLogDensity`) or compiled
(:class:`bayes_moe.optimize.network_density.NetworkDensity`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core.linalg import differences, information_ratio, rough_inverse, semi_inverse
from bayes_moe.data.design import Design
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.priors.prior import Prior

MOST_COORDINATES, MOST_ELEMENTS = 400, 2 * 10**7
"""Coordinates, and coordinates x rows x experts, up to which second derivatives are affordable."""


class LogDensity(ABC):
    """The log density of a model as a function of its unconstrained vector.

    With ``jacobian`` it is that of the unconstrained values, which a sampler draws, else that of
    the natural variables. It is thread-safe.

    Attributes
    ----------
    spec, design
        The model, and its data.
    priors : mapping of str to Prior
        Prior of every reported variable.
    jacobian : bool
    parallel : bool
        Whether several threads evaluate it at the same time.
    free_coordinates : array of bool (coordinate,)
        False for learned scales: these have no joint mode with the coefficients that they scale,
        so the gradient by them is set to zero.
    """

    spec: MixtureOfExperts
    design: Design
    priors: Mapping[str, Prior]
    jacobian: bool
    free_coordinates: np.ndarray
    parallel: ClassVar[bool] = False

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Log density, and its gradient (coordinate,)."""
        prior, likelihood, gradient = self.weighted(x, 1.0)
        value = prior + likelihood
        return (float(value) if np.isfinite(value) else -np.inf), gradient

    @abstractmethod
    def weighted(self, x: np.ndarray, weight: float) -> tuple[Any, Any, np.ndarray]:
        """Log prior, log likelihood, and the gradient of ``prior + weight * likelihood``.

        They are those at a vector, or at several (point, coordinate). The rows are those last given
        to :meth:`show`, at first all.
        """

    @abstractmethod
    def show(self, which: np.ndarray | slice) -> None:
        """Replace the rows by those at some positions of the design."""

    @abstractmethod
    def variables(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """The model's variables by name, at a vector or at several (point, coordinate)."""

    @abstractmethod
    def point(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Vector at the model's reported variables."""

    @abstractmethod
    def coordinates(self, names: Iterable[str]) -> np.ndarray:
        """Whether each coordinate (coordinate,) belongs to one of the free variables ``names``."""

    @abstractmethod
    def determining_coordinates(self, names: Iterable[str]) -> np.ndarray:
        """Whether a variable of ``names`` is a function of each coordinate (coordinate,)."""

    @abstractmethod
    def values(self, x: np.ndarray, name: str) -> np.ndarray:
        """Unconstrained values of a free variable at a vector, in their shape."""

    def lbfgs(
        self, start: np.ndarray, most: int, memory: int, limits: tuple[float, float]
    ) -> tuple[np.ndarray, np.ndarray, list[float]]:
        """Final point of L-BFGS from a vector, the gradient there, and the path.

        The path are the log densities before the first and after each of at most ``most``
        iterations. ``memory`` is the number of steps in the memory. A run ends at a relative gain,
        or where no derivative is larger, than the two ``limits``.
        """
        from scipy.optimize import minimize

        path = [self(start)[0]]

        def minus_log_density(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = self(x)
            # Where the density underflows its gradient is NaN, from which no line search recovers.
            return -value, -np.nan_to_num(gradient)

        gain, flat = limits
        options = {"maxiter": most, "maxfun": 20 * most, "maxcor": memory, "ftol": gain}
        result = minimize(
            minus_log_density,
            start,
            jac=True,
            method="L-BFGS-B",
            callback=lambda intermediate_result: path.append(-float(intermediate_result.fun)),
            options=options | {"gtol": flat},
        )
        x = np.asarray(result.x)
        return x, self(x)[1], path

    def affordable(self, count: int, most: int | None = None) -> bool:
        """Whether second derivatives along ``count`` coordinates take seconds at most."""
        elements = self.design.rows.size * self.spec.n_experts
        most = MOST_COORDINATES if most is None else most
        return count <= most and count * elements <= MOST_ELEMENTS

    def information(
        self, x: np.ndarray, along: np.ndarray | None = None, weight: float = 1.0
    ) -> np.ndarray:
        """Minus the second derivatives, by central differences of the gradient.

        ``along`` (coordinate,) is a mask of coordinates; by default the free ones. With weight 0 it
        is that of the prior alone.
        """
        where = np.flatnonzero(self.free_coordinates if along is None else along)
        slopes = -differences(lambda points: self.weighted(points, weight)[2][:, where], x, where)
        return 0.5 * (slopes + slopes.T)  # symmetric but for the error of the differences

    def covariance(self, x: np.ndarray, along: np.ndarray | None = None) -> np.ndarray | None:
        """Inverse of the information; None where it is not positive definite.

        Directions of a continuous symmetry of the model, as the rotations of a query and its keys,
        have variance zero; so have coordinates that are not free or not in ``along``.
        """
        along = self.free_coordinates if along is None else along & self.free_coordinates
        flat = self.spec.structure.gate.n_invariant_directions(self.design.rows.matrices)
        inverse = semi_inverse(self.information(x, along), flat)
        if inverse is None or along.all():
            return inverse
        covariance = np.zeros((x.size, x.size))
        covariance[np.ix_(along, along)] = inverse
        return covariance

    def effective_parameters(self, x: np.ndarray) -> float:
        """Trace of the likelihood's information by the covariance; NaN where that is unknown."""
        covariance = self.covariance(x) if self.affordable(x.size) else None
        if covariance is None:
            return float("nan")
        free = self.free_coordinates
        likelihood = self.information(x) - self.information(x, weight=0.0)
        return information_ratio(likelihood, covariance[np.ix_(free, free)])

    def rough_covariance(self, x: np.ndarray, along: np.ndarray | None = None) -> np.ndarray:
        """Covariance of a normal approximation at a point that need not be a maximum.

        L-BFGS runs of large networks end before the maximum in some directions. Directions of
        little curvature get the variance of their prior, about 1.
        """
        along = self.free_coordinates if along is None else along & self.free_coordinates
        covariance = np.zeros((x.size, x.size))
        covariance[np.ix_(along, along)] = rough_inverse(self.information(x, along))
        return covariance

    def errors(
        self, x: np.ndarray, covariance: np.ndarray | None = None
    ) -> dict[str, np.ndarray] | None:
        """Standard errors of the reported variables, by the delta method; NaN for learned scales.

        Without a ``covariance``, it is :meth:`covariance`; the result is None if that is not
        :meth:`affordable`, or None itself.
        """
        if covariance is None:
            covariance = self.covariance(x) if self.affordable(x.size) else None
        if covariance is None:
            return None
        names = self.spec.variables

        def reported(points: np.ndarray) -> np.ndarray:
            values = self.variables(points)
            return np.concatenate([values[n].reshape(len(points), -1) for n in names], axis=1)

        where = np.flatnonzero(np.diag(covariance))
        jacobian = differences(reported, x, where)  # (coordinate, value)
        covariance = covariance[np.ix_(where, where)]
        variances = np.einsum("ji,ji->i", jacobian, covariance @ jacobian)
        sds = np.sqrt(np.maximum(variances, 0.0))
        shapes = [self.variables(x)[name].shape for name in names]
        ends = np.cumsum([int(np.prod(shape, dtype=int)) for shape in shapes])[:-1]
        parts = zip(names, np.split(sds, ends), shapes, strict=True)
        errors = {name: part.reshape(shape) for name, part, shape in parts}
        scales = learned_scales(self.spec)
        return {n: np.full_like(sd, np.nan) if n in scales else sd for n, sd in errors.items()}


def has_kernels(spec: MixtureOfExperts) -> bool:
    """Whether a model has a gate of softmaxes or a Markov chain, and families with a kernel."""
    from bayes_moe.kernels.families import has_kernel

    blocks = [part.block for part in spec.structure.factors]
    gate = spec.structure.gate
    known = spec.n_experts == 1 or gate.splits is not None or gate.chain is not None
    return known and all(
        has_kernel(b.family) and (b.family.truncation is None or has_kernel(b.family.truncation))
        for b in blocks
    )


def learned_scales(spec: MixtureOfExperts) -> frozenset[str]:
    """Names of the parameters of learned priors."""
    sites = spec.structure.sites
    return frozenset(name for site, p in sites for name in p.variables(site).scales)

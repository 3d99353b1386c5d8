"""Several real responses of a row: the multivariate normal distribution."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy import special

from bayes_moe.core.arrays import NUMERIC, Arrays
from bayes_moe.core.checks import check_positive
from bayes_moe.core.errors import DataError
from bayes_moe.data.tables import ROUNDING
from bayes_moe.families.base import (
    NOTHING,
    Derivatives,
    Family,
    Parameter,
    Parameters,
    RowData,
    Size,
)
from bayes_moe.families.formula import ALL, OBSERVED, SCORES, WORKING, second_derivatives
from bayes_moe.families.links import FISHER, IDENTITY, LOG
from bayes_moe.families.location_scale import HALF_LOG_2PI, Normal
from bayes_moe.families.several import Several
from bayes_moe.priors.prior import Prior

LOG_2 = math.log(2.0)


@dataclass(frozen=True)
class MvNormal(Several):
    r"""Multivariate normal distribution of the responses of ``"cbind(y1, y2) ~ x"``.

    Response ``j`` has the mean ``mu_j`` and the standard deviation ``sigma_j``, and the formula of
    the expert predicts every mean that has no formula of its own. ``rho_j_k`` is the correlation of
    responses ``j`` and ``k``, of three and more their partial correlation given the responses
    before ``j``: any numbers between -1 and 1 are then a correlation matrix. Its Cholesky factor is
    ``L_kj = rho_j_k sqrt(prod_i<j (1 - rho_i_k^2))``, and
    ``log f(y) = -|w|^2 / 2 - sum_j log(sigma_j L_jj) - d log(2 pi) / 2`` with ``L w = z`` and
    ``z_j = (y_j - mu_j) / sigma_j``.

    Parameters
    ----------
    responses : tuple of str, optional
        Names of the responses in those of the parameters; by default from the formula.
    lkj : float, optional
        Shape ``eta`` of an LKJ prior: the density of the correlation matrix of an expert is in
        proportion to its determinant to the power ``eta - 1``. By default, ``artanh rho`` is normal
        with the standard deviation that it has under the LKJ prior with ``eta = 1``: nearly uniform
        on correlation matrices, but falling faster than any power where responses become exact
        functions of each other, so that the posterior density has no pole there.

    References
    ----------
    Lewandowski, D., Kurowicka, D., & Joe, H. (2009). Generating random correlation matrices based
    on vines and extended onion method. Journal of Multivariate Analysis, 100(9), 1989-2001.
    """

    kind = "mvnormal"
    support = "numbers"
    alone = "normal"
    lkj: float | None = None

    def __post_init__(self) -> None:
        if self.lkj is not None:
            check_positive("lkj", self.lkj)

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        names, correlations = self.names, []
        for j, k in pairs(self.count):
            prior = prior_of_correlation(self.count, j, self.lkj)
            name = f"rho_{names[j]}_{names[k]}"
            correlations.append(Parameter(name, FISHER, "correlation", response=k, prior=prior))
        return (
            *(Parameter(f"mu_{n}", IDENTITY, "location", response=j) for j, n in enumerate(names)),
            *(Parameter(f"sigma_{n}", LOG, "scale", response=j) for j, n in enumerate(names)),
            *correlations,
        )

    @property
    def locations(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.parameters[: self.count])

    @property
    def coupled(self) -> tuple[range, ...]:
        return range(self.count), range(self.count, len(self.parameters))

    def row(self, m: Any) -> Callable[..., Any]:
        d = self.count

        def row(t: Any, u: Any, base: Any, *rest: Any) -> Any:
            y, etas = (t, u, *rest[: d - 2]), rest[d - 2 :]
            mu, log_sigma, value = etas[:d], etas[d : 2 * d], base
            fisher, w = iter(etas[2 * d :]), list[Any]()
            for k in range(d):
                z, log_root = (y[k] - mu[k]) * m.exp(-log_sigma[k]), 0.0
                for j in range(k):
                    eta = next(fisher)
                    z = z - w[j] * (m.tanh(0.5 * eta) * (m.exp(log_root) if j else 1.0))
                    # log sqrt(1 - rho^2), with rho = tanh(eta / 2)
                    log_root = log_root + (LOG_2 + 0.5 * eta - m.softplus(eta))
                w.append(z * m.exp(-log_root) if k else z)
                value = value - log_sigma[k] - log_root - 0.5 * (w[k] * w[k])
            return value

        return row

    def data(self, y: Any, known: Parameters, xp: Arrays) -> RowData:
        first, second, *more = (y[j] for j in range(self.count))
        return RowData(first, second, -self.count * HALF_LOG_2PI, tuple(more))

    def derivatives_at(
        self, data: RowData, etas: Sequence[np.ndarray], asked: str = ALL
    ) -> Derivatives:
        # Sweeps of EM read no second derivatives of the rows.
        on_rows = SCORES if asked in (SCORES, WORKING) else OBSERVED
        found = super().derivatives_at(data, etas, on_rows)
        if asked in (OBSERVED, SCORES):
            return found
        expected = expected_information(self, etas)
        diagonal = tuple(expected[a, a] for a in range(len(etas)))
        return replace(found, expected_information=diagonal, expected_pairs=expected)

    def covariance(self, params: Parameters) -> np.ndarray:
        """Covariance matrices (..., expert, obs, response, response) of the responses."""
        factor = cholesky(self.count, self.etas(params, NUMERIC)[self.count :])
        entries = np.broadcast_arrays(*(np.asarray(x) for row in factor for x in row))
        root = np.stack(entries, axis=-1)
        root = root.reshape(*root.shape[:-1], self.count, self.count)
        return np.matmul(root, np.swapaxes(root, -1, -2))

    def margin(self, j: int, params: Parameters) -> tuple[Family, dict[str, Any]]:
        """Distribution of response ``j`` alone, and its parameters."""
        name = self.names[j]
        return Normal(), {"mu": params[f"mu_{name}"], "sigma": params[f"sigma_{name}"]}

    def random(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        """Draws (..., response, expert, obs) for a ``size`` (..., expert, obs)."""
        factor = cholesky(self.count, self.etas(params, NUMERIC)[self.count :])
        z = rng.standard_normal((self.count, *size))
        noise = [sum(factor[k][j] * z[j] for j in range(k + 1)) for k in range(self.count)]
        means = (params[f"mu_{name}"] for name in self.names)
        return np.stack([mu + e for mu, e in zip(means, noise, strict=True)], axis=-3)

    def dist(self, params: Parameters) -> Any:
        import pymc as pm
        import pytensor.tensor as pt

        # Parameters are (obs, expert): responses are put last.
        names, roots = self.names, []
        for k in range(self.count):
            row, root = [], params[f"sigma_{names[k]}"]
            for j in range(k):
                rho = params[f"rho_{names[j]}_{names[k]}"]
                row.append(rho * root)
                root = root * pt.sqrt(1.0 - rho * rho)
            rest = [pt.zeros_like(root)] * (self.count - k - 1)
            roots.append(pt.stack([*row, root, *rest], axis=-1))
        mean = pt.stack([params[f"mu_{name}"] for name in names], axis=-1)
        return pm.MvNormal.dist(mu=mean, chol=pt.stack(roots, axis=-2))

    def check_response(
        self,
        y: np.ndarray,
        name: str,
        known: Parameters = NOTHING,
        obs_id: np.ndarray | None = None,
    ) -> None:
        for own, of in zip(y, self.names, strict=True):
            self.check_variation(own, f"{of} of {name}", known)
        unit = y - y.mean(axis=1, keepdims=True)
        unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
        values, vectors = np.linalg.eigh(unit @ unit.T)
        if values[0] <= ROUNDING:
            part = [n for n, v in zip(self.names, vectors[:, 0], strict=True) if abs(v) > 1e-6]
            raise DataError(
                f"The responses {', '.join(map(repr, part))} of {name!r} are exact linear "
                "functions of each other: leave one out."
            )


def pairs(count: int) -> list[tuple[int, int]]:
    """Pairs of responses (first, second) of each correlation, in the order of the parameters."""
    return [(j, k) for k in range(count) for j in range(k)]


def prior_of_correlation(count: int, first: int, lkj: float | None) -> Prior:
    """Default prior of a (partial) correlation of response ``first`` with a later one."""
    shape = (lkj or 1.0) + (count - 2 - first) / 2
    if lkj is not None:
        return Prior("LKJ", eta=shape)
    # Under LKJ, (rho + 1) / 2 has a beta distribution, and its log odds are 2 artanh rho.
    variance = float(special.polygamma(1, shape)) / 2
    return Prior("FisherNormal", mu=0.0, sigma=math.sqrt(variance))


def cholesky(count: int, etas: Sequence[np.ndarray]) -> list[list[Any]]:
    """Cholesky factor of covariances, from predictors of standard deviations and correlations.

    Entry ``[k][j]`` is (..., expert, obs), zero above the diagonal.
    """
    sigma, fisher = [np.exp(eta) for eta in etas[:count]], iter(etas[count:])
    rows = []
    for k in range(count):
        row, root = [], sigma[k]
        for _ in range(k):
            eta = next(fisher)
            row.append(np.tanh(0.5 * eta) * root)
            root = root / np.cosh(np.clip(0.5 * eta, -300.0, 300.0))
        rows.append([*row, root, *[0.0] * (count - k - 1)])
    return rows


def expected_information(
    family: MvNormal, etas: Sequence[np.ndarray]
) -> dict[tuple[int, int], np.ndarray]:
    """Expected information of pairs of means, and of pairs of other parameters.

    Second derivatives are quadratic in the residuals, so that their mean over residuals along the
    columns of the Cholesky factor, ``sqrt(d)`` of them each, is their expectation.
    """
    d = family.count
    pairs = tuple((a, b) for group in family.coupled for a in group for b in group if a <= b)
    factor = cholesky(d, [np.asarray(eta) for eta in etas[d:]])
    # They do not depend on the means, which may differ from row to row.
    etas = [np.zeros((1,) * np.ndim(etas[d]))] * d + list(etas[d:])
    total: dict[tuple[int, int], np.ndarray] = {}
    for column in range(d):
        y = [math.sqrt(d) * factor[j][column] for j in range(d)]
        data = RowData(y[0], y[1], 0.0, tuple(y[2:]))
        for pair, value in zip(pairs, second_derivatives(family, data, etas, pairs), strict=True):
            total[pair] = total.get(pair, 0.0) - value / d
    return total

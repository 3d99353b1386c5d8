r"""Observed information of mixtures of constant class probabilities, from sums by class.

With responsibilities ``r``, weights ``g`` of the gate and ``a_kl = delta_kl r_k - r_k r_l`` in each
row, the second derivatives of the log likelihood (:mod:`bayes_moe.em.class_mixture`) are sums over
rows of

* ``a_kl (e - p_k)(e - p_l)' - delta_kl r_k (diag(p_k) - p_k p_k')`` between the log odds of experts
  ``k`` and ``l``, where ``e`` is 1 for the row's class;
* ``a_vk z (e - p_k)'`` between output ``v`` of the gate, with features ``z``, and expert ``k``;
* ``(a_vu - delta_vu g_v + g_v g_u) z z'`` between outputs of the gate.

So sums of ``a`` and ``a z`` by class suffice (Louis 1982).

References
----------
Louis, T. A. (1982). Finding the observed information matrix when using the EM algorithm. Journal of
the Royal Statistical Society B, 44(2), 226-233.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayes_moe.core.linalg import information_ratio, inverse
from bayes_moe.core.threads import in_threads
from bayes_moe.em.class_mixture import ClassMixture, log_softmax
from bayes_moe.em.objective import LARGEST_INFORMATION
from bayes_moe.model.likelihood import allocate


@dataclass(frozen=True)
class ClassInformation:
    """Minus the second derivatives at a point, of log likelihood and log posterior.

    Both are (coordinate, coordinate); log odds are without the limit to a zero sum.
    """

    mixture: ClassMixture
    likelihood: np.ndarray
    posterior: np.ndarray

    @classmethod
    def at(cls, mixture: ClassMixture, theta: np.ndarray) -> ClassInformation | None:
        """The information at a point (coordinate,); None where a matrix would be too large.

        It is too large above ``LARGEST_INFORMATION`` coordinates, and not made of sparse features.
        """
        sparse = mixture.features is not None and mixture.features.is_sparse
        if mixture.size > LARGEST_INFORMATION or sparse:
            return None
        found = _likelihood(mixture, theta)
        prior = np.full(mixture.size, 1 / mixture.sigma**2)
        if mixture.gate is not None:
            at = theta[None, : mixture.gate_size]
            prior[: mixture.gate_size] = -mixture.gate.log_prior(at)[2][0]
        return cls(mixture, found, found + np.diag(prior))

    def step(self, gradient: np.ndarray) -> np.ndarray | None:
        """Newton's step (coordinate,); None where the log posterior is not concave."""
        try:
            factor = np.linalg.cholesky(self.posterior)
        except np.linalg.LinAlgError:
            return None
        found: np.ndarray = np.linalg.solve(factor.T, np.linalg.solve(factor, gradient))
        return found

    def covariance(self) -> np.ndarray | None:
        """Inverse of the posterior's information, of log odds that sum to zero; None without one.

        Along equal log odds of an expert, the prior alone has information: that is taken out.
        """
        found = inverse(self.posterior)
        if found is None:
            return None
        start, classes = self.mixture.gate_size, self.mixture.classes
        for k in range(self.mixture.experts):
            own = slice(start + k * classes, start + (k + 1) * classes)
            found[own, own] -= self.mixture.sigma**2 / classes
        return found

    def effective_parameters(self, covariance: np.ndarray | None) -> float:
        """Trace of the likelihood's information times the covariance; NaN without one."""
        return information_ratio(self.likelihood, covariance)

    def standard_errors(self, theta: np.ndarray, covariance: np.ndarray) -> dict[str, np.ndarray]:
        """Standard errors of the reported coefficients at a point (coordinate,)."""
        mixture, start = self.mixture, self.mixture.gate_size
        (component,) = mixture.spec.structure.components
        sd = np.sqrt(np.maximum(np.diag(covariance)[start:], 0.0))
        by_class = sd.reshape(mixture.experts, mixture.classes).T.reshape(-1, 1)
        found = {component.variable: by_class}
        if mixture.gate is not None:
            found |= mixture.gate.reported_sds(theta[:start], covariance[:start, :start])
        return found


def _likelihood(mixture: ClassMixture, theta: np.ndarray) -> np.ndarray:
    """Minus the second derivatives (coordinate, coordinate) of the log likelihood."""
    parts = list(in_threads(lambda w: _sums(mixture, theta, w), mixture.chunks(), mixture.workers))
    counts, pairs, crossed, gate = (np.sum([part[j] for part in parts], axis=0) for j in range(4))
    p = np.exp(log_softmax(mixture.parts(theta)[1]))
    k, c = p.shape
    size, start = mixture.size, mixture.gate_size
    second = np.zeros((size, size))
    for a in range(k):
        rows = slice(start + a * c, start + (a + 1) * c)
        for b in range(k):
            columns, own = slice(start + b * c, start + (b + 1) * c), pairs[a, b]
            within = np.diag(own) - np.outer(own, p[b]) - np.outer(p[a], own)
            second[rows, columns] = within + own.sum() * np.outer(p[a], p[b])
        n = counts[a].sum()
        second[rows, rows] -= n * (np.diag(p[a]) - np.outer(p[a], p[a]))
        if start:
            by_class = crossed[:, a]  # (coordinate, class)
            cross = by_class - by_class.sum(axis=1, keepdims=True) * p[a]
            second[:start, rows], second[rows, :start] = cross, cross.T
    second[:start, :start] = gate
    return -second


def _sums(mixture: ClassMixture, theta: np.ndarray, where: slice) -> tuple[np.ndarray, ...]:
    """Sums over some rows.

    Those of responsibilities (expert, class), of ``a`` (expert, expert, class), of ``a z`` in the
    gate's coordinates (coordinate, expert, class), and of the gate's second derivatives.
    """
    codes, classes = mixture.codes[where], mixture.classes
    log_weights, g = mixture.log_weights(theta, where)
    _, r = allocate(log_weights + log_softmax(mixture.parts(theta)[1])[:, codes])
    weights = mixture.rows.observation.weights
    w = np.ones(len(codes)) if weights is None else weights[where]

    def by_class(values: np.ndarray) -> np.ndarray:
        flat = values.reshape(-1, values.shape[-1])
        sums = [np.bincount(codes, weights=v, minlength=classes) for v in flat]
        return np.stack(sums).reshape(*values.shape[:-1], classes)

    a = _covariances(r) * w
    counts, pairs = by_class(r * w), by_class(a)
    if mixture.gate is None or mixture.features is None:
        return counts, pairs, np.zeros((0, 1, classes)), np.zeros((0, 0))
    (block,), (table,) = mixture.gate.blocks, mixture.features.of
    z = block.unit * np.broadcast_to(mixture.features.take(table, where), (block.terms, len(w)))
    basis = np.eye(len(r)) if block.basis is None else block.basis
    mix = np.kron(basis, np.eye(block.terms))  # (coordinate, (output, term))
    crossed = np.stack([by_class(a * feature) for feature in z], axis=1)  # (v, term, k, class)
    flat = crossed.reshape(len(r) * block.terms, -1)
    own = np.einsum("vun,in,jn->viuj", a - _covariances(g) * w, z, z, optimize=True)
    own = own.reshape(len(mix.T), len(mix.T))
    return counts, pairs, (mix @ flat).reshape(len(mix), len(r), classes), mix @ own @ mix.T


def _covariances(shares: np.ndarray) -> np.ndarray:
    """``delta_kl s_k - s_k s_l`` (expert, expert, obs) of shares (expert, obs)."""
    found = -shares[:, None] * shares
    at = np.arange(len(shares))
    found[at, at] += shares
    return found

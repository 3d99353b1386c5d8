"""Rows in which features are missing, under a gate that models the features.

Under expert ``k`` the features are normal with mean ``m_k`` and covariance ``S_k``. Given those
that are observed (``O``), the missing ones (``M``) are normal with mean ``c`` and covariance ``C``.
So the weights are ``pi_k N(x_O | m_kO, S_kOO)``, normalised, and a normal expert whose mean is
linear in the missing features has the mean with ``c`` in their place and the variance
``sigma^2 + beta_M' C beta_M``. Experts that do not use them stay as they are.

Nothing is subtracted: with the observed features first, the Cholesky factor of ``S_k`` has that of
``C`` as its last block.

References
----------
Ghahramani, Z., & Jordan, M. I. (1994). Supervised learning from incomplete data via an EM approach.
Advances in Neural Information Processing Systems, 6, 120-127.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import NUMERIC, Values, log_softmax
from bayes_moe.data.matrix import Matrix, Rows
from bayes_moe.families.location_scale import HALF_LOG_2PI
from bayes_moe.gates.feature_model import FeatureModel
from bayes_moe.model.blocks import Block
from bayes_moe.model.structure import Structure


@dataclass(frozen=True)
class Pattern:
    """Rows that miss the same features: positions of rows, and of features among the gate's."""

    rows: np.ndarray
    missing: np.ndarray
    observed: np.ndarray


@dataclass(frozen=True)
class Imputed:
    """The missing features of a pattern's rows given the observed ones.

    ``mean`` is (sample, expert, missing, obs), ``root`` (sample, expert, missing, missing) the
    lower factor of the covariance. ``slopes`` are those of each block's location, (sample, expert
    of the block, missing), None for one that uses none of the features.
    """

    pattern: Pattern
    mean: np.ndarray
    root: np.ndarray
    slopes: tuple[np.ndarray | None, ...]


@dataclass(frozen=True)
class IncompleteEvaluation:
    """Draws on rows of which some are incomplete.

    ``log_joint`` (sample, expert, obs) is the log of an expert's share times the density of what is
    observed of a row's features. ``params`` are the blocks' parameters with the missing features
    integrated out, ``bare`` those with zeros in their place.
    """

    log_joint: np.ndarray
    params: tuple[dict[str, np.ndarray], ...]
    bare: tuple[dict[str, np.ndarray], ...]
    imputed: tuple[Imputed, ...]

    @property
    def log_weights(self) -> np.ndarray:
        """Log weights (sample, expert, obs) given what is observed of the features."""
        log_weights: np.ndarray = log_softmax(self.log_joint, NUMERIC)
        return log_weights


def feature_values(features: FeatureModel, rows: Rows) -> np.ndarray:
    """The features that a gate models (obs, feature), NaN where they are missing."""
    return np.column_stack([rows.matrices[d.stem].values[:, d.column] for d in features.densities])


def has_gaps(features: FeatureModel, rows: Rows) -> bool:
    """Whether a feature that the gate models is missing in some row."""
    return bool(np.isnan(feature_values(features, rows)).any())


def patterns(x: np.ndarray) -> list[Pattern]:
    """Group rows of features (obs, feature) by what is missing."""
    kinds, which = np.unique(np.isnan(x), axis=0, return_inverse=True)
    return [
        Pattern(np.flatnonzero(which.ravel() == j), np.flatnonzero(gone), np.flatnonzero(~gone))
        for j, gone in enumerate(kinds)
    ]


def filled(rows: Rows, features: FeatureModel, x: np.ndarray | float) -> Rows:
    """Rows with features (obs, feature), or one number, where the gate's features are missing."""
    terms = {density.term: j for j, density in enumerate(features.densities)}
    full = np.broadcast_to(x, (rows.size, len(terms)))
    return replace(
        rows, matrices={stem: _filled(m, terms, full) for stem, m in rows.matrices.items()}
    )


def _filled(matrix: Matrix, terms: Mapping[str, int], x: np.ndarray) -> Matrix:
    if not np.isnan(matrix.values).any():
        return matrix
    values = matrix.values.copy()
    for j, term in enumerate(matrix.terms):
        if term in terms:
            gone = np.isnan(values[:, j])
            values[gone, j] = x[gone, terms[term]]
    return replace(matrix, values=values)


# --- draws on rows --------------------------------------------------------------------------------


def evaluate_incomplete(
    structure: Structure,
    draws: Values,
    rows: Rows,
    groups: Sequence[Pattern] | None = None,
) -> IncompleteEvaluation:
    """Weights and parameters of draws (sample, ...) on rows of which some have gaps."""
    features, blocks = structure.gate.features, structure.blocks
    assert features is not None
    x = feature_values(features, rows)
    plain = filled(rows, features, 0.0)
    bare = tuple(block.evaluate(draws, plain.matrices) for block in blocks)
    params = tuple(dict(p) for p in bare)
    mean, half = features.moments(draws)
    share = structure.gate.log_weights(draws[names.coef(names.GATE)][..., :1], NUMERIC)
    log_joint = np.empty((*mean.shape[:2], rows.size))
    imputed = []
    for pattern in patterns(x) if groups is None else groups:
        density, centre, root = _conditional(x[pattern.rows], pattern, mean, half)
        log_joint[..., pattern.rows] = share + density
        if not pattern.missing.size:
            continue
        terms = [features.densities[j].term for j in pattern.missing]
        slopes = tuple(_slopes(block, draws, rows, terms) for block in blocks)
        conditional = Imputed(pattern, centre, root, slopes)
        imputed.append(conditional)
        for block, block_params, slope in zip(blocks, params, slopes, strict=True):
            if slope is not None:
                _integrate(block, block_params, slope, conditional, rows.size)
    return IncompleteEvaluation(log_joint, params, bare, tuple(imputed))


def _conditional(
    x: np.ndarray, pattern: Pattern, mean: np.ndarray, half: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log density (sample, expert, obs) of the observed features; mean and root of the missing."""
    order = np.concatenate([pattern.observed, pattern.missing])
    o = len(pattern.observed)
    upper = np.linalg.qr(np.swapaxes(half[..., order, :], -1, -2), mode="r")
    root = np.swapaxes(upper, -1, -2)
    gap = x[:, pattern.observed].T - mean[..., pattern.observed, None]
    z = np.linalg.solve(root[..., :o, :o], gap)
    diagonal = np.abs(np.einsum("...ii->...i", root)[..., :o])
    scale = np.log(diagonal).sum(axis=-1)[..., None]
    density = -0.5 * (z**2).sum(axis=-2) - scale - o * HALF_LOG_2PI
    centre = mean[..., pattern.missing, None] + root[..., o:, :o] @ z
    return density, centre, root[..., o:, o:]


def _slopes(block: Block, draws: Values, rows: Rows, terms: Sequence[str]) -> np.ndarray | None:
    """Slopes (sample, expert, term) of a block's location; None if all of them are none."""
    location = block.components[0]
    at = {term: j for j, term in enumerate(rows.matrices[location.stem].terms)}
    if not any(term in at for term in terms):
        return None
    coef = draws[location.variable]
    none = np.zeros(coef.shape[:-1])
    return np.stack([coef[..., at[t]] if t in at else none for t in terms], axis=-1)


def _integrate(
    block: Block, params: dict[str, np.ndarray], slopes: np.ndarray, conditional: Imputed, size: int
) -> None:
    """Integrate missing features out of a normal block's parameters."""
    positions = list(block.positions)
    rows = conditional.pattern.rows
    shape = (*slopes.shape[:-1], size)
    mu, sigma = (np.array(np.broadcast_to(params[name], shape)) for name in ("mu", "sigma"))
    mu[..., rows] += np.einsum("skm,skmo->sko", slopes, conditional.mean[:, positions])
    along = np.einsum("skij,ski->skj", conditional.root[:, positions], slopes)
    sigma[..., rows] = np.hypot(sigma[..., rows], np.linalg.norm(along, axis=-1)[..., None])
    params |= {"mu": mu, "sigma": sigma}

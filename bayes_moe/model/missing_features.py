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
from functools import lru_cache

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import NUMERIC, log_softmax
from bayes_moe.data.matrix import Matrix, Rows
from bayes_moe.families.location_scale import HALF_LOG_2PI
from bayes_moe.gates import Gate
from bayes_moe.gates.structure import FeatureDensity
from bayes_moe.model.blocks import Block

Values = Mapping[str, np.ndarray]


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
        found: np.ndarray = log_softmax(self.log_joint, NUMERIC)
        return found


# --- which columns may be missing -----------------------------------------------------------------


# --- rows -----------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _modelled(gate: Gate) -> tuple[FeatureDensity, ...]:
    return gate.feature_densities


def features(gate: Gate, rows: Rows) -> np.ndarray:
    """The features that a gate models (obs, feature)."""
    return np.column_stack([rows.matrices[m.stem].values[:, m.column] for m in _modelled(gate)])


def has_gaps(gate: Gate, experts: int, rows: Rows) -> bool:
    """Whether a feature that the gate models is missing in some row."""
    return experts > 1 and bool(_modelled(gate)) and bool(np.isnan(features(gate, rows)).any())


def patterns(x: np.ndarray) -> list[Pattern]:
    """Group rows of features (obs, feature) by what is missing."""
    kinds, which = np.unique(np.isnan(x), axis=0, return_inverse=True)
    return [
        Pattern(np.flatnonzero(which.ravel() == j), np.flatnonzero(gone), np.flatnonzero(~gone))
        for j, gone in enumerate(kinds)
    ]


def filled(rows: Rows, gate: Gate, x: np.ndarray | float) -> Rows:
    """Put features (obs, feature), or one number, where the gate's features are missing."""
    terms = {m.term: j for j, m in enumerate(_modelled(gate))}
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
    gate: Gate,
    experts: int,
    blocks: Sequence[Block],
    draws: Values,
    rows: Rows,
    groups: Sequence[Pattern] | None = None,
) -> IncompleteEvaluation:
    """Evaluate draws (sample, ...) of the reported variables on rows, of which some have gaps."""
    x = features(gate, rows)
    plain = filled(rows, gate, 0.0)
    bare = tuple(block.evaluate(draws, plain.matrices) for block in blocks)
    params = tuple(dict(p) for p in bare)
    mean, half = _moments(gate, draws)
    share = gate.log_weights(experts, draws[names.coef(names.GATE)][..., :1], NUMERIC)
    log_joint = np.empty((*mean.shape[:2], rows.size))
    imputed = []
    for pattern in patterns(x) if groups is None else groups:
        density, centre, root = _conditional(x[pattern.rows], pattern, mean, half)
        log_joint[..., pattern.rows] = share + density
        if not pattern.missing.size:
            continue
        terms = [_modelled(gate)[j].term for j in pattern.missing]
        slopes = tuple(_slopes(block, draws, rows, terms) for block in blocks)
        found = Imputed(pattern, centre, root, slopes)
        imputed.append(found)
        for block, own, slope in zip(blocks, params, slopes, strict=True):
            if slope is not None:
                _integrate(block, own, slope, found, rows.size)
    return IncompleteEvaluation(log_joint, params, bare, tuple(imputed))


def _moments(gate: Gate, draws: Values) -> tuple[np.ndarray, np.ndarray]:
    """Mean (sample, expert, feature) of the features, and a root of their covariance."""
    coefs = [draws[names.coef(f"{m.name}_mu")] for m in _modelled(gate)]
    sd = np.stack([draws[f"{m.name}_sigma"] for m in _modelled(gate)], axis=-1)
    rest = np.tile(np.eye(len(coefs)), (*sd.shape[:-1], 1, 1))
    for j, coef in enumerate(coefs):
        rest[..., j, : coef.shape[-1] - 1] = -coef[..., 1:]
    root = np.linalg.inv(rest)
    level = np.stack([coef[..., 0] for coef in coefs], axis=-1)
    return np.einsum("...ij,...j->...i", root, level), root * sd[..., None, :]


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
    block: Block, params: dict[str, np.ndarray], slopes: np.ndarray, found: Imputed, size: int
) -> None:
    """Integrate missing features out of a normal block's parameters."""
    own = list(block.positions)
    rows = found.pattern.rows
    shape = (*slopes.shape[:-1], size)
    mu, sigma = (np.array(np.broadcast_to(params[name], shape)) for name in ("mu", "sigma"))
    mu[..., rows] += np.einsum("skm,skmo->sko", slopes, found.mean[:, own])
    along = np.einsum("skij,ski->skj", found.root[:, own], slopes)
    sigma[..., rows] = np.hypot(sigma[..., rows], np.linalg.norm(along, axis=-1)[..., None])
    params |= {"mu": mu, "sigma": sigma}

"""Mixtures with atoms, and their distribution by brute force."""

from __future__ import annotations

import numpy as np
from scipy import stats

from bayes_moe.families.point_mass import PointMass
from bayes_moe.model.blocks import blocks_of
from bayes_moe.model.expert import Expert
from bayes_moe.model.mixture import Mixture

ROWS = 7


def gamma_with_atoms(samples: int, atoms: tuple[float, ...], *, compiled: bool = False) -> Mixture:
    """A gamma expert, a normal one for the other half, and a point mass at each atom."""
    rng = np.random.default_rng(11)
    experts = [Expert("y ~ 1", "gamma"), Expert("y ~ 1", "normal")]
    experts += [Expert("y", PointMass(a)) for a in atoms]
    blocks = blocks_of(tuple(experts))
    logits = rng.normal(0, 1, (1, len(experts), ROWS)) + rng.normal(
        0, 0.2, (samples, len(experts), ROWS)
    )
    logits[:, 2, 0] = 5.0  # a row of little else than the first atom
    log_weights = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    shape = (samples, 1, ROWS)
    params = [
        {"mu": 1.0 + 0.1 * rng.normal(size=shape), "alpha": np.full((samples, 1, 1), 4.0)},
        {"mu": 6.0 + 0.3 * rng.normal(size=shape), "sigma": np.full((samples, 1, 1), 0.5)},
        *({"at": np.full((samples, 1, 1), a)} for a in atoms),
    ]
    mixture = Mixture(log_weights, blocks, tuple(params))
    if compiled:
        from bayes_moe.model.compiled_mixture import CompiledMixture

        return CompiledMixture(log_weights, blocks, tuple(params))
    return mixture


def parts(mixture: Mixture) -> tuple[np.ndarray, ...]:
    """Average density and cdf functions of the part with a density, and masses (atom, obs)."""
    gamma, normal = mixture.params[:2]
    weights = np.exp(mixture.log_weights)
    laws = [
        stats.gamma(gamma["alpha"][:, 0], scale=np.exp(gamma["mu"][:, 0]) / gamma["alpha"][:, 0]),
        stats.norm(normal["mu"][:, 0], normal["sigma"][:, 0]),
    ]

    def average(name):
        def of(y):
            values = [getattr(law, name)(y) for law in laws]
            return sum(weights[:, k] * v for k, v in enumerate(values)).mean(axis=0)

        return of

    return average("pdf"), average("cdf"), weights[:, 2:].mean(axis=0)

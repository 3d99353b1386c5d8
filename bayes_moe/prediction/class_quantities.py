"""What a prediction says of the classes: probabilities with intervals, the likeliest, entropies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from bayes_moe.core import names
from bayes_moe.core.arrays import NUMERIC
from bayes_moe.core.checks import check_share
from bayes_moe.core.errors import SpecError, listed
from bayes_moe.data.class_labels import Levels
from bayes_moe.data.matrix import Rows
from bayes_moe.families.categories import Categorical
from bayes_moe.model.class_levels import families_of_classes
from bayes_moe.model.mixture import Mixture
from bayes_moe.prediction.expert_quantities import ExpertQuantities
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import xarray as xr

PART_ELEMENTS = 2**22
"""Elements (sample, class, expert, obs) of which entropies are found at once: 32 MiB."""


@dataclass(frozen=True, repr=False, eq=False)
class ClassQuantities(ExpertQuantities):
    """The classes of a fit's response on some rows.

    Its methods raise :class:`SpecError` for a response that is no class.
    """

    def probabilities(self, *, draws: bool = False) -> xr.DataArray:
        """Return the predictive probability of each class (obs_id, class).

        With ``draws=True``, the probabilities of every draw (chain, draw, obs_id, class), whose
        mean they are.
        """
        labels = class_labels(self.fit)
        return self._mixtures.summarise(
            lambda m, _: np.exp(log_class_probabilities(m, len(labels))),
            draws=draws,
            dim={names.CLASS: as_array(labels)},
        )

    def probability_interval(self, ci_prob: float | None = None) -> xr.DataArray:
        """Return the equal-tailed credible interval of each probability (obs_id, class, ci_bound).

        It is that of the draws' probabilities, of which :meth:`probabilities` are the means.

        Parameters
        ----------
        ci_prob : float, optional
            Probability inside; by default ArviZ's ``rcParams["stats.ci_prob"]``.
        """
        labels, inside = class_labels(self.fit), probability_inside(ci_prob)
        tails = [(1 - inside) / 2, (1 + inside) / 2]

        def bounds(mixture: Mixture, _: Rows) -> np.ndarray:
            # Quantiles are the same of logarithms, but for the interpolation between draws.
            values = np.exp(log_class_probabilities(mixture, len(labels)))
            return np.quantile(values, tails, axis=0).transpose(2, 1, 0)

        dims = {names.CLASS: as_array(labels), names.CI_BOUND: list(names.CI_BOUNDS)}
        return self._mixtures.label(self._mixtures.map(bounds), dims)

    def classes(self) -> xr.DataArray:
        """Return the label of the most probable class (obs_id); of equal ones the first."""
        probabilities = self.probabilities()
        labels = probabilities[names.CLASS].values[probabilities.values.argmax(axis=-1)]
        return probabilities.isel({names.CLASS: 0}, drop=True).copy(data=labels)

    def entropy(self) -> xr.Dataset:
        r"""Return the entropy of each row's class, in nats, and its two parts (obs_id).

        With ``p_s`` the probabilities of draw ``s`` and ``p`` their mean,
        ``H(p) = mean_s H(p_s) + mean_s KL(p_s || p)``.

        Returns
        -------
        xarray.Dataset
            ``entropy``, ``H(p)``, at most the logarithm of the number of classes;
            ``expected_entropy``, the first part, which more rows to fit would leave (aleatoric);
            and ``mutual_information``, the second, between the class and the parameters, which they
            would remove (epistemic). Of a single mode the second is zero.

        References
        ----------
        Depeweg, S., Hernandez-Lobato, J. M., Doshi-Velez, F., & Udluft, S. (2018). Decomposition of
        uncertainty in Bayesian deep learning for efficient and risk-sensitive learning. ICML.
        """
        import xarray as xr

        count = len(class_labels(self.fit))

        def entropies(mixture: Mixture) -> np.ndarray:
            values = np.exp(log_class_probabilities(mixture, count))
            total = special.entr(values.mean(axis=0)).sum(axis=0)
            expected = special.entr(values).sum(axis=1).mean(axis=0)
            # Rounding can make the difference negative.
            return np.stack([total, expected, np.maximum(total - expected, 0)], axis=-1)

        values = self._mixtures.map(lambda m, _: in_parts(entropies, m, count))
        parts = (names.ENTROPY, names.EXPECTED_ENTROPY, names.MUTUAL_INFORMATION)
        return xr.Dataset(
            {name: self._mixtures.label(values[:, j]) for j, name in enumerate(parts)}
        )

    def expert_probabilities(self, *, draws: bool = False) -> xr.DataArray:
        """Return each expert's probability of each class (obs_id, expert, class).

        With ``draws=True`` (chain, draw, obs_id, expert, class).
        """
        labels = class_labels(self.fit)

        def of_experts(mixture: Mixture, _: Rows) -> np.ndarray:
            return np.exp(np.swapaxes(log_expert_probabilities(mixture, len(labels)), 1, 2))

        dims = {names.EXPERT: self.fit.spec.expert_labels, names.CLASS: as_array(labels)}
        return self._mixtures.summarise(of_experts, draws=draws, dim=dims)

    def likeliest(self) -> list[tuple[Any, float, float]]:
        """Return the class, its probability and the entropy of each row, for views."""
        probabilities = self.probabilities()
        entropy = self.entropy()[names.ENTROPY].values
        best = probabilities.max(names.CLASS).values
        return list(zip(self.classes().values, best, entropy, strict=True))


def has_classes(fit: Fit) -> bool:
    """Whether the response of a fit is a class."""
    return fit.spec.response_rule.takes is not None


def class_labels(fit: Fit) -> Levels:
    """Labels of the response's classes, in the order of their codes; 0 and 1 of such numbers.

    Raises
    ------
    SpecError
        For a fit whose response is no class.
    """
    if not has_classes(fit):
        others = families_of_classes()
        raise SpecError(
            f"The response {fit.spec.response!r} is a number under family "
            f"{fit.spec.response_rule.family!r}; classes need one of the families "
            f"{listed(others, len(others))}."
        )
    return (0, 1) if fit.design.levels is None else fit.design.levels


def log_class_probabilities(mixture: Mixture, count: int) -> np.ndarray:
    """Log probabilities (sample, class, obs) of the classes under each draw's mixture."""
    rows = mixture.log_weights.shape[-1]
    if _at_once(mixture):
        by_expert = log_expert_probabilities(mixture, count)
        total: np.ndarray = NUMERIC.logsumexp(mixture.log_weights[:, None] + by_expert, axis=2)
        return total
    by_class = [mixture.log_density(np.full(rows, float(c))) for c in range(count)]
    return np.stack(by_class, axis=1)


def log_expert_probabilities(mixture: Mixture, count: int) -> np.ndarray:
    """Log probabilities (sample, class, expert, obs) of the classes under each expert."""
    samples, _, rows = mixture.log_weights.shape
    if not _at_once(mixture):
        by_class = [mixture.log_components(np.full(rows, float(c))) for c in range(count)]
        return np.stack(by_class, axis=1)
    parts = []
    for block, params in zip(mixture.blocks, mixture.params, strict=True):
        assert isinstance(block.family, Categorical)
        shape = samples, count, len(block.positions), rows
        parts.append(np.broadcast_to(block.family.log_probabilities(params), shape))
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)


def in_parts(function: Callable[[Mixture], np.ndarray], mixture: Mixture, count: int) -> np.ndarray:
    """Values (obs, ...) by a function with arrays over rows and classes, of some rows at a time."""
    samples, experts, rows = mixture.log_weights.shape
    step = max(1, PART_ELEMENTS // (samples * experts * count))
    if rows <= step:
        return function(mixture)
    starts = range(0, rows, step)
    parts = [np.arange(start, min(start + step, rows)) for start in starts]
    return np.concatenate([function(mixture.take_rows(part)) for part in parts])


def _at_once(mixture: Mixture) -> bool:
    """Whether all experts give the probabilities of all classes in the time of one."""
    return all(isinstance(b.family, Categorical) for b in mixture.blocks)


def probability_inside(ci_prob: float | None) -> float:
    """Probability of an interval: the user's, checked, or by default ArviZ's."""
    if ci_prob is None:
        # ArviZ is imported only where its default is needed.
        from arviz_base import rcParams

        ci_prob = float(rcParams["stats.ci_prob"])
    check_share("ci_prob", ci_prob)
    return ci_prob


def as_array(labels: Levels) -> np.ndarray:
    """Labels of classes as a coordinate (class,)."""
    return np.array(labels)

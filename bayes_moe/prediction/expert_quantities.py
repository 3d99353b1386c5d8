"""What a prediction says of the experts: weights, means, and the error of leaving some out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import SpecError
from bayes_moe.data.class_labels import TWO
from bayes_moe.data.matrix import Rows
from bayes_moe.families.given import refuse
from bayes_moe.model.mixture import Mixture
from bayes_moe.prediction.chunked_mixture import ChunkedMixture
from bayes_moe.prediction.recorded_rows import check_uncut
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, repr=False, eq=False)
class GateQuantities:
    """The gate of a fit on some rows; with ``top_k`` only so many experts of each row and draw."""

    fit: Fit
    rows: Rows
    top_k: int | None = None

    @cached_property
    def _mixtures(self) -> ChunkedMixture:
        return ChunkedMixture(self.fit, self.rows, self.top_k)

    def weights(self, *, draws: bool = False) -> xr.DataArray:
        """Return gate weights (obs_id, expert): prior probabilities of the experts."""
        return self._mixtures.summarise(lambda m, _: m.weights, draws=draws)


@dataclass(frozen=True, repr=False, eq=False)
class ExpertQuantities(GateQuantities):
    """The experts of a fit on some rows."""

    def expert_means(self, *, draws: bool = False) -> xr.DataArray:
        """Return the mean response of each expert (obs_id, expert)."""
        check_ordered(self.fit, "means", "expert_probabilities()")
        return self._mixtures.summarise(lambda m, _: m.moments("mean"), draws=draws)

    def expert_locations(self, *, draws: bool = False) -> xr.DataArray:
        """Return the location of each expert (obs_id, expert).

        It is the mean if that exists, and the centre of a Student t that has none.
        """
        check_ordered(self.fit, "locations", "expert_probabilities()")
        check_uncut(self.rows, "locations", "expert_means()")
        return self._mixtures.summarise(lambda m, _: m.moments("location"), draws=draws)

    def approximation_error(self) -> xr.Dataset:
        r"""Return a bound on the error due to ``top_k``, and the change of the mean (obs_id,).

        Let ``d_s = sum of w_sk(x)`` over the experts ``k`` that draw ``s`` leaves out. Its full
        mixture is ``p_s = (1 - d_s) q_s + d_s r_s``, with ``q_s`` the sparse mixture and ``r_s``
        that of the experts left out. So ``p_s - q_s = d_s (r_s - q_s)``, and their total variation
        distance is ``d_s TV(r_s, q_s) <= d_s``. The predictives are averages over draws, and the
        distance of averages is at most the average distance: ``TV(p, q) <= mean_s d_s``. The bound
        is reached where the experts left out and those kept do not overlap.

        Returns
        -------
        xarray.Dataset
            ``dropped_weight`` (obs_id), posterior mean of the gate weight that is left out: no
            predictive probability is off by more than that. ``mean_shift`` (obs_id), the sparse
            predictive mean less the full one. Both are zero without ``top_k``.
        """
        import xarray as xr

        k = self.fit.spec.n_experts if self.top_k is None else self.top_k

        def errors(full: Mixture, _: Rows) -> np.ndarray:
            kept = full.top(k)
            out = np.where(np.isneginf(kept.log_weights), full.weights, 0.0)
            # Means of a Student t can be infinite.
            with np.errstate(invalid="ignore"):
                shift = kept.means() - full.means()
            return np.stack([out.sum(axis=1).mean(axis=0), shift.mean(axis=0)], axis=-1)

        complete = replace(self._mixtures, top_k=None)
        values = complete.map(errors)
        return xr.Dataset(
            {
                names.DROPPED_WEIGHT: complete.label(values[:, 0]),
                names.MEAN_SHIFT: complete.label(values[:, 1]),
            }
        )


def only_densities(fit: Fit) -> bool:
    """Whether an expert's distribution is known by the densities of the rows' responses alone."""
    return any(block.family.stands_alone for block in fit.spec.structure.blocks)


def check_distribution(fit: Fit, what: str) -> None:
    """Raise :class:`SpecError` if an expert's distribution is not known as a whole."""
    if only_densities(fit):
        refuse(what)


def check_ordered(fit: Fit, what: str, instead: str) -> None:
    """Raise :class:`SpecError` for a summary by codes of classes without order, or of densities.

    The latter are those of :class:`bayes_moe.families.given.Given`.
    """
    check_distribution(fit, what)
    rule = fit.spec.response_rule
    if rule.takes not in (None, TWO) and not rule.ordered:
        raise SpecError(
            f"The classes of {fit.spec.response!r} have no order, and so no {what}: use {instead}, "
            "or bm.plot_classes for a picture."
        )

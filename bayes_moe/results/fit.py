"""Fit: the answer of an inference method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bayes_moe.core import names
from bayes_moe.data.design import Design
from bayes_moe.model.spec import MixtureOfExperts

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, repr=False, eq=False)
class Fit:
    """The answer of an inference method: description, design and posterior.

    Attributes
    ----------
    spec : MixtureOfExperts
        The model.
    design : Design
        The data, seen through the model's formulas.
    idata : xarray.DataTree
        ``posterior``, ``sample_stats``, ``log_likelihood``, ``observed_data`` and
        ``constant_data``; of draws by a sampler also ``relabelling`` and ``modes`` (where the
        chains began); of the other methods ``fit``, ``modes`` and ``standard_error``. ArviZ works
        on it as it is, where it is draws and not one mode. Variables ending in ``_raw`` are the
        sampler's own (centred and scaled features); all others are on the user's scale.
    """

    spec: MixtureOfExperts
    design: Design
    idata: xr.DataTree

    @property
    def complete(self) -> bool:
        """Whether all the draws that were asked for are there."""
        return bool(self.idata.attrs.get("complete", 1))

    @property
    def is_point(self) -> bool:
        """Whether the posterior is a single mode and not a set of draws."""
        return names.FIT in self.idata.children and self.idata[names.FIT].attrs["kind"] == "mode"

    def __repr__(self) -> str:
        sizes = self.idata[names.POSTERIOR].sizes
        size = f"{sizes[names.CHAIN]} chains x {sizes[names.DRAW]} draws"
        if self.is_point:
            figures = self.idata[names.FIT].to_dataset()
            what = figures.attrs["objective"]
            size = f"mode of the {what}, log {what} {float(figures['objective']):.4f}"
            size += "" if figures["converged"] else " (not converged)"
        dropped = self.design.n_dropped
        return (
            f"Fit of {self.spec.response!r}: {self.spec.counted} "
            f"({', '.join(dict.fromkeys(e.family for e in self.spec.experts))}), "
            f"{self.design.rows.size} rows{f' ({dropped} dropped)' if dropped else ''}, "
            f"{size}{'' if self.complete else ', incomplete'}\n"
            f"variables: {', '.join(self.spec.variables)}"
        )

"""Result of an inference method, and its kind: draws, a mode, or an approximation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bayes_moe.core import html, names
from bayes_moe.core.errors import SpecError, listed
from bayes_moe.data.design import Design
from bayes_moe.data.formulas import looked_up
from bayes_moe.data.responses import response_parts
from bayes_moe.model.spec import MixtureOfExperts

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr


def kind_of(tree: xr.DataTree) -> str:
    """Kind of a result: ``"draws"``, ``"mode"`` or ``"approximation"``.

    Files of earlier versions and methods of the user's lack the attribute; their groups say it.
    """
    if names.KIND in tree.attrs:
        return str(tree.attrs[names.KIND])
    if names.FIT not in tree.children:
        return names.KIND_DRAWS
    is_mode = tree[names.FIT].attrs[names.KIND] == names.KIND_MODE
    return names.KIND_MODE if is_mode else names.KIND_APPROXIMATION


def is_ensemble(tree: xr.DataTree) -> bool:
    """Whether the draws of a result are members of an ensemble, and no posterior sample."""
    return names.FIT in tree.children and names.MEMBER_WEIGHT in tree[names.FIT]


def posterior_of(tree: xr.DataTree) -> xr.Dataset:
    """Group ``posterior`` of a result.

    Raises
    ------
    SpecError
        If it was put back without the dimension over chains or draws, or without any draw.
    """
    posterior = tree[names.POSTERIOR].to_dataset()
    lost = [dim for dim in (names.CHAIN, names.DRAW) if dim not in posterior.dims]
    if lost:
        has = ", ".join(map(str, posterior.dims))
        raise SpecError(
            f"Group 'posterior' of `fit.idata` has the dimensions {has} and no dimension "
            f"{' and '.join(lost)}. Keep both when you select draws: isel(draw=[0]) instead of "
            "isel(draw=0), and no stack or mean over them."
        )
    if not posterior.sizes[names.CHAIN] * posterior.sizes[names.DRAW]:
        raise SpecError(
            f"Group 'posterior' of `fit.idata` has {posterior.sizes[names.CHAIN]} chains of "
            f"{posterior.sizes[names.DRAW]} draws: none is left. Select at least one draw."
        )
    return posterior


@dataclass(frozen=True, repr=False, eq=False)
class Fit:
    """Result of an inference method: model, design and posterior.

    Attributes
    ----------
    spec : MixtureOfExperts
        The model.
    design : Design
        The data, as matrices of the model's formulas.
    idata : xarray.DataTree
        ``posterior`` with the reported variables, all on the user's scale, ``sample_stats``,
        ``log_likelihood``, ``observed_data`` and ``constant_data``;
        ``unconstrained_posterior`` with the sampler's variables ``mu_raw``, ``gate_raw``, ... on
        centred and scaled features of the fitted rows; of draws by a sampler also ``relabelling``
        and ``modes`` (where the chains began); of the other methods ``fit``,
        ``modes`` and ``standard_error``. ArviZ reads it unless it is a single mode.
    response : int or None
        Position of the response that predictions and plots are of, among several; None for all.
        See :func:`bayes_moe.margin`.
    """

    spec: MixtureOfExperts
    design: Design
    idata: xr.DataTree
    response: int | None = None

    @property
    def responses(self) -> tuple[str, ...]:
        """Responses that predictions are of: one, or all of ``cbind(y1, y2)``."""
        every = response_parts(self.spec.response)
        return every if self.response is None else (every[self.response],)

    def one_response(self, what: str = "this") -> tuple[str, np.ndarray]:
        """The response that predictions are of, and its values (obs,) in the fitted rows.

        Raises
        ------
        SpecError
            If there are several, of which ``what`` needs one.
        """
        if len(self.responses) > 1:
            first = self.responses[0]
            raise SpecError(
                f"The fit has {len(self.responses)} responses, {listed(self.responses)}, and "
                f"{what} is of one: give it bm.margin(fit, {first!r}) in place of the fit."
            )
        values = self.design.plain_response
        return self.responses[0], values if self.response is None else values[self.response]

    @property
    def _margin(self) -> str:
        return "" if self.response is None else f", shown for {self.responses[0]!r}"

    @property
    def complete(self) -> bool:
        """Whether all the draws that were asked for are there."""
        return bool(self.idata.attrs.get(names.COMPLETE, 1))

    @property
    def kind(self) -> str:
        """``"draws"`` of a sampler, ``"mode"``, or draws of an ``"approximation"``."""
        return kind_of(self.idata)

    @property
    def is_point(self) -> bool:
        """Whether the posterior is a single mode and not a set of draws."""
        return self.kind == names.KIND_MODE

    def _repr_html_(self) -> str:
        """Summary, variables and description, for notebooks."""
        posterior = self.idata[names.POSTERIOR].to_dataset()
        sample = (names.CHAIN, names.DRAW)
        variables = [
            (
                name,
                ", ".join(f"{d}: {n}" for d, n in posterior[name].sizes.items() if d not in sample),
            )
            for name in self.spec.variables
        ]
        attributes = self.idata.attrs
        shown = [names.METHOD, names.RANDOM_SEED]
        shown += [names.RELABEL] if self.kind == names.KIND_DRAWS else []
        made = [(name.replace("_", " "), attributes[name]) for name in shown if name in attributes]
        return html.view(
            repr(self).splitlines()[0],
            html.table([], made),
            html.table(["variable", "dimensions"], variables),
            html.paragraph(f"Groups of .idata: {', '.join(self.idata.children)}"),
            html.folded("Model", self.spec._repr_html_()),
        )

    def __repr__(self) -> str:
        sizes = self.idata[names.POSTERIOR].sizes
        size = " x ".join(f"{sizes[d]} {d}s" for d in (names.CHAIN, names.DRAW) if d in sizes)
        if self.is_point:
            figures = self.idata[names.FIT].to_dataset()
            objective = figures.attrs[names.OBJECTIVE]
            value = float(figures[names.OBJECTIVE])
            size = f"mode of the {objective}, log {objective} {value:.4f}"
            size += "" if figures[names.CONVERGED] else " (not converged)"
        rows = self.design.rows
        gone = {"dropped": self.design.n_dropped, "without earlier rows": self.design.n_lost}
        left = ", ".join(f"{count} {why}" for why, count in gone.items() if count)
        weight = "" if rows.weights is None else f" of weight {rows.weight:g}"
        group = rows.observation.group
        weight += "" if group is None else f" in {len({*group.tolist()})} groups"
        return (
            f"Fit of {self.spec.response!r}{self._margin}: {self.spec.structure.counted} "
            f"({', '.join(dict.fromkeys(e.family.kind for e in self.spec.experts))}), "
            f"{rows.size} rows{f' ({left})' if left else ''}{weight}, "
            f"{size}{'' if self.complete else ', incomplete'}\n"
            f"variables: {', '.join(self.spec.variables)}{self._rows_before}"
        )

    @property
    def _rows_before(self) -> str:
        """What terms are of features that pandas would compute with the row itself."""
        parts = {*looked_up(self.design.response_formula)}
        terms = [
            f"{t.name} is the {t.words}"
            for t in self.design.time_terms
            if t.function != "lag" and not {*t.columns} & parts
        ]
        return f"\nrows before: {'; '.join(terms)}" if terms else ""

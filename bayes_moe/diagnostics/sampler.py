"""Convergence checks of a sampler's draws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.data.design import Design
from bayes_moe.diagnostics.mixing import Mixing, mixing
from bayes_moe.model.evaluation import evaluate
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.results.draws import stacked_draws
from bayes_moe.results.fit import posterior_of

if TYPE_CHECKING:
    import xarray as xr

LARGEST_RHAT = 1.01
LEAST_ESS_PER_CHAIN = 100
LEAST_BFMI = 0.3
LARGEST_DEPTH_SHARE = 0.05
LEAST_CERTAINTY = 0.9
HELD = 1e-12
"""Relative range up to which a quantity of a model with constraints counts as held."""
INVARIANT_ROWS = 5


@dataclass(frozen=True)
class Convergence:
    """Figures of a set of draws.

    ``rhat``, ``ess_bulk`` and ``ess_tail`` are the worst over reported variables;
    ``rhat_invariant`` is the worst over quantities that no relabelling changes: the joint log
    density and location and the sum of squared gate weights at a few rows.
    """

    chains: int
    draws: int
    complete: bool
    divergences: int
    rhat: float
    rhat_variable: str
    rhat_invariant: float
    ess_bulk: float
    ess_tail: float
    ess_variable: str
    bfmi: float
    depth_share: float
    certainty: float

    @property
    def problems(self) -> list[str]:
        """Failed checks, each with its remedy; empty if all pass."""
        return [*self._sampling(), *self._mixing(), *self._geometry(), *self._labels()]

    def _sampling(self) -> Iterator[str]:
        if not self.complete:
            yield (
                f"Sampling was stopped early: {self.chains} chain(s) of {self.draws} draws are "
                "kept. Run fit again for the rest."
            )
        if self.divergences:
            yield (
                f"{self.divergences} divergent transitions after tuning: parts of the posterior "
                "may be missed. Raise target_accept (now e.g. 0.95), or give tighter priors."
            )

    def _mixing(self) -> Iterator[str]:
        if self.chains > 1 and self.rhat_invariant > LARGEST_RHAT:
            yield (
                f"R-hat {self.rhat_invariant:.3f} on quantities that labels cannot change: chains "
                "are in different modes or too short. Compare chains (az.plot_trace), sample "
                "longer, or use fewer experts."
            )
        elif self.chains > 1 and not self.rhat <= LARGEST_RHAT:
            yield (
                f"R-hat {self.rhat:.3f} at {self.rhat_variable} (at most {LARGEST_RHAT} is good): "
                "sample longer, or use fewer experts if two of them cannot be told apart."
            )
        if self.chains == 1 and self.complete:
            yield "One chain only: R-hat cannot compare chains. Use chains=4."
        least = LEAST_ESS_PER_CHAIN * self.chains
        if not min(self.ess_bulk, self.ess_tail) >= least:
            yield (
                f"Effective sample size {min(self.ess_bulk, self.ess_tail):.0f} at "
                f"{self.ess_variable} (at least {least} is good): raise draws."
            )

    def _geometry(self) -> Iterator[str]:
        if self.bfmi < LEAST_BFMI:
            yield (
                f"E-BFMI {self.bfmi:.2f} (at least {LEAST_BFMI} is good): heavy tails are explored "
                "slowly. Raise tune and draws, or give tighter priors."
            )
        if self.depth_share > LARGEST_DEPTH_SHARE:
            yield (
                f"{self.depth_share:.0%} of trajectories hit the largest tree depth: the posterior "
                "is badly scaled. Raise tune, or rescale strongly correlated features."
            )

    def _labels(self) -> Iterator[str]:
        if self.certainty < LEAST_CERTAINTY:
            yield (
                f"Labels are certain to {self.certainty:.2f} on average (1 is sure, 0.5 a coin "
                "toss): two experts overlap. Read predictions, not single experts' coefficients."
            )

    @property
    def table(self) -> dict[str, Any]:
        """Figures by name."""
        return {
            "chains": self.chains,
            "draws": self.draws,
            "divergences": self.divergences,
            "worst R-hat": round(self.rhat, 4),
            "worst R-hat, label-invariant": round(self.rhat_invariant, 4),
            "least bulk ESS": round(self.ess_bulk),
            "least tail ESS": round(self.ess_tail),
            "E-BFMI": round(self.bfmi, 2),
            "trajectories at largest depth": f"{self.depth_share:.1%}",
            "label certainty": round(self.certainty, 3),
        }

    @property
    def trust(self) -> str:
        """Verdict on draws that pass all checks."""
        return (
            f"The draws can be trusted: R-hat at most {max(self.rhat, self.rhat_invariant):.3f}, "
            f"effective sample size at least {min(self.ess_bulk, self.ess_tail):.0f}, "
            "no divergences."
        )


def convergence(tree: xr.DataTree, spec: MixtureOfExperts, design: Design) -> Convergence:
    """Convergence figures of the draws of a sampler."""
    posterior = posterior_of(tree)
    stats = tree[names.SAMPLE_STATS].to_dataset()
    label_free = _Quantities.of(invariants(spec, posterior, design))
    unlabelled = _mixing_of(label_free.values, spec)
    reported, figures = label_free, unlabelled
    if spec.structure.quantities:  # trees alone have none
        reported = _Quantities.of(posterior[list(spec.structure.quantities)])
        figures = _mixing_of(reported.values, spec)
        if len(spec.structure.quantities) < len(spec.variables):
            reported, figures = reported.joined(label_free), figures.joined(unlabelled)
    rhat, rhat_at = reported.worst(figures.rhat, largest=True)
    bulk, bulk_at = reported.worst(figures.ess_bulk, largest=False)
    tail, tail_at = reported.worst(figures.ess_tail, largest=False)
    certainty = (
        float(tree[names.RELABELLING][names.CERTAINTY].mean())
        if names.RELABELLING in tree.children
        else 1.0
    )
    return Convergence(
        chains=posterior.sizes[names.CHAIN],
        draws=posterior.sizes[names.DRAW],
        complete=bool(tree.attrs.get(names.COMPLETE, 1)),
        divergences=int(stats[names.DIVERGING].sum()) if names.DIVERGING in stats else 0,
        rhat=rhat,
        rhat_variable=rhat_at,
        rhat_invariant=label_free.worst(unlabelled.rhat, largest=True)[0],
        ess_bulk=bulk,
        ess_tail=tail,
        ess_variable=bulk_at if bulk <= tail else tail_at,
        bfmi=_least_bfmi(stats, spec),
        depth_share=_depth_share(stats),
        certainty=certainty,
    )


def _mixing_of(values: np.ndarray, spec: MixtureOfExperts) -> Mixing:
    """Mixing of quantities (quantity, chain, draw); of a model with constraints, some are held."""
    figures = mixing(values)
    if not spec.structure.constraints:
        return figures
    held = np.ptp(values, axis=(1, 2)) <= HELD * np.abs(values).max(axis=(1, 2))
    if held.all():  # a sampler that does not move
        return figures
    size = float(values.shape[1] * values.shape[2])
    figures.rhat[held], figures.ess_bulk[held], figures.ess_tail[held] = 1.0, size, size
    return figures


def invariants(spec: MixtureOfExperts, posterior: xr.Dataset, design: Design) -> xr.Dataset:
    """Quantities (chain, draw, ...) that no relabelling of experts changes.

    Log density and mean of the mixture, and the sum of squared gate weights, at a few rows
    spread over the response's range.
    """
    import xarray as xr

    order = np.argsort(design.first_response, kind="stable")
    picked = np.unique(np.linspace(0, len(order) - 1, INVARIANT_ROWS).astype(int))
    rows = design.rows.pick(order[picked])
    mixture = evaluate(spec, stacked_draws(spec, posterior), rows)
    location = mixture.of_first_response.moments("location")
    sizes = [posterior.sizes[d] for d in (names.CHAIN, names.DRAW)]
    dims = (names.CHAIN, names.DRAW, names.OBS)
    quantities = {
        "log_density": mixture.log_density(rows.observed),
        "location": (mixture.weights * location).sum(axis=1),
    }
    if spec.n_experts > 1:
        quantities["concentration"] = (mixture.weights**2).sum(axis=1)
    return xr.Dataset({k: (dims, v.reshape(*sizes, -1)) for k, v in quantities.items()})


@dataclass(frozen=True)
class _Quantities:
    """All numbers of some variables: values (quantity, chain, draw) and the variables."""

    values: np.ndarray
    variables: tuple[xr.DataArray, ...]

    @classmethod
    def of(cls, dataset: xr.Dataset) -> _Quantities:
        variables = tuple(v.transpose(names.CHAIN, names.DRAW, ...) for v in dataset.values())
        flat = [v.values.reshape(*v.shape[:2], -1) for v in variables]
        return cls(np.moveaxis(np.concatenate(flat, axis=-1), -1, 0), variables)

    def joined(self, other: _Quantities) -> _Quantities:
        both = np.concatenate([self.values, other.values])
        return _Quantities(both, self.variables + other.variables)

    def worst(self, figures: np.ndarray, *, largest: bool) -> tuple[float, str]:
        """Most extreme figure (quantity,), and the name of its entry; NaN counts as extreme."""
        if not figures.size:
            return (-np.inf if largest else np.inf), ""
        known = np.where(np.isnan(figures), np.inf if largest else 0.0, figures)
        position = int(known.argmax() if largest else known.argmin())
        return float(known[position]), self._name(position)

    def _name(self, position: int) -> str:
        """Name of an entry, with its labels along the dimensions."""
        for variable in self.variables:
            shape = variable.shape[2:]
            size = int(np.prod(shape))
            if position < size:
                where = zip(variable.dims[2:], np.unravel_index(position, shape), strict=True)
                labels = [str(variable[d].values[i]) for d, i in where]
                return f"{variable.name}[{', '.join(labels)}]" if labels else str(variable.name)
            position -= size
        raise IndexError(position)


def _least_bfmi(stats: xr.Dataset, spec: MixtureOfExperts) -> float:
    """Least E-BFMI of the chains; NaN where steps other than NUTS change the energy too."""
    if names.ENERGY not in stats or not spec.structure.has_gradient:
        return float("nan")
    energy = stats[names.ENERGY].transpose(names.CHAIN, names.DRAW).values
    with np.errstate(invalid="ignore", divide="ignore"):
        bfmi = np.square(np.diff(energy, axis=1)).mean(axis=1) / energy.var(axis=1, ddof=1)
    return float(bfmi.min())


def _depth_share(stats: xr.Dataset) -> float:
    """Share of trajectories at the largest tree depth; 0 if the sampler does not store it."""
    for name in names.DEPTH_REACHED:
        if name in stats:
            return float(stats[name].mean())
    return 0.0

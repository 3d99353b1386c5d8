"""Coefficients on the user's scale as free variables of a PyMC model.

They are an affine function of internal coefficients with a prior of their own (see
:mod:`bayes_moe.predictors.linear`). Samplers move the internal ones: these are the transformed
values of the variable.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.dim_pairs import NO_PAIRS, DimPairs
from bayes_moe.core.graph_context import GraphContext
from bayes_moe.predictors.scaling import Scaling
from bayes_moe.predictors.site import Site
from bayes_moe.priors.prior import Prior


@dataclass(frozen=True, eq=False)
class ReportedCoefficients:
    """The prior of reported coefficients (output, term), from that of internal ones.

    Attributes
    ----------
    site : Site
        The predictor's site; its internal coefficients are (term, internal output).
    scaling : Scaling
        Internal to reported coefficients.
    prior : Prior
        Prior of the internal coefficients, in units of their spread.
    pairs : DimPairs
        The dimensions that reported coefficients have for the outputs.
    """

    site: Site
    scaling: Scaling
    prior: Prior
    pairs: DimPairs = NO_PAIRS

    def variable(self, spread: Any, context: GraphContext) -> Any:
        """Return the variable in the current PyMC model, as (output, term).

        ``spread`` (term,) are standard deviations of the internal coefficients, 1 if None.
        """
        import pymc as pm
        import pytensor.tensor as pt

        from bayes_moe.predictors.internal_transform import InternalTransform

        site, terms = self.site, len(self.scaling.matrix.terms)
        spread = context.number(f"{site.coef}_spread", np.ones(terms)) if spread is None else spread
        arguments = [
            context.number(f"{site.coef}_{n}", np.asarray(v)[:, None])
            for n, v in self.prior.arguments.items()
        ]
        inputs = ",".join(["(t)", *(f"(t,one{j})" for j in range(len(arguments)))])
        dims = self.pairs.dims(self._dims)
        variable = pm.CustomDist(
            site.coef,
            spread,
            *arguments,
            dist=lambda spread, *rest: self.reported(self._internal_dist(rest[:-1]), spread),
            logp=self._log_density,
            support_point=lambda rv, size, spread, *rest: self.reported(
                pt.zeros((terms, self.width)), spread
            ),
            signature=f"{inputs}->({','.join([*(f'k{j}' for j in range(len(dims) - 1)), 't'])})",
            default_transform=InternalTransform(self),
            class_name="Coefficients",
            dims=dims,
        )
        return self.pairs.internal(variable, self._dims)

    @property
    def _dims(self) -> tuple[str, str]:
        return self.site.dim, names.term(self.site.stem)

    @property
    def ndim(self) -> int:
        """Number of dimensions of the reported coefficients."""
        return len(self.pairs.dims(self._dims))

    @property
    def zero_sum(self) -> bool:
        """Whether the internal coefficients sum to zero over the outputs."""
        return self.prior.kind.support == "zero-sum"

    @property
    def width(self) -> int:
        """Number of internal outputs."""
        return self.site.outputs if self.site.mixing is None else len(self.site.mixing)

    def reported(self, internal: Any, spread: Any) -> Any:
        """Return reported coefficients of internal ones (term, internal output)."""
        internal = internal * spread[:, None]
        internal = internal if self.site.mixing is None else internal @ self.site.mixing
        outputs = internal.T @ self.scaling.linear + self.scaling.offset
        return self.pairs.reported(outputs, self._dims)

    def internal(self, reported: Any, spread: Any) -> Any:
        """Return internal coefficients (term, internal output) of reported ones."""
        reported = self.pairs.internal(reported, self._dims)
        outputs = ((reported - self.scaling.offset) @ self._inverse).T
        mixing = self.site.mixing
        if mixing is not None:  # its rows are orthogonal
            outputs = outputs @ (mixing / (mixing**2).sum(axis=1, keepdims=True)).T
        return outputs / spread[:, None]

    def log_volume(self, spread: Any) -> Any:
        """Return the log volume of reported coefficients in units of that of internal ones."""
        import pytensor.tensor as pt

        columns = self.width - self.zero_sum
        volume = columns * np.linalg.slogdet(self.scaling.linear)[1]
        if self.site.mixing is not None:
            gram = self.site.mixing @ self.site.mixing.T
            volume += 0.5 * len(self.scaling.matrix.terms) * np.linalg.slogdet(gram)[1]
        return volume + columns * pt.log(spread).sum()

    @cached_property
    def _inverse(self) -> np.ndarray:
        inverse: np.ndarray = np.linalg.inv(self.scaling.linear)
        return inverse

    def _internal_dist(self, arguments: Any) -> Any:
        """Distribution of the internal coefficients (term, internal output)."""
        import pymc as pm

        named = dict(zip(self.prior.arguments, arguments, strict=True))
        shape = (len(self.scaling.matrix.terms), self.width)
        return getattr(pm, self.prior.distribution).dist(**named, shape=shape)

    def _log_density(self, value: Any, spread: Any, *arguments: Any) -> Any:
        """Log density of reported coefficients."""
        import pymc as pm

        internal = self.internal(value, spread)
        if self.zero_sum:  # exactly: PyMC checks it
            internal = internal - internal.mean(axis=-1, keepdims=True)
        density = pm.logp(self._internal_dist(arguments), internal).sum()
        return density - self.log_volume(spread)

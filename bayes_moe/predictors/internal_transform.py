"""PyMC's transform from reported coefficients to the internal ones, which samplers move."""

from __future__ import annotations

from typing import Any

from pymc.distributions.transforms import Transform, ZeroSumTransform

SPREAD = 1
"""Position of the spreads among the inputs of the random variable."""


class InternalTransform(Transform):
    """Transform of reported coefficients to internal ones (term, internal output).

    ``coefficients`` is their :class:`~bayes_moe.predictors.reported.ReportedCoefficients`. Where
    internal ones sum to zero, the last output is left out.
    """

    name = "internal"

    def __init__(self, coefficients: Any) -> None:
        self.coefficients, self.ndim_supp = coefficients, coefficients.ndim
        self.zero_sum = ZeroSumTransform((-1,)) if coefficients.zero_sum else None

    def forward(self, value: Any, *inputs: Any) -> Any:
        internal = self.coefficients.internal(value, inputs[SPREAD])
        return internal if self.zero_sum is None else self.zero_sum.forward(internal)

    def backward(self, value: Any, *inputs: Any) -> Any:
        internal = value if self.zero_sum is None else self.zero_sum.backward(value)
        return self.coefficients.reported(internal, inputs[SPREAD])

    def log_jac_det(self, value: Any, *inputs: Any) -> Any:
        return self.coefficients.log_volume(inputs[SPREAD])

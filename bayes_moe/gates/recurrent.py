"""Recurrent gate: a softmax of predictors that are linear in the state of a recurrent network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from bayes_moe import predictors
from bayes_moe.core import names
from bayes_moe.gates.base import Gate
from bayes_moe.gates.softmax import Softmax
from bayes_moe.gates.structure import GateStructure


@dataclass(frozen=True, repr=False)
class Recurrent(Gate):
    """Softmax gate that remembers: weights of a row depend on features of earlier rows too.

    ``log w_k(t) = eta_k(t) - log sum_j exp(eta_j(t))`` with ``eta_k(t) = coef_k0 + coef_k h_t``,
    where the state ``h_t = cell(h_(t-1), z_t)`` of the standardised features is that of
    :class:`bayes_moe.predictors.Recurrent`, 0 before the first row of each series. The model needs
    the column of times, ``time=``. Features may be responses of earlier rows, as ``lag(y, 1)``.
    Given the features, rows are independent.

    Parameters
    ----------
    formula : str, optional
        Features of the gate, e.g. ``"~ x"``. Left out, the gate uses the experts' right-hand side.
    cell : {"gru", "rnn"}
        The cell: a gated recurrent unit, or a plain one of tanh.
    units : int
        Length of the state.
    scale : {"learned", "fixed"}
        Whether the strength of weight decay is learned.

    Raises
    ------
    SpecError
        For settings outside their range, and for a model without ``time``.

    Notes
    -----
    The gate is ``bm.gates.Softmax(formula, predictor=bm.predictors.Recurrent(cell, units))`` under
    a name of its own. EM does not fit it: use ``method="map"``, ``"laplace"`` or ``"nuts"``.

    References
    ----------
    Cho, K., et al. (2014). Learning phrase representations using RNN encoder-decoder for
    statistical machine translation. EMNLP, 1724-1734.
    """

    formula: str | None = None
    cell: str = "gru"
    units: int = 8
    scale: str = "learned"

    kind: ClassVar[str] = "recurrent"

    def __post_init__(self) -> None:
        made = self.predictor
        object.__setattr__(self, "units", made.units)

    @property
    def predictor(self) -> predictors.Recurrent:
        """What makes predictors of features."""
        return predictors.Recurrent(self.cell, self.units, self.scale)

    @property
    def formulas(self) -> Mapping[str, str | None]:
        return {names.GATE: self.formula}

    def structure(self, n_experts: int) -> GateStructure:
        return Softmax(self.formula, predictor=self.predictor).structure(n_experts)

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "formula": self.formula,
            "cell": self.cell,
            "units": self.units,
            "scale": self.scale,
        }

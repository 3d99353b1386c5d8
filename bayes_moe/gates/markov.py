"""Markov gate: the expert of a row depends on that of the row before.

``P(z_t = k | z_{t-1} = j, x_t) = softmax_k(sticky [j = k] + x_t' b_jk)``. Under the default prior
the coefficients of the moves from an expert sum to zero, so that the prior is the same for every
order of the experts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from scipy.linalg import block_diag, helmert

from bayes_moe.core import names
from bayes_moe.core.checks import check_between, check_one_of
from bayes_moe.gates.base import Gate
from bayes_moe.gates.softmax import Softmax
from bayes_moe.gates.structure import GateStructure, Head
from bayes_moe.gates.transitions import INITIALS, Transitions
from bayes_moe.predictors import Linear

STICKY = 2.0
MOST_STICKY = 30.0


@dataclass(frozen=True, repr=False)
class Markov(Gate):
    r"""Gate of a Markov-switching (hidden Markov) mixture of experts.

    .. math:: P(z_t = k \mid z_{t-1} = j, x_t)
        = \frac{\exp(s\,[j = k] + x_t' b_{jk})}{\sum_l \exp(s\,[j = l] + x_t' b_{jl})}

    Experts are the states of the chain (regimes). The model needs ``time=``, and ``series=`` where
    a table holds several series: the chain moves from each row of a series to the next, whatever
    the time between them.

    The weights that predictions use are :math:`P(z_t = k \mid y_1, ..., y_{t-1})`, the predicted
    probabilities of the Hamilton filter; responsibilities are smoothed probabilities, given all
    rows of the series.

    Parameters
    ----------
    formula : str, optional
        Features of the transitions, e.g. ``"~ z"``; ``"~ 1"`` is a homogeneous chain. Left out, the
        gate uses the experts' right-hand side.
    sticky : float
        Log odds of staying over each other expert, where the coefficients are zero: about 0.88 to
        stay for two experts and the default, 2. Coefficients are what is beside it. At 0, all
        experts are equally probable a priori, wherever the chain comes from.
    initial : {"stationary", "equal"}
        Probabilities of a series' first row: the stationary distribution of that row's transition
        matrix, or ``1 / K`` each.

    Raises
    ------
    SpecError
        For settings that cannot be; by the model, without ``time=``, and with ``group=``,
        ``expert=``, ``weights=``, effects of groups in the gate, or a truncated response.

    References
    ----------
    Hamilton, J. D. (1989). A new approach to the economic analysis of nonstationary time series and
    the business cycle. Econometrica, 57(2), 357-384.

    Filardo, A. J. (1994). Business-cycle phases and their transitional dynamics. Journal of
    Business & Economic Statistics, 12(3), 299-308.

    Bengio, Y., & Frasconi, P. (1995). An input output HMM architecture. Advances in Neural
    Information Processing Systems, 7, 427-434.
    """

    formula: str | None = None
    sticky: float = STICKY
    initial: str = "stationary"

    kind: ClassVar[str] = "markov"

    def __post_init__(self) -> None:
        check_between("sticky", self.sticky, -MOST_STICKY, MOST_STICKY)
        check_one_of("initial", self.initial, INITIALS)
        object.__setattr__(self, "sticky", float(self.sticky))

    @property
    def formulas(self) -> Mapping[str, str | None]:
        return {names.GATE: self.formula}

    def structure(self, n_experts: int) -> GateStructure:
        if n_experts == 1:
            return Softmax(self.formula).structure(n_experts)
        chain = Transitions(n_experts, self.sticky, self.initial)
        head = Head(
            names.GATE,
            Linear(),
            names.transition(names.GATE),
            chain.labels,
            slice(0, chain.outputs),
            block_diag(*[helmert(n_experts)] * n_experts),
            directions=_directions(n_experts),
        )
        return GateStructure(
            n_experts, (head,), None, (names.GATE, tuple(range(n_experts))), chain=chain
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "formula": self.formula,
            "sticky": self.sticky,
            "initial": self.initial,
        }


def _directions(n_experts: int) -> tuple[str, ...]:
    """Labels of the free directions of the moves from each expert."""
    if n_experts == 2:
        return ("0", "1")
    return tuple(f"{j}[{d}]" for j in range(n_experts) for d in range(n_experts - 1))

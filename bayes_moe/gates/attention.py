"""Attention gate: ``w_k(x) = softmax_k(q(x)' key_k / sqrt(size))``, or attention to rows before.

Every expert has a key, every row a query ``q(x) = W z`` of its standardised features. Several heads
have keys and queries of their own, and their weights are averaged. Over the past, keys are those of
the rows before, and the gate is a softmax of predictors that are linear in averages of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from math import log
from typing import Any, ClassVar

from bayes_moe.core import names
from bayes_moe.core.arrays import Arrays, log_softmax
from bayes_moe.core.checks import check_one_of, check_whole
from bayes_moe.core.errors import SpecError
from bayes_moe.core.records import Record
from bayes_moe.data.matrix import Matrix
from bayes_moe.gates.base import Gate
from bayes_moe.gates.softmax import Softmax
from bayes_moe.gates.structure import GateStructure, Head
from bayes_moe.predictors.bilinear import Bilinear
from bayes_moe.predictors.past_attention import PastAttention

QUERIES = ("free", "identity")
OVER = ("experts", "past")
PAST_SIZE, WINDOW = 2, 20
"""Default length of queries and keys, and default window, over the past."""
MOST_SIZE, MOST_HEADS = 1000, 100


class Attention(Record, Gate):
    """Gate by attention of rows to experts, or to the rows before.

    The effective coefficients ``gate_coef (expert, gate_term)``, on the user's scale, are those of
    a softmax gate of rank ``size``; with several heads they are ``(gate_head, expert, gate_term)``.
    A prior of ``gate_coef`` is that of the keys: its scale 1, the default, gives the effective
    coefficients the spreads of a softmax gate's.

    Parameters
    ----------
    formula : str, optional
        Features of the query, e.g. ``"~ z"``. Left out, the gate uses the experts' right-hand side.
    size : int, optional
        Length of queries and keys. ``min(experts - 1, terms)``, the default, reaches every softmax
        gate on the same features.
    heads : int
        Number of softmaxes that are averaged:
        ``w_k(x) = mean_h softmax_k(q_h(x)' key_hk / sqrt(size))``.
    over : {"experts", "past"}
        ``"past"``: attention to the row and the ``window`` rows before it in its series. The gate
        is ``w_k(t) = softmax_k(coef_k0 + coef_k' z_t + sum_h coef_kh' c_h(t))``, where ``c_h(t)``
        are averages of the features of these rows with weights that depend on queries, keys and
        lags: see :class:`bayes_moe.predictors.past_attention.PastAttention`. ``size`` is 2 by
        default. The model needs the column of times, ``time=``.
    window : int, optional
        Number of rows before, with ``over="past"``; by default 20.
    query : {"free", "identity"}
        ``"identity"``: the features are the query, and the keys, one number a feature, are the
        coefficients of a softmax gate with its prior.

    Notes
    -----
    ``gate_query_raw`` and ``gate_key_raw`` are known up to a rotation: judge convergence by
    ``gate_coef`` and predictions.

    References
    ----------
    Vaswani, A., et al. (2017). Attention is all you need. Advances in Neural Information Processing
    Systems, 30.
    """

    __slots__ = ("formula", "n_heads", "over", "query", "size", "window")

    formula: str | None
    size: int | None
    n_heads: int
    query: str
    over: str
    window: int | None

    kind: ClassVar[str] = "attention"

    def __init__(
        self,
        formula: str | None = None,
        size: int | None = None,
        heads: int = 1,
        query: str = "free",
        over: str = "experts",
        window: int | None = None,
    ) -> None:
        if size is not None:
            check_whole("size", size, 1, MOST_SIZE)
        check_whole("heads", heads, 1, MOST_HEADS)
        check_one_of("query", query, QUERIES)
        if query == "identity" and (heads, size) != (1, None):
            raise SpecError(
                "With query='identity' there is one head, and keys are as long as the features: "
                f"leave out `size` and `heads`; they are {size!r} and {heads!r}."
            )
        check_one_of("value of `over`", over, OVER)
        if over == "experts" and window is not None:
            raise SpecError("`window` is of attention to the rows before: give over='past'.")
        if over == "past":
            if query == "identity":
                raise SpecError("query='identity' is for attention to experts, not over='past'.")
            window = PastAttention(WINDOW if window is None else window).window
        self._set(formula=formula, size=size, n_heads=heads, query=query, over=over, window=window)

    def __repr__(self) -> str:
        settings = {"size": self.size, "heads": self.n_heads, "query": self.query}
        settings |= {"over": self.over, "window": self.window}
        defaults = {"size": None, "heads": 1, "query": "free", "over": "experts", "window": None}
        more = [f"{name}={value!r}" for name, value in settings.items() if value != defaults[name]]
        formula = [] if self.formula is None else [repr(self.formula)]
        return f"Attention({', '.join([*formula, *more])})"

    @property
    def formulas(self) -> Mapping[str, str | None]:
        return {names.GATE: self.formula}

    def structure(self, n_experts: int) -> GateStructure:
        softmax = Softmax(self.formula)
        if self.over == "past":
            return self._of_past(n_experts)
        if self.query == "identity" or n_experts == 1:
            return softmax.structure(n_experts)
        predictor = Bilinear(n_experts, self.size, self.n_heads)
        outputs = slice(0, self.n_heads * n_experts)
        head = Head(names.GATE, predictor, names.EXPERT, None, outputs)
        return GateStructure(
            n_experts,
            (replace(head, invariances=partial(_rotations, predictor)),),
            None,
            (names.GATE, tuple(range(n_experts))),
            weigh=partial(_mean_of_softmaxes, n_experts, self.n_heads),
            surrogate=softmax,
        )

    def _of_past(self, n_experts: int) -> GateStructure:
        """Structure of a gate by attention to the rows before."""
        assert self.window is not None
        size = PAST_SIZE if self.size is None else self.size
        predictor = PastAttention(self.window, size, self.n_heads)
        found = Softmax(self.formula, predictor=predictor).structure(n_experts)
        turns = self.n_heads * size * (size - 1) // 2  # rotations of queries and keys
        heads = tuple(replace(h, invariances=lambda matrix: turns) for h in found.heads)
        return replace(found, heads=heads)

    def to_dict(self) -> dict[str, Any]:
        record = {
            "kind": self.kind,
            "formula": self.formula,
            "size": self.size,
            "heads": self.n_heads,
            "query": self.query,
        }
        return (
            record if self.over == "experts" else record | {"over": "past", "window": self.window}
        )


def _mean_of_softmaxes(n_experts: int, n_heads: int, eta: Any, xp: Arrays) -> Any:
    """Log weights (..., expert, obs) of outputs (..., head and expert, obs)."""
    if n_heads == 1:
        return log_softmax(eta, xp)
    starts = range(0, n_heads * n_experts, n_experts)
    heads = [log_softmax(eta[..., at : at + n_experts, :], xp) for at in starts]
    stacked = xp.concatenate([head[..., None, :, :] for head in heads], axis=-3)
    return xp.logsumexp(stacked, axis=-3) - log(n_heads)


def _rotations(predictor: Bilinear, matrix: Matrix) -> int:
    """Number of directions in which queries and keys rotate without any change of the weights."""
    size = predictor.length(matrix)
    unused = size - min(size, predictor.experts - 1, len(matrix.terms))
    return predictor.heads * (size * (size - 1) - unused * (unused - 1)) // 2

"""Observed information of groups of rows that share an expert.

With ``S_ka = sum_i s_ka(i) x_a(i)`` the derivative of ``sum_i log f_k(y_i)`` by the coefficients of
parameter ``a`` of expert ``k``, ``L_ka = r_k S_ka``, and ``r_k`` the responsibility of a group,
minus the second derivatives of its log density by coefficients of experts are

``L_ja L_kb' - delta_jk (r_k S_ka S_kb' + r_k sum_i h_kab(i) x_a(i) x_b(i)')``.

The products of sums over a group's rows are no sums over rows: they are products of matrices
(group, coefficient). All other terms are sums over rows of the weights of
:mod:`bayes_moe.em.information`, with the responsibilities of the row's group: the features of the
gate are the same at all rows of a group, so that ``z_g S_ka' = sum_i z_i s_ka(i) x_a(i)'``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayes_moe.em.cross_products import Features
from bayes_moe.em.information import ObservedInformation, PredictorStack, RowTerms
from bayes_moe.model.allocation import Allocation


class GroupInformation(ObservedInformation):
    """Observed information of rows that share an expert by group."""

    def __init__(self, stack: PredictorStack) -> None:
        super().__init__(stack)
        self._of_experts = np.flatnonzero(self.plan.first >= stack.gate.size)
        self._coefs: dict[int, list[np.ndarray]] = {}
        for part in stack.parts:
            for output, expert in zip(part.outputs.tolist(), part.members, strict=True):
                own = np.arange(stack.starts[output], stack.starts[output + 1])
                self._coefs.setdefault(expert, []).append(own)

    def weights(self, terms: RowTerms) -> np.ndarray:
        weights = self.products(terms)
        weights[:, self._of_experts] = 0.0
        self.subtract_seconds(weights, terms)
        return weights

    def of_groups(
        self,
        terms: RowTerms,
        features: Features,
        where: slice,
        shared: Allocation,
        weights: np.ndarray | None,
    ) -> tuple[np.ndarray, ...]:
        """Products over groups (point, coefficient, coefficient) of sums over their rows."""
        stack = self.stack
        size = len(stack.units)
        sums = np.zeros((len(terms.r), size, len(shared.totals(terms.r[0, 0]))))
        for output in range(stack.gate.size, stack.size):
            table = features.take(stack.tables[output], where)
            scores = terms.scores[:, output, None] * table
            sums[:, stack.starts[output] : stack.starts[output + 1]] = shared.totals(scores)
        if weights is not None:
            sums *= np.sqrt(weights[shared.first])
        matrix = np.matmul(sums, sums.swapaxes(1, 2))
        r = terms.r[..., shared.first]
        for expert, coefs in self._coefs.items():
            own = np.concatenate(coefs)
            share = r[:, expert, None]
            root = np.where(share > 0.0, 1 / np.sqrt(np.where(share > 0.0, share, 1.0)), 0.0)
            scaled = sums[:, own] * root
            matrix[:, own[:, None], own] -= np.matmul(scaled, scaled.swapaxes(1, 2))
        return (matrix,)

    def matrix(self, sums: Sequence[np.ndarray], size: int) -> np.ndarray:
        *by_row, by_group = sums
        return super().matrix(by_row, size) + by_group

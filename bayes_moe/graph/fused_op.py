"""The mixture as one PyTensor operation: row log densities and their derivatives in one pass.

``log p(y | x) = logsumexp_k(a_k + log f_k(y; eta_k)) - logsumexp_k(a_k)`` of gate logits ``a``
and linear predictors ``eta``, with derivatives ``r_k - w_k`` by ``a_k`` and
``r_k d log f_k / d eta_k``, where ``r`` are responsibilities and ``w`` gate weights. Logits need
not be normalised.

Numba compiles the families' kernels, NumPy evaluates the families' formulas, and for JAX the
operation is replaced by these formulas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.compile.mode import optdb
from pytensor.gradient import DisconnectedType, disconnected_type, grad_not_implemented
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.link.numba.cache import compile_numba_function_src
from pytensor.link.numba.dispatch import basic as numba_basic

from bayes_moe.core.arrays import NUMERIC, along_rows, log_softmax, symbolic
from bayes_moe.families import RowData
from bayes_moe.families.formula import SCORES
from bayes_moe.graph.family_group import FamilyGroup, predictor_inputs
from bayes_moe.model.likelihood import allocate, log_mixture

CHUNK_SIZE = 2**14
"""Elements of an array (expert, obs) in a chunk under NumPy: few enough for the caches."""


class FusedMixture(Op):
    """Log density of a mixture, with its derivatives as further outputs.

    Inputs are ``y`` (obs,), logits (expert, obs), and for each group of experts its linear
    predictors and the arrays of :meth:`bayes_moe.families.Family.data`. Predictors are
    (expert, obs), or (expert, 1) if the same for every row; data are (1, obs) or (1, 1). Outputs
    are log densities (obs,), and their derivatives by the logits and by each predictor, each
    (expert, obs).
    """

    __props__ = ("parts",)

    def __init__(self, parts: tuple[FamilyGroup, ...]) -> None:
        self.parts = parts

    @property
    def predictors(self) -> list[int]:
        """Positions of the predictors among the inputs."""
        return predictor_inputs(self.parts)

    @property
    def differentiable(self) -> set[int]:
        """Positions of the inputs by which the log density can be differentiated."""
        return {0, 1, *self.predictors}

    def make_node(self, *values: Any) -> Apply:
        inputs = [pt.as_tensor(x, dtype="float64") for x in values]
        outputs = [pt.vector(dtype="float64"), pt.matrix(dtype="float64")]
        outputs += [pt.matrix(dtype="float64") for _ in self.predictors]
        return Apply(self, inputs, outputs)

    def infer_shape(self, node: Apply, shapes: Sequence[Any]) -> list[Any]:
        rows = shapes[0][0]
        return [(rows,), (shapes[1][0], rows), *((shapes[j][0], rows) for j in self.predictors)]

    def perform(self, node: Apply, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        y, logits, *rest = inputs
        experts = logits.shape[0]
        arrays = [np.empty(y.size), np.empty((experts, y.size))]
        arrays += [np.empty((inputs[j].shape[0], y.size)) for j in self.predictors]
        step = max(1, CHUNK_SIZE // experts)
        for start in range(0, y.size, step):
            chunk = slice(start, start + step)
            parts = [x if x.shape[1] == 1 else x[:, chunk] for x in (logits, *rest)]
            for array, value in zip(arrays, self.derivatives(y[chunk], *parts), strict=True):
                array[..., chunk] = value
        for storage, array in zip(outputs, arrays, strict=True):
            storage[0] = array

    def derivatives(self, y: np.ndarray, logits: np.ndarray, *rest: np.ndarray) -> list[np.ndarray]:
        """Outputs for a chunk of rows, by the families' formulas."""
        with np.errstate(all="ignore"):
            densities, scores, at = [], [], 0
            for part in self.parts:
                etas, data = self.split(part, rest[at:])
                at += part.width
                density = part.family.log_density_at(data, etas, NUMERIC)
                shape = (part.stop - part.start, y.size)
                densities.append(np.broadcast_to(density, shape))
                derivatives = part.family.derivatives_at(data, etas, SCORES)
                scores += [(part, np.broadcast_to(s, shape)) for s in derivatives.score]
            logits = np.broadcast_to(logits, (logits.shape[0], y.size))
            log_sum, weights = allocate(logits)
            log_joint, shares = allocate(logits + np.concatenate(densities))
        slopes = [shares[part.start : part.stop] * score for part, score in scores]
        return [log_joint - log_sum, shares - weights, *slopes]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        slope, *others = cotangents
        why = "use likelihood='symbolic' for second derivatives, and for those by the response"
        gradients = [
            grad_not_implemented(self, j, x, why)
            if j in self.differentiable
            else disconnected_type()
            for j, x in enumerate(inputs)
        ]
        # The other outputs are first derivatives: theirs would be second ones.
        if not all(isinstance(c.type, DisconnectedType) for c in others):
            return gradients
        for j, derivative in zip([1, *self.predictors], outputs[1:], strict=True):
            product = slope[None, :] * derivative
            same = inputs[j].type.shape[1] == 1
            gradients[j] = product.sum(axis=1, keepdims=True) if same else product
        return gradients

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[j in self.differentiable] * len(node.outputs) for j in range(len(node.inputs))]

    @staticmethod
    def split(part: FamilyGroup, inputs: Sequence[Any]) -> tuple[Sequence[Any], RowData]:
        """Linear predictors and rows' data of a group, of the inputs from its first one on."""
        t, u, base, *more = inputs[part.predictors : part.width]
        return inputs[: part.predictors], RowData(t, u, base, tuple(more))


def fused_mixture(
    y: Any, logits: Any, parts: Sequence[tuple[FamilyGroup, Sequence[Any], RowData]]
) -> Any:
    """Symbolic log density (obs,) of the mixture.

    ``parts`` are groups of experts, each with its linear predictors (expert, obs) or (expert, 1),
    and what its formula reads of the rows.
    """
    rest: list[Any] = []
    for _, etas, data in parts:
        of_rows = [pt.as_tensor(x) for x in data.values]
        rest += [*etas, *(x.reshape((1, -1)) if x.ndim < 2 else x for x in of_rows)]
    node = FusedMixture(tuple(part for part, _, _ in parts)).make_node(y, logits, *rest)
    return node.outputs[0]


# --- numba ---------------------------------------------------------------------------------------


@numba_basic.register_funcify_and_cache_key(FusedMixture)
def _numba(op: FusedMixture, node: Apply, **_: Any) -> tuple[Any, str]:
    """The compiled function of an operation, and the key of its cache entry."""
    from bayes_moe.graph import fused_numba  # imports numba, which other linkers do not need
    from bayes_moe.kernels.compile import REORDERED

    same_for_all_rows = [x.type.shape[1] == 1 for x in node.inputs[2:]]
    text = fused_numba.fused_code(op.parts, same_for_all_rows)
    namespace = fused_numba.fused_names(op.parts)
    function = compile_numba_function_src(text, "fused_mixture", namespace)
    compiled = numba_basic.numba_njit(function, fastmath=REORDERED, error_model="numpy")
    return compiled, fused_numba.fused_key(text, op.parts)


# --- other linkers -------------------------------------------------------------------------------


@node_rewriter([FusedMixture])
def _as_formulas(fgraph: Any, node: Apply) -> list[Any]:
    """Replace the operation by the families' formulas, which JAX compiles itself."""
    y = node.inputs[0]
    xp, op = symbolic(), node.op
    # With one copy of each input a row, the gradient of the sum has the derivatives of every row:
    # one reverse pass in place of one a row.
    copies = {j: along_rows(node.inputs[j], y) for j in (1, *op.predictors)}
    rest = [copies.get(j, x) for j, x in enumerate(node.inputs)][2:]
    parts = []
    for part in op.parts:
        etas, data = op.split(part, rest)
        rest = rest[part.width :]
        parts.append(part.family.log_density_at(data, etas, xp))
    densities = parts[0] if len(parts) == 1 else xp.concatenate(parts, axis=-2)
    value = log_mixture(log_softmax(copies[1], xp), densities, xp)
    if not any(fgraph.clients[out] for out in node.outputs[1:]):
        return [value, *node.outputs[1:]]
    slopes: Any = pt.grad(value.sum(), list(copies.values()), disconnected_inputs="ignore")
    return [value, *slopes]


optdb.register("fused_mixture_as_formulas", dfs_rewriter(_as_formulas), "jax", position=0.05)

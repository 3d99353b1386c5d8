"""A predictor's value as one PyTensor operation that calls its NumPy code, without a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op


class Evaluation(Op):
    """Values (output, obs) of a predictor on the rows of a binding, from its reported variables.

    Inputs are the variables of ``names``, in their order.
    """

    def __init__(self, predictor: Any, binding: Any, names: Sequence[str]) -> None:
        self.predictor, self.binding, self.names = predictor, binding, tuple(names)

    def make_node(self, *inputs: Any) -> Apply:
        return Apply(self, [pt.as_tensor(v) for v in inputs], [pt.matrix(dtype="float64")])

    def perform(self, node: Apply, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        draws = {n: np.asarray(v)[None] for n, v in zip(self.names, inputs, strict=True)}
        outputs[0][0] = np.ascontiguousarray(self.predictor.evaluate(self.binding, draws)[0])

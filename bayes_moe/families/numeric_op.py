"""A function of NumPy as a PyTensor operation, whose gradient is made of other functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import grad_undefined
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op


class NumericFunction(Op):
    """Elementwise function of arrays of equal shapes, evaluated by NumPy.

    Parameters
    ----------
    name : str
        Name of the function, of which there is one.
    of : callable
        The function of arrays.
    slopes : callable or None
        Tensors of arguments, and its value -> its derivatives by the arguments.
    """

    __props__ = ("name",)

    def __init__(
        self, name: str, of: Callable[..., Any], slopes: Callable[..., Any] | None
    ) -> None:
        self.name, self.of, self.slopes = name, of, slopes

    def make_node(self, *values: Any) -> Apply:
        inputs = [pt.as_tensor(x, dtype="float64") for x in values]
        return Apply(self, inputs, [inputs[0].type()])

    def infer_shape(self, node: Apply, shapes: Any) -> list[Any]:
        return [shapes[0]]

    def perform(self, node: Apply, inputs: Any, outputs: Any) -> None:
        with np.errstate(all="ignore"):
            value = np.asarray(self.of(*inputs), dtype=float)
        outputs[0][0] = np.broadcast_to(value, np.shape(inputs[0])).copy()

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        if self.slopes is None:
            why = f"{self.name} has no derivative"
            return [grad_undefined(self, j, x, why) for j, x in enumerate(inputs)]
        slopes = self.slopes(inputs, outputs[0])
        return [cotangents[0] * slope for slope in slopes]  # a slope may be the number 0


def numeric_function(
    name: str, of: Callable[..., Any], slopes: Callable[..., Any] | None
) -> Callable[..., Any]:
    """The operation as a function of tensors, which are brought to one shape."""
    op = NumericFunction(name, of, slopes)

    def apply(*values: Any) -> Any:
        tensors = [pt.as_tensor(x, dtype="float64") for x in values]
        if len(tensors) > 1:
            tensors = list(pt.broadcast_arrays(*tensors))
        return op(*tensors)

    return apply

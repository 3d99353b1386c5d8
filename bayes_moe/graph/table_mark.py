"""A data variable of graphs whose columns depend on the table: draws of a fit are refused there."""

from __future__ import annotations

from typing import Any

import numpy as np
from pytensor.tensor.sharedvar import TensorSharedVariable
from pytensor.tensor.type import TensorType

from bayes_moe.core import names
from bayes_moe.core.errors import SpecError

REFUSAL = (
    "The columns of this graph depend on its table (knots, scales, categories), and the draws are "
    "of a fit: build the graph from the fit, bm.build(fit, rows)."
)


class TableMarkType(TensorType):
    """A number that PyMC compares with the text of the same name that fits have."""

    def filter(self, data: Any, strict: bool = False, allow_downcast: bool | None = None) -> Any:
        """Return the number; :class:`SpecError` for the text, which says that a fit is there."""
        if np.asarray(data).dtype.kind not in "biuf":
            raise SpecError(REFUSAL)
        return super().filter(data, strict=strict, allow_downcast=allow_downcast)


def table_mark() -> TensorSharedVariable:
    """Return a shared zero to be registered as a data variable of a model."""
    return TensorSharedVariable(
        type=TableMarkType("float64", ()), value=np.array(0.0), strict=False, name=names.TABLE_MARK
    )

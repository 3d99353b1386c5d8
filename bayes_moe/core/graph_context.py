"""How data enter a PyMC graph: as constants, as replaceable shared variables, or as a minibatch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class GraphContext:
    """How numbers and data of the current PyMC model are stored.

    Attributes
    ----------
    replaceable : bool
        Whether numbers that depend on the data are shared variables, so that a compiled function
        serves many data sets. Otherwise they are constants: PyMC takes shared variables for data
        that the user may have changed.
    batch : tensor variable or None
        Positions of the rows of the present minibatch, a random variable; None for all rows.
    """

    replaceable: bool = False
    batch: Any = None

    def number(self, name: str, value: Any) -> Any:
        """Return numbers that depend on the data: an array, or a shared variable of that name."""
        array = np.asarray(value, dtype=float)
        if not self.replaceable:
            return array
        import pytensor

        return pytensor.shared(array, name=name, shape=array.shape)

    def data(self, name: str, values: Any, dims: Any = None) -> Any:
        """Return ``pm.Data(name, values, dims=dims)``, or its rows in the present minibatch.

        The first axis of ``values`` is over the rows of the table.
        """
        import pymc as pm

        data = pm.Data(name, values, dims=dims)
        return data if self.batch is None else data[self.batch]


CONSTANTS = GraphContext()
"""Numbers are constants, and data are those of all rows."""

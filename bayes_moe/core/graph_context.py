"""How data enter a PyMC graph: as constants, as replaceable shared variables, or as a minibatch."""

from __future__ import annotations

from typing import Any

import numpy as np

REPLACEABLE = "bayes_moe_replaceable"
"""Attribute of a PyMC model whose numbers can be replaced after compiling."""


def held(name: str, value: Any) -> Any:
    """Numbers of the current PyMC model that depend on the data.

    Compiled functions hold constants, and serve one data set. In a model that is to be compiled
    once for many the numbers are shared variables, which can be replaced; elsewhere they are
    constants, since PyMC takes shared variables for data that the user may have changed.
    """
    import pymc as pm
    import pytensor

    number = np.asarray(value, dtype=float)
    if not getattr(pm.modelcontext(None), REPLACEABLE, False):
        return number
    return pytensor.shared(number, name=name, shape=number.shape)


BATCH = "bayes_moe_batch"
"""Attribute of a PyMC model that sees some rows at a time: their positions, a random variable."""


def row_data(name: str, values: Any, dims: Any = None) -> Any:
    """Data of the current PyMC model whose first axis are the rows of the table.

    It is ``pm.Data(name, values, dims=dims)``, which holds all the rows; in a model of minibatches
    the rows of the present batch are returned, the same for all data.
    """
    import pymc as pm

    data = pm.Data(name, values, dims=dims)
    batch = getattr(pm.modelcontext(None), BATCH, None)
    return data if batch is None else data[batch]

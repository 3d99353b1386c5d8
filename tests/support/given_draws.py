"""Fits whose draws are given numbers, so that predictions have closed forms."""

import numpy as np
import xarray as xr

from bayes_moe.core import names
from bayes_moe.results.fit import Fit


def fit_with(spec, data, **draws):
    """A fit of a description to a table; ``draws`` are (draw, ...) by name."""
    design = spec.design(data)
    dims = spec.structure.dims
    count = len(next(iter(draws.values())))
    variables = {
        name: ((names.CHAIN, names.DRAW, *dims[name]), np.asarray(values, dtype=float)[None])
        for name, values in draws.items()
    }
    coords = {names.CHAIN: [0], names.DRAW: np.arange(count)}
    tree = xr.DataTree.from_dict({names.POSTERIOR: xr.Dataset(variables, coords=coords)})
    tree.attrs[names.KIND] = names.KIND_DRAWS
    return Fit(spec, design, tree)

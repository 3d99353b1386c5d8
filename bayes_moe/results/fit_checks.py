"""Checks of the draws and figures of a fit against its description and design."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bayes_moe.core import names
from bayes_moe.core.checks import is_number
from bayes_moe.data.design import Design
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.results.fit import kind_of

if TYPE_CHECKING:
    import xarray as xr

SAMPLE = (names.CHAIN, names.DRAW)
KINDS = (names.KIND_DRAWS, names.KIND_MODE, names.KIND_APPROXIMATION)
NUMERIC = (
    names.SAMPLE_STATS,
    names.LOG_LIKELIHOOD,
    names.RELABELLING,
    names.MODES,
    names.STANDARD_ERROR,
)
"""Groups of a fit, beside the posterior, whose variables are numbers."""


def check_tree(tree: xr.DataTree, spec: MixtureOfExperts, design: Design) -> None:
    """Raise :class:`ValueError` unless a tree has the draws and figures that a fit needs.

    Reported variables must be there, as numbers, with the dimensions of the description and their
    lengths in the design.
    """
    if names.POSTERIOR not in tree.children:
        raise ValueError(f"there is no group {names.POSTERIOR!r}")
    if kind_of(tree) not in KINDS:
        raise ValueError(f"{kind_of(tree)!r} is no kind of a fit")
    if kind_of(tree) == names.KIND_MODE and names.FIT not in tree.children:
        raise ValueError(f"there is no group {names.FIT!r}")
    posterior = tree[names.POSTERIOR].to_dataset()
    lengths = {dim: len(labels) for dim, labels in spec.structure.coords(design).items()}
    for name in spec.variables:
        if name not in posterior:
            raise ValueError(f"the variable {name!r} of the group 'posterior' is not there")
        _check_variable(posterior[name], spec.structure.reported_dims[name], lengths)
    for group in NUMERIC:
        if group in tree.children:
            for label, variable in tree[group].data_vars.items():
                if variable.dtype.kind not in "biuf":
                    raise ValueError(
                        f"the variable {label!r} of the group {group!r} has no numbers"
                    )
    if names.MODES in tree.children:
        _check_chance(tree[names.MODES].attrs)


def _check_chance(attrs: Mapping[Any, Any]) -> None:
    """Raise :class:`ValueError` for figures of the starts that cannot be."""
    chance = attrs.get(names.NEW_MODE_CHANCE, 0.0)  # earlier versions have none
    if not is_number(chance) or not 0 <= chance <= 1:
        raise ValueError(f"{names.NEW_MODE_CHANCE!r} of the group 'modes' is {chance!r}")
    finished = attrs.get(names.FINISHED, 1)
    if not is_number(finished) or not finished >= 1:
        raise ValueError(f"{names.FINISHED!r} of the group 'modes' is {finished!r}")


def _check_variable(variable: xr.DataArray, dims: tuple[str, ...], lengths: dict[str, int]) -> None:
    """Raise :class:`ValueError` for draws of another type, dimension or length."""
    what = f"the variable {variable.name!r} of the group 'posterior'"
    if variable.dtype.kind not in "iuf":
        raise ValueError(f"{what} has no numbers but {variable.dtype}")
    if {*variable.dims} != {*SAMPLE, *dims}:
        raise ValueError(f"{what} has the dimensions {variable.dims}; it needs {(*SAMPLE, *dims)}")
    if not variable.size:
        raise ValueError(f"{what} has no draws")
    for dim in dims:
        if dim in lengths and variable.sizes[dim] != lengths[dim]:
            raise ValueError(
                f"{what} has {variable.sizes[dim]} values along {dim!r}; the model has "
                f"{lengths[dim]}"
            )

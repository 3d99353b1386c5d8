"""Chains of several fits of one model to the same data, in one tree."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import PACKAGE_FILES, SpecError
from bayes_moe.data.design import Design
from bayes_moe.em.modes import SAME_ROWS, SAME_VALUE
from bayes_moe.model import expert_order
from bayes_moe.model.allocation import observed_log_density
from bayes_moe.model.evaluation import evaluate
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.results import relabelling
from bayes_moe.results.draws import pointwise, stacked_draws
from bayes_moe.results.fit import Fit, posterior_of
from bayes_moe.results.label_reference import first_difference
from bayes_moe.results.reported_shape import internal_arrays

if TYPE_CHECKING:
    import xarray as xr


def checked(fits: Iterable[Fit]) -> list[Fit]:
    """The fits as a list.

    Raises
    ------
    SpecError
        If they cannot be combined.
    """
    listed: list[Fit] = [fits] if isinstance(fits, Fit) else list(fits)
    for k, fit in enumerate(listed):
        if not isinstance(fit, Fit):
            raise SpecError(f"`fits` must be fits; number {k} is {type(fit).__name__}.")
        posterior_of(fit.idata)
        if fit.kind != names.KIND_DRAWS:
            raise SpecError(
                f"Fit {k} is by {fit.idata.attrs.get(names.METHOD)!r} and has no chains of a "
                "sampler: chains of method='nuts' can be combined. For more starts of an optimiser "
                "raise restarts; to compare modes see bm.modes and bm.information."
            )
    if len(listed) < 2:
        raise SpecError(f"Give at least two fits to combine; there is {len(listed)}.")
    for k, fit in enumerate(listed[1:], start=1):
        _check_pair(listed[0], fit, k)
    _check_distinct(listed)
    return listed


def _check_pair(first: Fit, fit: Fit, k: int) -> None:
    """Raise :class:`SpecError` unless fit ``k`` continues the first."""
    difference = first_difference(first.spec, fit.spec)
    if not difference and first.spec != fit.spec:
        difference = (
            f"priors {dict(first.spec.priors)} and {dict(fit.spec.priors)}, center "
            f"{first.spec.center} and {fit.spec.center}, shared {first.spec.shared} and "
            f"{fit.spec.shared}, fixed {dict(first.spec.fixed)} and {dict(fit.spec.fixed)}"
        )
    if difference:
        raise SpecError(f"Fits 0 and {k} are of different models: {difference}.")
    _check_data(first.design, fit.design, k)
    own, its = (str(f.idata.attrs.get(names.METHOD)) for f in (first, fit))
    if own != its:
        raise SpecError(f"Fit 0 is by {own!r} and fit {k} by {its!r}: combine fits by one method.")
    draws, other = (f.idata[names.POSTERIOR].sizes[names.DRAW] for f in (first, fit))
    if draws != other:
        raise SpecError(
            f"Fit 0 has {draws} draws a chain and fit {k} has {other}: run them with the same "
            f"draws, or keep as many of each, bm.Fit(fit.spec, fit.design, "
            f"fit.idata.isel(draw=slice({min(draws, other)})))."
        )


def _check_data(design: Design, other: Design, k: int) -> None:
    if design.rows.size != other.rows.size:
        raise SpecError(
            f"Fit 0 has {design.rows.size} rows and fit {k} has {other.rows.size}: chains of "
            "different data cannot be combined."
        )
    for column in design.columns:
        own, its = design.columns[column], other.columns[column]
        if not own.equals(its.astype(own.dtype) if own.dtype != its.dtype else its):
            row = int(np.argmax(own.to_numpy() != its.to_numpy()))
            raise SpecError(
                f"Column {str(column)!r} of fits 0 and {k} differs, first in row {row} "
                f"({own.iloc[row]!r} and {its.iloc[row]!r}): chains of different data cannot be "
                "combined."
            )


def _check_distinct(fits: list[Fit]) -> None:
    """Raise :class:`SpecError` if two fits hold the same chain."""
    chains = [_label_free(fit) for fit in fits]
    for a, b in combinations(range(len(fits)), 2):
        for i, own in enumerate(chains[a]):
            for j, its in enumerate(chains[b]):
                if np.array_equal(own, its):
                    seeds = [fits[k].idata.attrs.get(names.RANDOM_SEED) for k in (a, b)]
                    raise SpecError(
                        f"Fits {a} and {b} hold the same draws twice: chain {i} of the one is "
                        f"chain {j} of the other (random_seed {seeds[0]} and {seeds[1]}). Run each "
                        "fit with another random_seed."
                    )


def _label_free(fit: Fit) -> np.ndarray:
    """Draws (chain, draw, quantity) of the reported variables, sorted, so that labels drop out."""
    posterior = fit.idata[names.POSTERIOR].to_dataset()
    draws = stacked_draws(fit.spec, posterior)
    values = np.concatenate(
        [np.sort(v.reshape(len(v), -1), axis=1) for v in draws.values()], axis=1
    )
    sizes = (posterior.sizes[names.CHAIN], posterior.sizes[names.DRAW])
    return values.reshape(*sizes, -1)


def combined(fits: list[Fit]) -> xr.DataTree:
    """Tree of the chains of fits that :func:`checked` accepts, before labels are aligned."""
    import xarray as xr

    first = fits[0]
    spec, design = first.spec, first.design
    trees = [relabelling.undo(fit.idata, spec) for fit in fits]
    groups = [_of_posterior(tree) for tree in trees]
    _complete_log_likelihood(groups, spec, design)
    modes, indices = _merged_modes([g.pop(names.MODES, None) for g in groups], spec, design)
    left_out = {f"group {n!r}" for g in groups for n in g if not all(n in h for h in groups)}
    joined: dict[str, xr.Dataset] = {}
    for name, dataset in groups[0].items():
        if all(name in g for g in groups):
            own = [g[name] for g in groups]
            if name == names.SAMPLE_STATS:
                own = [_renumbered(d, i) for d, i in zip(own, indices, strict=True)]
            in_all = {*dataset.data_vars}.intersection(*(d.data_vars for d in own))
            for data in own:
                left_out |= {f"{name}[{v!r}]" for v in data.data_vars if v not in in_all}
            kept = [d[[v for v in dataset.data_vars if v in in_all]] for d in own]
            of_chains = names.CHAIN in dataset.dims and name not in names.GROUPS_OF_PRIOR
            joined[name] = _joined(kept) if of_chains else kept[0]
    if modes is not None:
        joined[names.MODES] = modes
    if left_out:
        warnings.warn(
            f"Left out, since not all fits have it: {', '.join(sorted(left_out))}.",
            UserWarning,
            skip_file_prefixes=PACKAGE_FILES,
        )
    result = xr.DataTree.from_dict(joined)
    result.attrs |= _attributes(trees)
    return result


def _of_posterior(tree: xr.DataTree) -> dict[str, xr.Dataset]:
    """Groups of a tree; the posterior's chains and draws only, except in groups of the prior."""
    posterior = tree[names.POSTERIOR].to_dataset()
    groups = {}
    for name in tree.children:
        data = tree[name].to_dataset()
        dims = () if name in names.GROUPS_OF_PRIOR else (names.CHAIN, names.DRAW)
        for dim in {*dims} & {*data.dims}:
            wanted = posterior[dim].values
            if dim in data.indexes and np.isin(wanted, data[dim].values).all():
                data = data.sel({dim: wanted})
            elif dim in data.indexes or data.sizes[dim] != wanted.size:
                raise SpecError(
                    f"Group {name!r} of `fit.idata` has {data.sizes[dim]} {dim}s and the posterior "
                    f"{wanted.size}, not all of them among these. Select draws in all groups at "
                    "once, for example by fit.idata.isel(draw=slice(None, None, 10))."
                )
        groups[name] = data
    return groups


def _attributes(trees: list[xr.DataTree]) -> dict[str, Any]:
    """Attributes of the first tree, with what the fits did in ``combined``."""
    jobs: list[dict[str, Any]] = []
    for tree in trees:
        settings = tree.attrs.get(names.SETTINGS)
        own = {
            names.RANDOM_SEED: int(tree.attrs.get(names.RANDOM_SEED, -1)),
            names.SETTINGS: None if settings is None else json.loads(settings),
            "chains": tree[names.POSTERIOR].sizes[names.CHAIN],
        }
        jobs += json.loads(tree.attrs[names.COMBINED]) if names.COMBINED in tree.attrs else [own]
    attributes = {str(name): value for name, value in trees[0].attrs.items()}
    attributes |= {
        names.COMBINED: json.dumps(jobs),
        names.KIND: names.KIND_DRAWS,
        names.COMPLETE: int(all(tree.attrs.get(names.COMPLETE, 1) for tree in trees)),
    }
    attributes.setdefault(names.RELABEL, "responsibilities")
    if all(names.CHAINS_ASKED in tree.attrs for tree in trees):
        attributes[names.CHAINS_ASKED] = sum(int(t.attrs[names.CHAINS_ASKED]) for t in trees)
    return attributes


def _joined(datasets: list[xr.Dataset]) -> xr.Dataset:
    """One dataset with the chains of several, numbered anew."""
    import xarray as xr

    first = datasets[0]
    if names.DRAW in first.dims and not all(
        np.array_equal(d[names.DRAW], first[names.DRAW]) for d in datasets
    ):
        draws = np.arange(first.sizes[names.DRAW])
        datasets = [d.assign_coords({names.DRAW: draws}) for d in datasets]
    joined = xr.concat(
        datasets,
        dim=names.CHAIN,
        data_vars="minimal",
        coords="minimal",
        compat="override",
        join="exact",
        combine_attrs="override",
    )
    return joined.assign_coords({names.CHAIN: np.arange(joined.sizes[names.CHAIN])})


def _complete_log_likelihood(
    groups: list[dict[str, xr.Dataset]], spec: MixtureOfExperts, design: Design
) -> None:
    """Add the pointwise log likelihood where only other fits have stored it."""
    if any(names.LOG_LIKELIHOOD in g for g in groups):
        for g in groups:
            if names.LOG_LIKELIHOOD not in g:
                values = pointwise(spec, g[names.POSTERIOR], design)
                g[names.LOG_LIKELIHOOD] = values.to_dataset(name=names.RESPONSE)


def _merged_modes(
    tables: list[xr.Dataset | None], spec: MixtureOfExperts, design: Design
) -> tuple[xr.Dataset | None, list[np.ndarray]]:
    """Distinct modes of all tables, the highest first, and the new index of each by table."""
    import xarray as xr

    present = [t for t in tables if t is not None]
    if len(present) < len(tables):
        return None, [np.array([], dtype=int)] * len(tables)
    sizes = [t.sizes[names.MODE] for t in present]
    # The same labels along the features' terms: the formulas and the data are the same.
    table = xr.concat(
        present, dim=names.MODE, data_vars="minimal", coords="minimal", compat="override"
    )
    value = table[names.OBJECTIVE].values
    density = _mode_densities(table, spec, design)
    kept: list[int] = []
    index = np.empty(len(value), dtype=int)
    for j in np.argsort(-value, kind="stable"):
        for m, k in enumerate(kept):
            close = value[k] - value[j] <= SAME_VALUE + 1e-9 * abs(value[k])
            if close and np.abs(density[k] - density[j]).max() <= SAME_ROWS:
                index[j] = m
                break
        else:
            index[j] = len(kept)
            kept.append(int(j))
    merged = table.isel({names.MODE: kept}).assign_coords({names.MODE: np.arange(len(kept))})
    sums = {names.HITS: 1.0, names.MASS: 1.0 / len(tables)}
    for name in {*sums} & {*table.data_vars}:
        total = np.bincount(index, table[name].values, minlength=len(kept)) * sums[name]
        merged[name] = (names.MODE, total.astype(table[name].dtype))
    of_starts = (names.FINISHED, names.NEW_MODE_CHANCE)  # of one search, not of several
    merged.attrs = {n: v for n, v in present[0].attrs.items() if n not in of_starts}
    merged.attrs[names.BEST] = int(np.argmin(merged[names.SINGULAR].values))
    return merged, np.split(index, np.cumsum(sizes)[:-1])


def _mode_densities(table: xr.Dataset, spec: MixtureOfExperts, design: Design) -> np.ndarray:
    """Log density (mode, obs) of evenly spaced rows, which does not depend on labels."""
    rows = expert_order.evenly_spaced_rows(design.rows)
    values = internal_arrays(spec, table, (names.MODE,))
    with np.errstate(all="ignore"):
        density = observed_log_density(evaluate(spec, values, rows), rows)
    return np.nan_to_num(density, neginf=-1e300, posinf=1e300)


def _renumbered(stats: xr.Dataset, index: np.ndarray) -> xr.Dataset:
    """Statistics with the modes' new numbers; without them if modes were left out."""
    at_modes = [n for n in (names.START_MODE, names.END_MODE) if n in stats]
    if not index.size:
        return stats.drop_vars(at_modes)
    found = {n: stats[n].copy(data=_looked_up(index, stats[n].values)) for n in at_modes}
    return stats.assign(found)


def _looked_up(index: np.ndarray, modes: np.ndarray) -> np.ndarray:
    """New numbers of modes; -1, for none of the table, stays."""
    return np.where(modes < 0, modes, index[np.maximum(modes, 0).astype(int)])

"""Comparison of fits by cross-validation or information criteria, on the scale of one column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_one_of
from bayes_moe.core.errors import SpecError, listed
from bayes_moe.data.observation import Observation
from bayes_moe.data.response_derivative import log_slope, response_columns
from bayes_moe.data.row_counts import REAL
from bayes_moe.diagnostics.information import information
from bayes_moe.model.allocation import allocation_of
from bayes_moe.results.by_group import by_group
from bayes_moe.results.draws import pointwise
from bayes_moe.results.fit import Fit, is_ensemble, posterior_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

METHODS = ("stacking", "BB-pseudo-BMA", "pseudo-BMA")
CRITERIA = ("aic", "bic", "icl")
RESPONSE_SHOWN = "response"
LOG_JACOBIAN = "log_jacobian"
NOTE = "note"


def compare(
    fits: Mapping[str, Fit], *, method: str = "stacking", reference: str | None = None
) -> pd.DataFrame:
    r"""Return a table that compares fits, the best first, on the scale of one response column.

    Draws are compared by leave-one-out cross-validation (:func:`arviz.loo` with ``reff=1.0``, then
    :func:`arviz.compare`), modes by information criteria. Densities of ``log(y)`` and of ``y``
    are in different units: with ``g`` the response expression of a model, its log density of a
    row's ``y`` is that of ``g(y)`` plus ``log |g'(y)|``, which is added to every row, unless all
    fits have the same expression.

    Parameters
    ----------
    fits : mapping of str to Fit
        At least two fits to the same rows by name: all of draws, or all of modes.
    method : {"stacking", "BB-pseudo-BMA", "pseudo-BMA"}
        How :func:`arviz.compare` computes the models' weights; of draws only.
    reference : str, optional
        Fit that differences are taken from; by default the best one. Of draws only.

    Returns
    -------
    pandas.DataFrame
        By fit. Of draws, the columns of :func:`arviz.compare`: ``elpd``, ``se``, ``elpd_diff``,
        ``dse``, ``weight``, ... Of modes: ``log_likelihood``, ``n_parameters``, ``aic``, ``bic``,
        ``icl``, ``bic_diff``, sorted by ``bic``. Of both: ``response``, the response
        expression, and ``log_jacobian``, the sum of ``log |g'(y)|`` that the figures contain.
        ``.attrs["note"]`` says in words what was added.

    Raises
    ------
    SpecError
        For fits that cannot be compared: of different rows or response columns, of discrete and
        continuous families, of different numbers of trials, of draws and modes, or with an
        expression that has no derivative or is not one-to-one on the rows.

    References
    ----------
    Vehtari, A., Gelman, A., & Gabry, J. (2017). Practical Bayesian model evaluation using
    leave-one-out cross-validation and WAIC. Statistics and Computing, 27(5), 1413-1432.
    """
    _check_fits(fits)
    check_one_of("method of weights", method, METHODS)
    if reference is not None:
        check_one_of("fit", reference, fits)
    _check_same_data(fits)
    scale, jacobians = _log_jacobians(fits)
    if next(iter(fits.values())).is_point:
        table = _criteria(fits, jacobians)
    else:
        table = _cross_validated(fits, jacobians, method, reference)
    table[RESPONSE_SHOWN] = [fits[name].spec.response for name in table.index]
    table[LOG_JACOBIAN] = [float(jacobians[name].sum()) for name in table.index]
    table.attrs[NOTE] = _note(fits, scale, jacobians)
    return table


def _check_fits(fits: Any) -> None:
    """Raise :class:`SpecError` unless there are two fits by name, both of draws or of modes."""
    if not isinstance(fits, Mapping) or len(fits) < 2:
        raise SpecError(
            "`fits` must be a dict of at least two fits by name, such as "
            "{'one': fit1, 'two': fit2}."
        )
    for name, fit in fits.items():
        if not isinstance(name, str) or not isinstance(fit, Fit):
            raise SpecError(
                f"`fits` must map names to fits; {name!r} is mapped to a {type(fit).__name__}."
            )
    ensembles = [name for name, fit in fits.items() if is_ensemble(fit.idata)]
    if ensembles:
        raise SpecError(
            f"{ensembles[0]!r} is an ensemble, whose members are no posterior draws: there is no "
            "leave-one-out estimate for it. Compare log densities of new rows, "
            "bm.predict(fit, rows).logpdf(y)."
        )
    points = [name for name, fit in fits.items() if fit.is_point]
    chains = [name for name, fit in fits.items() if fit.spec.structure.gate.chain is not None]
    if chains and not points:
        raise SpecError(
            f"{chains[0]!r} has a Markov gate: the log density of a row is given the rows before, "
            "so leaving out a row changes those of the rows after it, and there is no "
            "leave-one-out estimate. Compare forecasts of the last rows, by bm.backtest(), "
            "or modes (method='em') by information criteria."
        )
    if 0 < len(points) < len(fits):
        others = [name for name in fits if name not in points]
        raise SpecError(
            f"{points[0]!r} is a single mode and {others[0]!r} has draws: modes are compared by "
            "information criteria, draws by cross-validation. Fit all by one kind of method "
            "(method='laplace' or 'nuts' gives draws, 'em' or 'map' a mode)."
        )


def _check_same_data(fits: Mapping[str, Fit]) -> None:
    """Raise :class:`SpecError` unless fits have the same rows, response columns and trials."""
    (first, one), *others = fits.items()
    ones = np.ones(one.design.rows.size)
    for name, fit in others:
        both = f"{first!r} and {name!r}"
        if one.design.rows.size != fit.design.rows.size:
            raise SpecError(_other_rows(first, one, name, fit))
        if one.spec.structure.discrete != fit.spec.structure.discrete:
            raise SpecError(
                f"{both} cannot be compared: one has a discrete family, whose probabilities are "
                "not on the scale of the other's densities."
            )
        atoms, other_atoms = one.spec.structure.measure.atoms, fit.spec.structure.measure.atoms
        if atoms != other_atoms:
            raise SpecError(
                f"{both} cannot be compared: of one the response has probabilities at "
                f"{listed(atoms) or 'no number'}, of the other at {listed(other_atoms) or 'none'}; "
                "a probability is not on the scale of a density there."
            )
        columns, others_columns = response_columns(one.design), response_columns(fit.design)
        if columns != others_columns:
            raise SpecError(
                f"{both} have different responses: {one.spec.response!r} is made of "
                f"{', '.join(map(repr, columns))}, {fit.spec.response!r} of "
                f"{', '.join(map(repr, others_columns))}. Compare models of one column; if "
                "one column is a function of the other, write the function in the formula, as in "
                "'log(y) ~ x'."
            )
        for column in columns:
            left, right = (f.design.columns[column].to_numpy() for f in (one, fit))
            different = np.flatnonzero(left != right)
            if different.size:
                row = different[0]
                raise SpecError(
                    f"{both} were fitted to different rows: {column!r} differs in "
                    f"{different.size} of {len(left)} rows, first {left[row]!r} and "
                    f"{right[row]!r} at row {one.design.rows.obs_id[row]}."
                )
        _check_trials(both, one, fit)
        if not np.array_equal(one.design.rows.counted(ones), fit.design.rows.counted(ones)):
            raise SpecError(f"{both} give the rows other weights: fit both with the same.")
        _check_same_sharing(both, one.design.rows.observation, fit.design.rows.observation)


def _check_same_sharing(both: str, one: Observation, other: Observation) -> None:
    """Raise :class:`SpecError` unless two fits leave out the same, and know the same experts."""
    for name in ("group", "expert"):
        left, right = getattr(one, name), getattr(other, name)
        if (left is None) != (right is None) or not np.array_equal(left, right):
            raise SpecError(
                f"{both} were told different things of the rows by `{name}=`, so that their log "
                "densities are not of the same: fit both with the same column."
            )


def _check_trials(both: str, one: Fit, other: Fit) -> None:
    """Raise :class:`SpecError` where experts of two fits count the rows' trials differently."""
    counts: dict[str, list[np.ndarray]] = {}
    for fit in (one, other):
        for block in fit.spec.structure.blocks:
            known = block.known(fit.design.rows.matrices)
            for name, values in ((k, v) for k, v in known.items() if k not in REAL):
                every = counts.setdefault(name, [])
                every.append(np.broadcast_to(values, (fit.design.rows.size,)))
    for name, arrays in counts.items():
        if any(not np.array_equal(arrays[0], array) for array in arrays[1:]):
            raise SpecError(
                f"{both} have different numbers of {name} for the same rows: their "
                "probabilities are of different events."
            )


def _other_rows(first: str, one: Fit, name: str, other: Fit) -> str:
    """Message about fits of different numbers of rows."""
    gone = [(n, f.design.n_dropped + f.design.n_lost) for n, f in ((first, one), (name, other))]
    lost = [f"{n!r} dropped {count}" for n, count in gone]
    dropped = any(count for _, count in gone)
    return (
        f"{first!r} has {one.design.rows.size} rows and {name!r} {other.design.rows.size}: fit "
        "both to the same rows"
        + (
            f" ({', '.join(lost)}: remove these rows from the table of all fits)."
            if dropped
            else "."
        )
    )


def _log_jacobians(fits: Mapping[str, Fit]) -> tuple[str, dict[str, np.ndarray]]:
    """Response whose density all figures are of, and what is added to each row (obs,) by fit."""
    responses = {fit.spec.response.replace(" ", "") for fit in fits.values()}
    (_, one), *others = fits.items()
    same = all(np.array_equal(one.design.response, fit.design.response) for _, fit in others)
    if same and len(responses) == 1:
        return one.spec.response, {n: np.zeros(f.design.rows.size) for n, f in fits.items()}
    jacobians = {}
    for name, fit in fits.items():
        try:
            jacobians[name] = fit.design.rows.counted(log_slope(fit.design))
        except SpecError as error:
            raise SpecError(
                f"{name!r} cannot be compared with fits of another response. {error}"
            ) from error
    if one.spec.structure.discrete:  # probabilities of the same events, under any one-to-one name
        jacobians = {name: np.zeros_like(values) for name, values in jacobians.items()}
    return response_columns(one.design)[0], jacobians


def _cross_validated(
    fits: Mapping[str, Fit],
    jacobians: Mapping[str, np.ndarray],
    method: str,
    reference: str | None,
) -> pd.DataFrame:
    """ArviZ's table of fits with draws."""
    import arviz as az
    import xarray as xr

    results = {}
    for name, fit in fits.items():
        rows = fit.design.rows
        shared = allocation_of(rows.observation)
        by_unit = shared.at_first(shared.totals(jacobians[name]))
        values = xr.DataArray(by_unit, dims=names.OBS, coords={names.OBS: rows.obs_id})
        values = by_group(fit.spec, rows, values)
        # ArviZ's estimate of `reff` depends on the experts' labels.
        results[name] = az.loo(_log_likelihood(fit), reff=1.0, pointwise=True, log_jacobian=values)
    table: pd.DataFrame = az.compare(results, method=method, reference=reference, round_to="none")
    return table


def _log_likelihood(fit: Fit) -> xr.DataTree:
    """Tree with the pointwise log likelihood of a fit, computed if it is not stored."""
    import xarray as xr

    posterior = posterior_of(fit.idata)
    if names.LOG_LIKELIHOOD in fit.idata.children:
        values = fit.idata[names.LOG_LIKELIHOOD].to_dataset()[names.RESPONSE]
    else:
        values = pointwise(fit.spec, posterior, fit.design)
    groups = {
        names.POSTERIOR: posterior,
        names.LOG_LIKELIHOOD: xr.Dataset({names.RESPONSE: values}),
    }
    return xr.DataTree.from_dict(groups)


def _criteria(fits: Mapping[str, Fit], jacobians: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Table of information criteria of modes, the least BIC first."""
    import pandas as pd

    rows = {}
    for name, fit in fits.items():
        figures = information(fit)
        shift = float(jacobians[name].sum())
        kept = [i for i in figures.index if "parameters" in str(i)]
        row = {names.LOG_LIKELIHOOD: figures[names.LOG_LIKELIHOOD] + shift}
        row |= {str(i): figures[i] for i in kept}
        rows[name] = row | {criterion: figures[criterion] - 2 * shift for criterion in CRITERIA}
    table = pd.DataFrame.from_dict(rows, orient="index").sort_values("bic", kind="stable")
    table["bic_diff"] = table["bic"] - table["bic"].iloc[0]
    return table


def _note(fits: Mapping[str, Fit], scale: str, jacobians: Mapping[str, np.ndarray]) -> str:
    """What the figures are of, in words."""
    if next(iter(fits.values())).spec.structure.discrete:
        return f"All figures are of probabilities of {scale}."
    added = [
        f"{name!r} (of {fits[name].spec.response}) contains {values.sum():.1f}"
        for name, values in jacobians.items()
        if values.any()
    ]
    if not added:
        return f"All figures are of densities of {scale}."
    return (
        f"All figures are of densities of {scale}: the log likelihood of {', '.join(added)}, the "
        "sum over rows of the log derivative of its response."
    )

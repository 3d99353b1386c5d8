"""Reading a fit: the summary table, and a verdict in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.diagnostics.sampler import Figures, check
from bayes_moe.model.evaluation import chunks
from bayes_moe.results.draws import samples
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

LEAST_USAGE = 0.02


@dataclass(frozen=True, repr=False, eq=False)
class Diagnosis:
    """What :func:`diagnose` found; printing it prints the verdict and the tables.

    Attributes
    ----------
    ok : bool
        Whether nothing was found wrong.
    verdict : str
        In words: what was found, and what to do.
    problems : tuple of str
        Each problem with its remedy; empty if there is none.
    table : pandas.DataFrame
        The figures behind the verdict.
    usage : pandas.DataFrame
        By expert: the share of the rows' responsibility, posterior mean, sd and 5 %, 95 %
        quantiles; of one mode only the share itself.
    """

    ok: bool
    verdict: str
    problems: tuple[str, ...]
    table: pd.DataFrame
    usage: pd.DataFrame

    def __repr__(self) -> str:
        return (
            f"{self.verdict}\n\n{self.table.to_string()}\n\n"
            f"Share of responsibility by expert:\n{self.usage.to_string(float_format='%.3f')}"
        )


def diagnose(fit: Fit) -> Diagnosis:
    """Say whether a fit can be trusted, and what each expert does.

    Of draws by a sampler it checks divergences, R-hat and effective sample sizes of the reported
    (relabelled) variables, R-hat of quantities that labels cannot change, E-BFMI, tree depth, the
    certainty of labels and the experts' usage. Of a mode (``"em"``, ``"map"``, ``"laplace"``) it
    checks the gradient, whether a maximum exists, how many starts found it, and the Pareto k of
    draws about it. Of a fitted approximation (``"advi"``, ``"pathfinder"``) it checks whether the
    evidence lower bound has settled, the Pareto k, and the effective number of resampled draws.

    Parameters
    ----------
    fit : Fit
        A fit.

    Returns
    -------
    Diagnosis
        With ``ok``, ``verdict``, ``problems``, ``table`` and ``usage``.

    References
    ----------
    Vehtari, A., Gelman, A., Simpson, D., Carpenter, B., & Bürkner, P.-C. (2021).
    Rank-normalization, folding, and localization: an improved R-hat. Bayesian Analysis, 16(2).
    """
    figures = check(fit.idata, fit.spec, fit.design)
    shares = usage(fit)
    table = _usage_table(shares)
    problems = [*figures.problems, *_idle(table)]
    return Diagnosis(
        ok=not problems,
        verdict=_verdict(figures, table, problems, fit.design.n_dropped),
        problems=tuple(problems),
        table=_figure_table(figures, float(_hill_number(shares).mean())),
        usage=table,
    )


def usage(fit: Fit) -> xr.DataArray:
    """Return each expert's share of the fitted rows' responsibility (chain, draw, expert)."""
    import xarray as xr

    posterior = fit.idata[names.POSTERIOR].to_dataset()
    draws = samples(fit.spec, posterior)
    total = np.zeros((len(next(iter(draws.values()))), fit.spec.n_experts))
    for _, part, mixture in chunks(fit.spec, draws, fit.design.rows):
        total += mixture.responsibilities(part.observed).sum(axis=-1)
    coords = {
        names.CHAIN: posterior[names.CHAIN].values,
        names.DRAW: posterior[names.DRAW].values,
        names.EXPERT: np.asarray(fit.spec.expert_labels),
    }
    shape = tuple(len(v) for v in coords.values())
    return xr.DataArray(
        (total / fit.design.rows.size).reshape(shape), dims=tuple(coords), coords=coords
    )


def effective_experts(fit: Fit) -> xr.DataArray:
    """Return the effective number of experts (chain, draw).

    ``exp(- sum_k s_k log s_k)``, with ``s_k`` the experts' shares of the fitted rows'
    responsibility (:func:`usage`): 1 if one expert takes all rows, K if all take as many. It is the
    Hill number of order 1 of the shares.

    Parameters
    ----------
    fit : Fit
        A fit.

    References
    ----------
    Hill, M. O. (1973). Diversity and evenness: a unifying notation and its consequences. Ecology,
    54(2), 427-432.
    """
    return _hill_number(usage(fit))


def experts_in_use(fit: Fit, *, least_rows: float = 1.0) -> xr.DataArray:
    """Return how many experts are in use under each draw (chain, draw).

    An expert is in use if its expected number of rows, the sum of its responsibilities for the
    fitted rows, is at least ``least_rows``.

    Parameters
    ----------
    fit : Fit
        A fit.
    least_rows : float
        Expected number of rows from which an expert counts.

    Raises
    ------
    SpecError
        If ``least_rows`` is not a positive number.

    Examples
    --------
    The posterior of the number of experts in use, as a table:

    >>> used = bm.experts_in_use(fit)  # doctest: +SKIP
    >>> used.to_series().value_counts(normalize=True)  # doctest: +SKIP
    """
    number = isinstance(least_rows, int | float | np.number) and not isinstance(least_rows, bool)
    if not number or not np.isfinite(least_rows) or least_rows <= 0:
        raise SpecError(f"`least_rows` must be a positive number of rows; it is {least_rows!r}.")
    rows = usage(fit) * fit.design.rows.size
    return (rows >= least_rows).sum(names.EXPERT).rename("experts_in_use")


def summary(
    fit: Fit,
    var_names: str | Sequence[str] | None = None,
    *,
    ci_prob: float | None = None,
    ci_kind: str | None = None,
    round_to: Any = None,
) -> pd.DataFrame:
    """Return a table of the reported variables.

    Draws by a sampler are summarised as :func:`arviz.summary` does, with R-hat and effective
    sample sizes after relabelling; draws of an approximation (Laplace, ADVI, Pathfinder) without
    these. A mode has its estimates, standard errors and bounds: ``estimate -/+ z se``, for positive
    parameters on the log scale.

    Parameters
    ----------
    fit : Fit
        A fit.
    var_names : str or sequence of str, optional
        Some of the reported variables; by default all that are quantities, as the weights of
        networks and the trees of a forest are not.
    ci_prob : float, optional
        Probability inside the bounds; by default ArviZ's ``rcParams["stats.ci_prob"]``.
    ci_kind : str, optional
        As in :func:`arviz.summary`; a mode has no other bounds than those above.
    round_to : int or str, optional
        As in :func:`arviz.summary`; ``"none"`` gives raw numbers. Left out, numbers have four
        significant digits, R-hat three decimals, and effective sample sizes none.

    Returns
    -------
    pandas.DataFrame
        A row for every named coefficient, e.g. ``mu_coef[0, stretchratio]``.

    Raises
    ------
    SpecError
        For a variable that the fit does not have.
    """
    posterior = fit.idata[names.POSTERIOR].to_dataset()
    wanted = [var_names] if isinstance(var_names, str) else list(var_names or fit.spec.quantities)
    for name in wanted:
        if name not in posterior:
            raise SpecError(unknown("variable", name, fit.spec.variables))
    if fit.is_point:
        if ci_kind not in (None, "eti", "hdi"):
            raise SpecError(unknown("ci_kind", ci_kind, ("eti", "hdi")))
        return _rounded(_mode_summary(fit, wanted, ci_prob), round_to)
    import arviz_stats as azs

    table: pd.DataFrame = azs.summary(
        posterior,
        var_names=wanted,
        ci_prob=ci_prob,
        ci_kind=ci_kind,
        round_to="none" if round_to is None else round_to,
        kind="stats" if names.FIT in fit.idata.children else "all",
    )
    return _rounded(table) if round_to is None else table


def _mode_summary(fit: Fit, wanted: Sequence[str], ci_prob: float | None) -> pd.DataFrame:
    """Estimates with standard errors and bounds."""
    import pandas as pd
    from scipy.special import ndtri

    if ci_prob is None:
        from arviz_base import rcParams

        ci_prob = float(rcParams["stats.ci_prob"])
    if not 0 < ci_prob < 1:
        raise ValueError(f"`ci_prob` must lie strictly between 0 and 1; it is {ci_prob!r}.")
    z = float(ndtri((1 + ci_prob) / 2))
    posterior = fit.idata[names.POSTERIOR].to_dataset()
    errors = fit.idata[names.STANDARD_ERROR].to_dataset()
    positive = fit.spec.positive
    rows: dict[str, list[float]] = {}
    for name in wanted:
        estimate = posterior[name].isel({names.CHAIN: 0, names.DRAW: 0})
        if name not in errors:
            raise SpecError(
                f"{name!r} is internal and has no standard error; summarise "
                f"{', '.join(fit.spec.variables)}."
            )
        error = errors[name]
        for at in np.ndindex(estimate.shape):
            labels = [str(estimate[d].values[i]) for d, i in zip(estimate.dims, at, strict=True)]
            value, se = float(estimate.values[at]), float(error.values[at])
            width = np.exp(z * se / value) if name in positive else z * se
            bounds = (
                [value / width, value * width]
                if name in positive
                else [value - width, value + width]
            )
            rows[f"{name}[{', '.join(labels)}]"] = [value, se, *bounds]
    percent = f"{100 * ci_prob:g}"
    columns = ["estimate", "se", f"ci{percent}_lb", f"ci{percent}_ub"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def _rounded(table: pd.DataFrame, round_to: Any = None) -> pd.DataFrame:
    """Round numbers to four significant digits, R-hat to three decimals, sample sizes to none.

    ``round_to`` may be ``"none"``, a number of decimals, or of significant digits such as ``"2g"``.
    """
    if round_to == "none":
        return table
    if isinstance(round_to, int):
        return table.round(round_to)
    digits = "4g" if round_to in (None, "auto") else str(round_to)
    rounded = table.map(lambda v: float(f"{v:.{digits}}"))
    for column in table:
        if str(column).startswith("ess"):
            rounded[column] = table[column].round().fillna(0).astype(int)
        elif column == "r_hat":
            rounded[column] = table[column].round(3)
    return rounded


def _figure_table(figures: Figures, effective: float) -> pd.DataFrame:
    import pandas as pd

    found = dict(figures.table) | {"effective experts": f"{effective:.2f}"}
    return pd.DataFrame({"value": pd.Series(found, dtype=object)})


def _hill_number(shares: xr.DataArray) -> xr.DataArray:
    """Exponential of the entropy of shares (chain, draw, expert)."""
    from scipy.special import entr

    entropy = entr(shares.values).sum(axis=shares.get_axis_num(names.EXPERT))
    return shares.isel({names.EXPERT: 0}, drop=True).copy(data=np.exp(entropy))


def _usage_table(shares: xr.DataArray) -> pd.DataFrame:
    import pandas as pd

    flat = shares.values.reshape(-1, shares.shape[-1])
    index = pd.Index(shares[names.EXPERT].values, name=names.EXPERT)
    if len(flat) == 1:
        return pd.DataFrame({"mean": flat[0]}, index=index)
    low, high = np.quantile(flat, [0.05, 0.95], axis=0)
    return pd.DataFrame(
        {"mean": flat.mean(axis=0), "sd": flat.std(axis=0), "q05": low, "q95": high},
        index=index,
    )


def _idle(table: pd.DataFrame) -> list[str]:
    return [
        f"Expert {label} takes {share:.1%} of the rows on average: fewer experts may do."
        for label, share in table["mean"].items()
        if share < LEAST_USAGE
    ]


def _verdict(figures: Figures, table: pd.DataFrame, problems: list[str], n_dropped: int) -> str:
    shares = ", ".join(f"expert {k} {share:.0%}" for k, share in table["mean"].items())
    tail = f"Share of the rows: {shares}."
    if n_dropped:
        tail += f" {n_dropped} rows with missing values were left out."
    if problems:
        return "Not yet to be trusted:\n- " + "\n- ".join(problems) + f"\n{tail}"
    return f"{figures.trust} {tail}"

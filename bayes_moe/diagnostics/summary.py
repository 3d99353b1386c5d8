"""Summary table of the reported variables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, filterwarnings

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_one_of, check_share
from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.predictors.random_effects import RandomEffects
from bayes_moe.priors.coordinates import COORDINATES
from bayes_moe.results.fit import Fit, posterior_of

if TYPE_CHECKING:
    import pandas as pd


def summary(
    fit: Fit,
    var_names: str | Sequence[str] | None = None,
    *,
    ci_prob: float | None = None,
    ci_kind: str | None = None,
    round_to: Any = None,
) -> pd.DataFrame:
    """Return a table of the reported variables.

    Draws of a sampler are summarised as :func:`arviz.summary` does, with R-hat and effective
    sample sizes after relabelling; draws of an approximation (Laplace, ADVI, Pathfinder) without
    these. A mode has its estimates, standard errors and bounds: ``estimate -/+ z se``, for positive
    parameters on the log scale.

    Parameters
    ----------
    fit : Fit
        A fit.
    var_names : str or sequence of str, optional
        Reported variables; by default all that are identified, without the weights of networks,
        the trees of a forest, and the effects of groups.
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
        For a variable that the fit does not have, and if there is none to show by default.
    """
    posterior = posterior_of(fit.idata)
    selected = (
        [var_names] if isinstance(var_names, str) else list(var_names or _by_default(fit.spec))
    )
    if not selected:
        raise SpecError(
            "A table shows no variable of this fit: all are weights of networks, trees of a forest "
            "or effects of groups. Name those to show in `var_names`, or read bm.predict(fit)."
        )
    for name in selected:
        if name not in posterior:
            raise SpecError(unknown("variable", name, fit.spec.variables))
    if fit.is_point:
        if ci_kind is not None:
            check_one_of("ci_kind", ci_kind, ("eti", "hdi"))
        return _rounded(_mode_summary(fit, selected, ci_prob), round_to)
    import arviz_stats as azs

    with catch_warnings():
        if fit.spec.structure.constraints:  # what is held has no variance
            filterwarnings("ignore", "invalid value encountered", RuntimeWarning)
        table: pd.DataFrame = azs.summary(
            posterior,
            var_names=selected,
            ci_prob=ci_prob,
            ci_kind=ci_kind,
            round_to="none" if round_to is None else round_to,
            kind="all" if fit.kind == names.KIND_DRAWS else "stats",
        )
    return _rounded(table) if round_to is None else table


def _by_default(spec: MixtureOfExperts) -> list[str]:
    """Names of the variables in a table, if none are asked for."""
    sites = spec.structure.sites
    groups = (e for site, p in sites if isinstance(p, RandomEffects) for e in p.groups(site))
    effects = {e.effect for e in groups}
    return [name for name in spec.structure.quantities if name not in effects]


def _mode_summary(fit: Fit, selected: Sequence[str], ci_prob: float | None) -> pd.DataFrame:
    """Table of estimates, standard errors and bounds of a mode."""
    import pandas as pd
    from scipy.special import ndtri

    if ci_prob is None:
        from arviz_base import rcParams

        ci_prob = float(rcParams["stats.ci_prob"])
    check_share("ci_prob", ci_prob)
    z = float(ndtri((1 + ci_prob) / 2))
    posterior = posterior_of(fit.idata)
    errors = fit.idata[names.STANDARD_ERROR].to_dataset()
    supports = fit.spec.structure.supports
    index: list[str] = []
    parts: list[np.ndarray] = []
    for name in selected:
        estimate = posterior[name].isel({names.CHAIN: 0, names.DRAW: 0})
        labels = [map(str, estimate[d].values.tolist()) for d in estimate.dims]
        index += [f"{name}[{', '.join(of_entry)}]" for of_entry in product(*labels)]
        value, se = estimate.values.ravel(), errors[name].values.ravel()
        coordinate = COORDINATES[supports.get(name, "real")]
        at_mode = coordinate.of_value(value)
        steps = z * se / coordinate.slope(at_mode)
        bounds = [coordinate.value(at_mode + step) for step in (-steps, steps)]
        parts.append(np.stack([value, se, *bounds], axis=1))
    percent = f"{100 * ci_prob:g}"
    columns = ["estimate", "se", f"ci{percent}_lb", f"ci{percent}_ub"]
    return pd.DataFrame(np.concatenate(parts), index=index, columns=columns)


def _rounded(table: pd.DataFrame, round_to: Any = None) -> pd.DataFrame:
    """Table with four significant digits, R-hat with three decimals, sample sizes with none.

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

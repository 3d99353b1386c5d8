"""Information criteria of a mode, and the table of modes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import SpecError
from bayes_moe.model.allocation import unit_weight
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

COLUMNS = (
    names.OBJECTIVE,
    names.LOG_LIKELIHOOD,
    names.HITS,
    names.CONVERGED,
    names.SINGULAR,
    names.SEPARATED,
    names.EMPTY,
    names.GRADIENT_NORM,
    names.ITERATIONS,
)


def information(fit: Fit) -> pd.Series:
    r"""Return the log likelihood at a mode, and information criteria.

    With ``l`` the log likelihood, ``q`` effective parameters and ``n`` rows (the sum of their
    weights, if they have any): ``AIC = -2 l + 2 q``, ``BIC = -2 l + q log n``, and ``ICL = BIC - 2
    sum_i log max_k r_ik``, which adds a penalty for rows of uncertain allocation. Of rows that
    share an expert by group, ``n`` is the number of groups, and ``r`` are those of the groups. Less
    is better. Under a likelihood ``q`` is the number of free parameters. At a posterior mode a
    coefficient that a prior or a penalty holds (a spline's, a Gaussian process's, a shrunken one)
    counts in part: ``q`` is the trace of ``H (H + P)^-1``, with
    ``H`` the observed information of the likelihood and ``P`` that of the prior, in internal
    coordinates and for fixed learned scales. Random effects are integrated out by Laplace's method:
    ``l`` is their marginal log likelihood, and coefficients, standard deviations and correlations
    count, not the effects. ``l`` is then a little less than its maximum. Where
    second derivatives are not at hand (``"map"`` of large models and of gates that model features,
    Adam, approximations of models that are not linear, modes that are no maximum), or only the
    prior makes the mode a maximum in some direction (usual for networks), ``q`` and the criteria
    are NaN.

    The objective of ``"laplace"`` is the density of the unconstrained values (Jacobian included).
    Of ``"advi"`` and ``"pathfinder"`` the figures are those of the mode at their start, except
    ``converged`` and ``iterations``.

    Parameters
    ----------
    fit : Fit
        A fit by ``"em"``, ``"map"``, ``"laplace"``, ``"advi"`` or ``"pathfinder"``.

    Returns
    -------
    pandas.Series
        ``log_likelihood``, ``n_parameters`` (all that are free), ``effective_parameters`` (``q``),
        ``n_obs``, ``aic``, ``bic``, ``icl``, ``objective``, ``converged``, ``gradient_norm`` and
        ``iterations``.

    Raises
    ------
    SpecError
        For draws by a sampler; compare those by :func:`arviz.loo`.

    References
    ----------
    Biernacki, C., Celeux, G., & Govaert, G. (2000). Assessing a mixture model for clustering with
    the integrated completed likelihood. IEEE Transactions on Pattern Analysis and Machine
    Intelligence, 22(7), 719-725.

    Moody, J. E. (1992). The effective number of parameters: an analysis of generalization and
    regularization in nonlinear learning systems. Advances in Neural Information Processing Systems
    4, 847-854.
    """
    import pandas as pd

    figures = _group(fit, names.FIT, "information")
    log_likelihood = float(figures[names.LOG_LIKELIHOOD])
    count, q = int(figures[names.N_PARAMETERS]), float("nan")
    if names.EFFECTIVE in figures:
        q = float(figures[names.EFFECTIVE])
    elif figures.attrs[names.OBJECTIVE] == "likelihood":  # files of earlier versions
        q = float(count)
    n = unit_weight(fit.design.rows)
    bic = -2 * log_likelihood + q * math.log(n)
    return pd.Series(
        {
            names.LOG_LIKELIHOOD: log_likelihood,
            names.N_PARAMETERS: count,
            names.EFFECTIVE: q,
            "n_obs": int(n) if n.is_integer() else n,
            "aic": -2 * log_likelihood + 2 * q,
            "bic": bic,
            "icl": bic - 2 * float(figures[names.LOG_ALLOCATION]),
            names.OBJECTIVE: float(figures[names.OBJECTIVE]),
            names.CONVERGED: bool(figures[names.CONVERGED]),
            names.GRADIENT_NORM: float(figures[names.GRADIENT_NORM]),
            names.ITERATIONS: int(figures[names.ITERATIONS]),
        },
        dtype=object,
        name=str(figures.attrs[names.OBJECTIVE]),
    )


def modes(fit: Fit) -> pd.DataFrame:
    """Return the distinct modes that starts and moves reached, the highest first.

    Modes that differ only by the labels of the experts are one. Below the table is printed the
    chance that one more start ends in a mode that none has reached, by the estimate of Good and
    Turing: the share of the starts that are alone in a mode that is not singular. Starts that a
    race has stopped early are left out of it, and so are moves; it is the chance for a start that
    would not be stopped. It is known where there was more than one start.

    Parameters
    ----------
    fit : Fit
        A fit by ``"em"``, ``"map"``, ``"laplace"``, or ``"nuts"``, whose chains start at modes.

    Returns
    -------
    pandas.DataFrame
        By mode: ``objective``, ``log_likelihood``, ``hits`` (starts that ended there, 0 where
        only moves did),
        ``converged``, ``singular`` (an expert that fits its rows exactly), ``separated``
        (coefficients that diverge), ``empty`` (an expert without rows), ``gradient_norm``,
        ``iterations``, the experts' shares of the rows, and ``answer``: the best mode that is not
        singular. For NUTS and Laplace the objective is the density of the unconstrained values
        (Jacobian included); for NUTS ``mass`` is the share of posterior mass about a mode by
        Laplace's method. The parameters of every mode are in ``fit.idata["modes"]``. The chance is
        ``fit.idata["modes"].attrs["new_mode_chance"]``, and the number of starts that ran to the
        end ``.attrs["finished"]``; in the table both are in ``.attrs`` too.

    Raises
    ------
    SpecError
        For a fit without modes.

    References
    ----------
    Good, I. J. (1953). The population frequencies of species and the estimation of population
    parameters. Biometrika, 40(3-4), 237-264.
    """
    import pandas as pd

    from bayes_moe.diagnostics.mode_table import ModeTable

    figures = _group(fit, names.MODES, "modes")
    table = ModeTable({name: figures[name].values for name in COLUMNS})
    if names.MASS in figures:
        table[names.MASS] = figures[names.MASS].values
    for k, label in enumerate(fit.spec.expert_labels):
        table[f"share[{label}]"] = figures[names.SHARE].values[:, k]
    table["answer"] = np.arange(len(table)) == int(figures.attrs[names.BEST])
    table.index = pd.Index(figures[names.MODE].values, name=names.MODE)
    of_starts = (names.NEW_MODE_CHANCE, names.FINISHED)
    table.attrs = {name: figures.attrs[name] for name in of_starts if name in figures.attrs}
    return table


def _group(fit: Fit, group: str, what: str) -> xr.Dataset:
    """Group of a fit's tree, or an error that says which methods have it."""
    if group not in fit.idata.children:
        method = fit.idata.attrs.get(names.METHOD, names.KIND_DRAWS)
        raise SpecError(
            f"This fit by {method!r} has no {what}: fit with method='em' (or 'map', 'laplace'). "
            "Draws by a sampler are compared by az.loo."
        )
    return fit.idata[group].to_dataset()

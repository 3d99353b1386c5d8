"""Terms that move each part of a model most: log odds of experts, or what an expert predicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names as tree_names
from bayes_moe.core.checks import check_one_of, check_share, check_whole
from bayes_moe.results.draws import stacked_draws
from bayes_moe.results.fit import Fit, posterior_of
from bayes_moe.text.coefficient_sds import ModeSpread, diverging, mode_spread, stored_sds
from bayes_moe.text.heads import (
    Functions,
    Head,
    check_columns,
    functions_of,
    heads_of,
    text_components,
)

if TYPE_CHECKING:
    import pandas as pd

ORDERS = ("effect", "coefficient")


def top_terms(
    fit: Fit,
    n: int = 10,
    *,
    prob: float = 0.9,
    by: str = "effect",
    variables: str | Iterable[str] | None = None,
    names: Mapping[str, Sequence[str]] | None = None,
    components: Mapping[str, tuple[Any, Sequence[str]]] | None = None,
) -> pd.DataFrame:
    r"""Return the terms that move each linear predictor of a fit most, with intervals.

    Of each linear predictor ``eta = beta_0 + sum_j x_j beta_j`` (the gate's for each expert, and
    each expert's for each of its parameters and classes), the ``n`` terms with the largest effect
    ``|E[beta_j]| sd(x_j)``: the standard deviation over the fitted rows of what the term adds.

    Of draws, ``sd`` and bounds are those of the draws (equal tails). About a mode they are those of
    the normal approximation, ``sd = sqrt(c' H^-1 c)`` with the observed information ``H`` of all
    coefficients; of models with too many for a matrix, a system is solved for each of the terms
    shown (:mod:`bayes_moe.em.single_variances`), to a relative error of about 1e-5.

    Parameters
    ----------
    fit : Fit
        A fit with linear predictors; others of its predictors are left out.
    n : int
        Terms of each.
    prob : float
        Probability of the intervals.
    by : {"effect", "coefficient"}
        Whether terms are chosen by the effect or by ``|E[beta_j]|``: the latter are often
        rare words, which are in few rows.
    variables : str or sequence of str, optional
        Coefficients to show, such as ``"p_coef"`` or ``"gate_coef"``; by default all.
    names : mapping of str to sequence of str, optional
        By column, names of the columns of a matrix, for the terms ``words[0]``, ``words[1]``, ...:
        ``{"words": vectorizer.get_feature_names_out()}``.
    components : mapping of str to tuple, optional
        By column, a matrix (word, component) and the words: columns that are components
        ``z = x V`` of a table of words are mapped back, as ``z' beta = x' (V beta)``. Of
        scikit-learn's ``TruncatedSVD`` the matrix is ``svd.components_.T``. Components of text
        terms, ``text(review, components=100)``, are mapped back without being given here.

    Returns
    -------
    pandas.DataFrame
        ``variable``; ``expert``, and further dimensions of the variables such as ``class``;
        ``term``; ``mean``, ``sd``, ``lower`` and ``upper`` of the coefficient on the user's scale;
        and ``effect``, with the sign of the mean. Words of components have no effect of their own
        (NaN), and are chosen by their coefficients. ``sd`` and bounds are NaN where a mode has
        no normal approximation. Intercepts are no terms.

    Raises
    ------
    SpecError
        For names, components or variables that the fit does not have, and for a fit without
        linear predictors.

    Notes
    -----
    Bounds are of each coefficient by itself. Under the prior of the model they hold for terms that
    were chosen for a large mean, too; under a prior much wider than the coefficients are, the
    largest are too large.

    References
    ----------
    Tierney, L., & Kadane, J. B. (1986). Accurate approximations for posterior moments and marginal
    densities. Journal of the American Statistical Association, 81(393), 82-86.
    """
    import pandas as pd

    check_whole("n", n, 1)
    check_share("prob", prob)
    check_one_of("value of `by`", by, ORDERS)
    heads = heads_of(fit, variables)
    named = check_columns(heads, "names", names)
    mapped = text_components(fit, heads) | dict(check_columns(heads, "components", components))
    values = stacked_draws(fit.spec, posterior_of(fit.idata))
    spread = mode_spread(fit, values) if _is_mode(fit) else None
    functions: dict[str, Functions] = {}
    parts = []
    for head in heads:
        if head.variable not in functions:
            functions[head.variable] = functions_of(head.matrix, named, mapped)
        of_head = values[head.variable][:, head.output]
        parts.append(_table(fit, head, functions[head.variable], of_head, spread, (n, prob, by)))
    return pd.concat(parts, ignore_index=True)


def _is_mode(fit: Fit) -> bool:
    return bool(fit.kind == tree_names.KIND_MODE)


def _table(
    fit: Fit,
    head: Head,
    functions: Functions,
    values: np.ndarray,
    spread: ModeSpread | None,
    wanted: tuple[int, float, str],
) -> pd.DataFrame:
    """Lines of one linear predictor, whose coefficients are ``values`` (sample, term)."""
    import pandas as pd
    from scipy.stats import norm

    n, prob, by = wanted
    means = functions.weights @ values.mean(axis=0)
    chosen = _chosen(functions, means, n, by)
    weights = functions.weights[chosen]
    mean, tails = means[chosen], np.array([(1 - prob) / 2, (1 + prob) / 2])
    if _is_mode(fit):
        sd = _sds(fit, head, weights, spread)
        lower, upper = mean + sd * norm.ppf(tails)[:, None]
    else:
        draws = weights @ values.T
        sd, (lower, upper) = draws.std(axis=1), np.quantile(draws, tails, axis=1)
    columns: dict[str, Any] = {"variable": head.variable, **head.labels}
    columns |= {"term": functions.labels[chosen], "mean": mean, "sd": sd}
    columns |= {"lower": lower, "upper": upper, "effect": mean * functions.spread[chosen]}
    return pd.DataFrame(columns)


def _chosen(functions: Functions, means: np.ndarray, n: int, by: str) -> np.ndarray:
    """Positions of the functions to show: ``n`` of single terms and ``n`` of words."""
    of_words = np.isnan(functions.spread)
    size = np.abs(means)
    size = np.where(of_words, size, size * functions.spread) if by == "effect" else size
    order = np.argsort(-size, kind="stable")
    return np.concatenate([order[~of_words[order]][:n], order[of_words[order]][:n]])


def _sds(fit: Fit, head: Head, weights: Any, spread: ModeSpread | None) -> np.ndarray:
    """Standard errors (function,) at a mode."""
    if head.variable in diverging(fit):
        return np.full(weights.shape[0], np.nan)
    if spread is None:
        return stored_sds(fit, head.variable, head.output, weights)
    return spread.sds(head.variable, head.output, weights.toarray())

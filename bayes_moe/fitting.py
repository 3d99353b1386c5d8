"""fit: one pass down through the house, one record up; and the record's file."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from typing import Any

from bayes_moe.core import names, registry, seeds
from bayes_moe.core.errors import ConvergenceWarning, SpecError
from bayes_moe.data.design import Design
from bayes_moe.diagnostics.check import check
from bayes_moe.inference.base import Method
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.results import draws as results
from bayes_moe.results import relabelling
from bayes_moe.results.fit import Fit


def fit(
    spec: MixtureOfExperts,
    data: Any,
    method: str | Method = "nuts",
    *,
    random_seed: int | None = None,
    missing: str = "raise",
    relabel: str = "responsibilities",
    log_likelihood: bool | None = None,
    **settings: Any,
) -> Fit:
    """Fit a mixture of experts to data.

    Parameters
    ----------
    spec : MixtureOfExperts
        The model, for example from :func:`bayes_moe.mixture_of_experts`.
    data : table
        pandas, polars, another eager table that narwhals reads, or a dict of arrays.
    method : {"nuts", "em", "map", "laplace", "advi", "pathfinder"} or Method
        Inference method. ``"em"`` gives the mode of the posterior with standard errors, in
        milliseconds and without PyMC; ``"map"`` the same through the graph's gradient, for any
        model; ``"laplace"`` draws from the normal approximation at the mode; ``"advi"`` from the
        one of largest evidence lower bound, by batches of the rows if the table is long;
        ``"pathfinder"`` from several along quasi-Newton paths (extra ``jax``); ``"nuts"`` samples.
    random_seed : int, optional
        The same seed gives the same draws.
    missing : {"raise", "drop", "model"}
        What to do with rows that have missing values in a used column: refuse the table, leave
        them out, or, with ``method="em"`` and :class:`bayes_moe.gates.Gaussian`, keep them and
        integrate the missing features out. That is right if whether a value is missing does not
        depend on the value itself, given what is observed of the row.
    relabel : {"responsibilities", "parameters", "none"}
        How expert labels are aligned over a sampler's draws and chains; see
        :func:`bayes_moe.relabel`. Other methods stay about one mode, whose experts are ordered by
        their average location.
    log_likelihood : bool, optional
        Whether to store the pointwise log likelihood (for ``az.loo``). By default it is stored
        up to 2e7 values (160 MB), and not for a single mode.
    **settings
        Settings of the method: see :class:`bayes_moe.inference.nuts.NUTS` (``draws``, ``tune``,
        ``chains``, ``cores``, ``target_accept``, ``adaptation``, ``nuts_sampler``, ``backend``,
        ``likelihood``, ``progressbar``), :class:`bayes_moe.inference.em.EM` (``objective``,
        ``restarts``, ``start``, ``max_iter``, ``tol``, ``cores``, ``progressbar``),
        :class:`bayes_moe.inference.map.MAP`, :class:`bayes_moe.inference.laplace.Laplace`
        (``draws``, ``chains``, and those of EM but ``objective``),
        :class:`bayes_moe.inference.advi.ADVI` (``draws``, ``chains``, ``iterations``,
        ``learning_rate``, ``full_rank``, ``batch_size``, ``progressbar``) and
        :class:`bayes_moe.inference.pathfinder.Pathfinder` (``draws``, ``chains``, ``paths``,
        ``max_iter``, ``progressbar``).

    Returns
    -------
    Fit
        If sampling is interrupted (Ctrl-C), the draws made so far, with ``complete`` False; the
        samplers on JAX keep none.

    Raises
    ------
    DataError, SpecError
        For data and descriptions that cannot be used; the message says what to do.

    Warns
    -----
    ConvergenceWarning
        If the draws are not to be trusted yet.
    """
    if not isinstance(spec, MixtureOfExperts):
        raise SpecError(
            "`spec` must be a MixtureOfExperts (see bm.mixture_of_experts), got "
            f"{type(spec).__name__}."
        )
    if isinstance(method, Method):
        if settings:
            raise SpecError(
                f"Give settings inside the method, not beside it: {', '.join(settings)}."
            )
        chosen, method = method, type(method).__name__.lower()
    else:
        chosen = registry.resolve("method", method).from_settings(settings)
    relabelling.check_method(relabel)
    _check_missing(missing, method)
    chosen.check(spec)
    design = spec.design(data, missing)
    return _fit(spec, design, chosen, method, random_seed, relabel, log_likelihood, missing)


def refit(
    fit: Fit,
    data: Any,
    *,
    random_seed: int | None = None,
    missing: str | None = None,
    **changes: Any,
) -> Fit:
    """Fit the same model to other data, by the same method with the same settings.

    With nutpie nothing is compiled again; other samplers and ``"map"`` compile as in a first fit.

    Parameters
    ----------
    fit : Fit
        A fit; it is not changed.
    data : table
        Other data with the same columns.
    random_seed : int, optional
        The same seed gives the same draws.
    missing : {"raise", "drop", "model"}, optional
        What to do with rows that have missing values; by default what the fit did.
    **changes
        Settings that shall be others than the fit's, such as ``draws=500``. A ``start`` that the
        fit was given belongs to its data, and is not repeated.

    Returns
    -------
    Fit
        Default priors are scaled to the new data, and categories are those of the new data, as in
        a first fit.

    Raises
    ------
    DataError, SpecError
        As :func:`fit` does.

    Warns
    -----
    ConvergenceWarning
        If the draws are not to be trusted yet.
    """
    attributes = fit.idata.attrs
    name = attributes["method"]
    if name not in registry.TABLE["method"] or "settings" not in attributes:
        raise SpecError(
            "The fit does not say by which settings it was made (a method of your own, or a file "
            "of an older version): use bm.fit(fit.spec, data, ...)."
        )
    missing = str(attributes.get("missing", "raise")) if missing is None else missing
    _check_missing(missing, name)
    settings = json.loads(attributes["settings"]) | changes
    chosen = registry.resolve("method", name).from_settings(settings)
    stored = attributes.get("log_likelihood")
    return _fit(
        fit.spec,
        fit.spec.design(data, missing),
        chosen,
        name,
        random_seed,
        attributes["relabel"],
        None if stored is None else bool(stored),
        missing,
    )


def _check_missing(missing: str, method: str) -> None:
    if missing == "model" and method != "em":
        raise SpecError(
            f"missing='model' needs method='em'; method={method!r} cannot integrate missing "
            "features out. Use missing='drop', or method='em'."
        )


def _fit(
    spec: MixtureOfExperts,
    design: Design,
    method: Method,
    name: str,
    random_seed: int | None,
    relabel: str,
    log_likelihood: bool | None,
    missing: str,
) -> Fit:
    seed, settings = seeds.resolve(random_seed), method.described
    tree = method.run(spec, design, seed)
    tree.attrs["random_seed"] = seed
    tree.attrs["method"] = name
    tree.attrs["relabel"] = relabel
    tree.attrs["settings"] = settings
    tree.attrs["missing"] = missing
    if log_likelihood is not None:
        tree.attrs["log_likelihood"] = int(log_likelihood)
    tree = results.standard_tree(tree, spec, design, log_likelihood=log_likelihood)
    if names.FIT not in tree.children:  # what lies about one mode has its labels
        tree = relabelling.align(tree, spec, design, relabel)
    problems = check(tree, spec, design).problems
    if problems:
        warnings.warn("\n".join(problems), ConvergenceWarning, stacklevel=3)
    return Fit(spec, design, tree)


def relabel(fit: Fit, method: str = "responsibilities") -> Fit:
    """Align expert labels anew, or undo it.

    Parameters
    ----------
    fit : Fit
        A fit; it is not changed.
    method : {"responsibilities", "parameters", "none"}
        Align by the rows' allocation probabilities, by the experts' parameters, or go back to
        the sampler's own labels.

    Returns
    -------
    Fit
        ``.idata["relabelling"]`` holds the permutations and each draw's certainty.

    Raises
    ------
    SpecError
        For a fit about one mode: its labels cannot be otherwise from draw to draw.
    """
    if names.FIT in fit.idata.children:
        raise SpecError(
            f"A fit by {fit.idata.attrs['method']!r} lies about one mode: there is nothing to "
            "relabel."
        )
    tree = relabelling.align(fit.idata, fit.spec, fit.design, method)
    tree.attrs["relabel"] = method
    return replace(fit, idata=tree)

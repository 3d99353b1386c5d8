"""Fit a model to data, fit it again to other data, and align the experts' labels anew."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, replace
from typing import Any

from bayes_moe.core import names, registry, seeds
from bayes_moe.core.errors import PACKAGE_FILES, ConvergenceWarning, SpecError
from bayes_moe.data.design import Design
from bayes_moe.diagnostics.check import check
from bayes_moe.inference.base import Method
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.results import relabelling
from bayes_moe.results.draws import standard_tree
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
        Seed of the random generator; the same seed gives the same draws.
    missing : {"raise", "drop", "model"}
        What to do with rows that have missing values in a used column: refuse the table, leave
        them out, or, with ``method="em"`` and :class:`bayes_moe.gates.Gaussian`, keep them and
        integrate the missing features out. That is right if whether a value is missing does not
        depend on the value itself, conditional on the observed values of the row.
    relabel : {"responsibilities", "parameters", "none"}
        How expert labels are aligned over a sampler's draws and chains; see
        :func:`bayes_moe.relabel`. Results of other methods are about one mode, whose experts are
        ordered by their average location.
    log_likelihood : bool, optional
        Whether to store the pointwise log likelihood (for ``az.loo``). By default it is stored
        up to 2e7 values (160 MB), and not for a single mode.
    **settings
        Settings of the method, which its page lists: :class:`~bayes_moe.inference.nuts.NUTS`,
        :class:`~bayes_moe.inference.em.EM`, :class:`~bayes_moe.inference.map.MAP`,
        :class:`~bayes_moe.inference.laplace.Laplace`, :class:`~bayes_moe.inference.advi.ADVI` and
        :class:`~bayes_moe.inference.pathfinder.Pathfinder`.

    Returns
    -------
    Fit
        Result of the method. If sampling is interrupted (Ctrl-C), the draws so far, with
        ``complete`` False; the samplers on JAX keep none.

    Raises
    ------
    DataError, SpecError
        For data and models that cannot be used; the message names the remedy.

    Warns
    -----
    ConvergenceWarning
        If a check of the result fails.
    """
    if not isinstance(spec, MixtureOfExperts):
        raise SpecError(
            "`spec` must be a MixtureOfExperts (see bm.mixture_of_experts), got "
            f"{type(spec).__name__}."
        )
    if not isinstance(method, Method):
        chosen: Method = registry.resolve("method", method).from_settings(settings)
    elif settings:
        raise SpecError(f"Give settings inside the method, not beside it: {', '.join(settings)}.")
    else:
        chosen = method
    relabelling.check_method(relabel)
    _check_missing(missing, type(chosen))
    chosen.check(spec)
    design = spec.design(data, missing)
    return _fit(spec, design, FitSettings(chosen, random_seed, relabel, missing, log_likelihood))


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
        A fit, left unchanged.
    data : table
        Other data with the same columns.
    random_seed : int, optional
        Seed of the random generator; the same seed gives the same draws.
    missing : {"raise", "drop", "model"}, optional
        What to do with rows that have missing values; by default what the fit did.
    **changes
        Settings that replace the fit's, such as ``draws=500``. The fit's ``start`` belongs to its
        data, and is not repeated.

    Returns
    -------
    Fit
        Fit to the new data. Default priors and categories are those of the new data, as in a first
        fit.

    Raises
    ------
    DataError, SpecError
        As :func:`fit` does.

    Warns
    -----
    ConvergenceWarning
        If a check of the result fails.
    """
    attributes = fit.idata.attrs
    name = attributes[names.METHOD]
    if not registry.has("method", name) or names.SETTINGS not in attributes:
        raise SpecError(
            "The fit does not say by which settings it was made (a method of your own, or a file "
            "of an older version): use bm.fit(fit.spec, data, ...)."
        )
    missing = str(attributes.get(names.MISSING, "raise")) if missing is None else missing
    method_class = registry.resolve("method", name)
    _check_missing(missing, method_class)
    method = method_class.from_settings(json.loads(attributes[names.SETTINGS]) | changes)
    stored = attributes.get(names.LOG_LIKELIHOOD)
    log_likelihood = None if stored is None else bool(stored)
    settings = FitSettings(method, random_seed, attributes[names.RELABEL], missing, log_likelihood)
    return _fit(fit.spec, fit.spec.design(data, missing), settings)


@dataclass(frozen=True)
class FitSettings:
    """Arguments of :func:`fit` beside the model and the data."""

    method: Method
    random_seed: int | None
    relabel: str
    missing: str
    log_likelihood: bool | None


def _check_missing(missing: str, method: type[Method]) -> None:
    if missing == "model" and not method.integrates_missing:
        raise SpecError(
            f"missing='model' needs method='em'; method={method.name!r} cannot integrate missing "
            "features out. Use missing='drop', or method='em'."
        )


def _fit(spec: MixtureOfExperts, design: Design, settings: FitSettings) -> Fit:
    """Fit to a design; warn at the user's line where a check fails."""
    method, seed = settings.method, seeds.resolve(settings.random_seed)
    described = method.described  # raises before the work if the settings cannot be stored
    tree = method.run(spec, design, seed)
    tree.attrs |= {
        names.RANDOM_SEED: seed,
        names.METHOD: method.name,
        names.RELABEL: settings.relabel,
        names.SETTINGS: described,
        names.MISSING: settings.missing,
    }
    if settings.log_likelihood is not None:
        tree.attrs[names.LOG_LIKELIHOOD] = int(settings.log_likelihood)
    tree = standard_tree(tree, spec, design, log_likelihood=settings.log_likelihood)
    if tree.attrs[names.KIND] == names.KIND_DRAWS:  # draws about one mode have its labels
        tree = relabelling.align(tree, spec, design, settings.relabel)
    problems = check(tree, spec, design).problems
    if problems:
        warnings.warn(
            "\n".join(problems),
            ConvergenceWarning,
            skip_file_prefixes=PACKAGE_FILES,
        )
    return Fit(spec, design, tree)


def relabel(fit: Fit, method: str = "responsibilities") -> Fit:
    """Align expert labels again, or undo the alignment.

    Parameters
    ----------
    fit : Fit
        A fit, left unchanged.
    method : {"responsibilities", "parameters", "none"}
        Align by the rows' allocation probabilities, by the experts' parameters, or restore the
        sampler's labels.

    Returns
    -------
    Fit
        ``.idata["relabelling"]`` holds the permutations and each draw's certainty.

    Raises
    ------
    SpecError
        For a fit about one mode, whose draws have the same labels.
    """
    if fit.kind != names.KIND_DRAWS:
        raise SpecError(
            f"A fit by {fit.idata.attrs[names.METHOD]!r} has the labels of one mode: there is "
            "nothing to relabel."
        )
    tree = relabelling.align(fit.idata, fit.spec, fit.design, method)
    tree.attrs[names.RELABEL] = method
    return replace(fit, idata=tree)

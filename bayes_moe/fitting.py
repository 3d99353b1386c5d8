"""Fit a model to data and again to other data, align labels, and join chains."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from bayes_moe.core import names, registry, seeds
from bayes_moe.core.errors import PACKAGE_FILES, ConvergenceWarning, SpecError
from bayes_moe.data.design import Design
from bayes_moe.diagnostics.check import check
from bayes_moe.inference.base import Method
from bayes_moe.model.spec import MixtureOfExperts, bound
from bayes_moe.results import combination, label_reference, relabelling
from bayes_moe.results.draws import standard_tree
from bayes_moe.results.fit import Fit
from bayes_moe.results.label_reference import Reference


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
        pandas, polars, another eager table that narwhals reads, or a dict of arrays, also sparse.
    method : {"nuts", "em", "map", "ensemble", "laplace", "advi", "pathfinder"} or Method
        Inference method. ``"em"`` gives the mode of the posterior with standard errors, in
        milliseconds and without PyMC; ``"map"`` the same through the graph's gradient, for any
        model, and of a network a run that held-out rows stop; ``"ensemble"`` the average of several
        such results, which predicts better than one; ``"laplace"`` draws from the normal
        approximation at the mode; ``"advi"`` from the one of largest evidence lower bound, by
        batches of the rows if the table is long; ``"pathfinder"`` from several along quasi-Newton
        paths (extra ``jax``); ``"nuts"`` samples.
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
        :class:`~bayes_moe.inference.ensemble.Ensemble`,
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
    spec = bound(spec, design)
    return _fit(spec, design, FitSettings(chosen, random_seed, relabel, missing, log_likelihood))


def refit(
    fit: Fit,
    data: Any,
    *,
    random_seed: int | None = None,
    missing: str | None = None,
    like: Fit | str | None = "fit",
    **changes: Any,
) -> Fit:
    """Fit the same model to other data, by the same method with the same settings.

    The experts get the labels of the fit, so that bootstrap samples and folds can be compared
    expert by expert. With nutpie nothing is compiled again; other samplers and ``"map"`` compile as
    in a first fit.

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
    like : {"fit"}, Fit or None
        Whose labels the experts get, see :func:`relabel`: those of ``fit``, those of another fit of
        the same gate and experts, or, with None, their own, as in a first fit. Labels of a fit that
        were left alone (``relabel="none"``) are left alone here too.
    **changes
        Settings that replace the fit's, such as ``draws=500``. The fit's ``start`` belongs to its
        data, and is not repeated.

    Returns
    -------
    Fit
        Fit to the new data. Default priors and categories are those of the new data, as in a first
        fit. ``.idata["relabelling"]`` holds the permutations and how certain they are.

    Raises
    ------
    DataError, SpecError
        As :func:`fit` does; SpecError also if no labels can be compared with those of ``like``.

    Warns
    -----
    ConvergenceWarning
        If a check of the result fails.
    UserWarning
        If the data have other categories than the fit's, so that by default no labels can be given;
        and if the experts are likely to be in another order than those of ``like`` under a gate
        that gives each place a meaning of its own (sticks, unlike branches of a tree), so that
        labels cannot be exchanged.

    Examples
    --------
    Standard deviations of the coefficients by the bootstrap:

    >>> fits = [
    ...     bm.refit(fit, table.sample(len(table), replace=True, random_state=b), random_seed=b)
    ...     for b in range(100)
    ... ]  # doctest: +SKIP
    >>> np.std([f.idata["posterior"]["mu_coef"][0, 0] for f in fits], axis=0)  # doctest: +SKIP
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
    design = fit.spec.design(data, missing)
    chosen = str(attributes.get(names.RELABEL, "responsibilities"))
    spec = bound(fit.spec, design)
    whose = _whose_labels(fit, spec, like, design, chosen)
    settings = FitSettings(method, random_seed, chosen, missing, log_likelihood, whose)
    again = _fit(spec, design, settings)
    if like is not None and chosen != "none":
        _tell_other_order(again, like if isinstance(like, Fit) else fit)
    return again


def _tell_other_order(fit: Fit, other: Fit) -> None:
    """Warn if experts are likely to be in another fit's order, and cannot be exchanged."""
    order = label_reference.other_order(fit, other)
    if order is None:
        return
    labels = fit.spec.expert_labels
    pairs = [
        f"{labels[k]} here is {label} there"
        for label, k in zip(labels, order, strict=True)
        if labels[k] != label
    ]
    warnings.warn(
        "The experts are probably in another order than those of the fit that they are compared "
        f"with: {', '.join(pairs)}. The gate gives each place a meaning of its own, so labels "
        "cannot be exchanged. With method='em' or 'laplace' runs can begin in the fit's order: "
        "bm.refit(fit, data, start={v: fit.idata['posterior'][v].mean(['chain', 'draw']).values "
        "for v in fit.spec.variables}). Predictions do not depend on the order.",
        UserWarning,
        skip_file_prefixes=PACKAGE_FILES,
    )


@dataclass(frozen=True)
class FitSettings:
    """Arguments of :func:`fit` beside the model and the data."""

    method: Method
    random_seed: int | None
    relabel: str
    missing: str
    log_likelihood: bool | None
    like: Reference | None = None


def _whose_labels(
    fit: Fit, spec: MixtureOfExperts, like: Fit | str | None, design: Design, method: str
) -> Reference | None:
    """The fit whose labels a refit gets; by default the given one, if rows can be compared."""
    if like is None:
        return None
    if not (isinstance(like, str) and like == "fit"):
        return _reference(like, spec, design, method)
    try:
        return _reference(fit, spec, design, method)
    except SpecError as error:
        warnings.warn(
            f"{error} The experts keep labels of their own; like=None says that you know.",
            UserWarning,
            skip_file_prefixes=PACKAGE_FILES,
        )
        return None


def _reference(other: Any, spec: MixtureOfExperts, design: Design, method: str) -> Reference | None:
    """The fit whose labels a fit gets; None where no labels can be exchanged."""
    if not isinstance(other, Fit):
        raise SpecError(
            f"`like` must be a fit, whose labels the experts get, or None; it is {other!r:.80}."
        )
    if method == "none" or spec.structure.symmetry.trivial:
        return None
    return label_reference.reference(other, spec, design, method)


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
    method.check_design(design)
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
    # Draws about one mode have its labels.
    if tree.attrs[names.KIND] == names.KIND_DRAWS or settings.like is not None:
        tree = relabelling.align(tree, spec, design, settings.relabel, settings.like)
    return _checked(Fit(spec, design, tree))


def _checked(fit: Fit) -> Fit:
    """The fit; warn at the user's line where a check fails."""
    problems = check(fit.idata, fit.spec, fit.design).problems
    if problems:
        warnings.warn(
            "\n".join(problems),
            ConvergenceWarning,
            skip_file_prefixes=PACKAGE_FILES,
        )
    return fit


def relabel(fit: Fit, method: str = "responsibilities", *, like: Fit | None = None) -> Fit:
    """Align expert labels again, give the experts the labels of another fit, or undo either.

    Parameters
    ----------
    fit : Fit
        A fit, left unchanged.
    method : {"responsibilities", "parameters", "none"}
        Align by the rows' allocation probabilities, by the experts' parameters, or restore the
        labels that the method of inference gave.
    like : Fit, optional
        Another fit with the same gate and experts, to the same or to other data: the experts get
        the labels of its experts, as far as they are exchangeable. Each draw of a sampler gets its
        own permutation; a mode, and draws about one, get one. They are compared on the rows of
        ``like`` (those of ``fit`` if ``fit`` lacks some of their categories).

    Returns
    -------
    Fit
        ``.idata["relabelling"]`` holds the permutations and each draw's certainty. Every variable
        with a dimension over experts is permuted, yours in ``fit.idata`` included: of draws in all
        groups that have them, of a mode also standard errors. With ``like`` the table of modes is
        aligned too, each mode by its own permutation.

    Raises
    ------
    SpecError
        For another gate or other experts than those of ``like``, for a fit about one mode without
        ``like``, and for groups that hold other draws.

    Warns
    -----
    UserWarning
        If a variable of yours has a dimension over experts, and cannot be permuted; and as by
        :func:`refit`, if the experts are likely to be in an order that labels cannot follow.
    """
    relabelling.check_method(method)
    known = None
    if like is not None:
        if method == "none":
            raise SpecError("method='none' undoes an alignment and takes no `like`.")
        known = _reference(like, fit.spec, fit.design, method)
    elif fit.kind != names.KIND_DRAWS and method != "none":
        raise SpecError(
            f"A fit by {fit.idata.attrs[names.METHOD]!r} has the labels of one mode: there is "
            "nothing to align. bm.relabel(fit, like=other) gives its experts the labels of another "
            "fit."
        )
    tree = relabelling.align(fit.idata.copy(), fit.spec, fit.design, method, known)
    if fit.kind == names.KIND_DRAWS:
        tree.attrs[names.RELABEL] = method
    result = replace(fit, idata=tree)
    if like is not None:
        _tell_other_order(result, like)
    return result


def combine(fits: Iterable[Fit]) -> Fit:
    """Join the chains of several fits of one model to the same data into one fit.

    For chains that were run apart, on several machines or one after another. Labels are aligned
    anew over all chains, and the result is checked as by :func:`fit`.

    Parameters
    ----------
    fits : iterable of Fit
        At least two fits by a sampler (``"nuts"``), with the same model and columns and as many
        draws a chain, from different seeds.

    Returns
    -------
    Fit
        Chains numbered 0, 1, ... in the order of the fits, in all groups that have them. Modes
        where chains began are merged; their ``mass`` is the mean over the fits. The attribute
        ``combined`` of ``.idata`` holds the seed, settings and number of chains of each fit (JSON);
        these may have different settings. ``random_seed`` is that of the first.

    Raises
    ------
    SpecError
        For fits by other methods, of different models or data, with different numbers of draws, or
        that hold the same draws twice.

    Warns
    -----
    ConvergenceWarning
        If a check of the result fails.
    UserWarning
        If a group or variable is not in all the fits, and is left out.

    Examples
    --------
    >>> jobs = [bm.fit(spec, table, random_seed=s) for s in (1, 2)]  # doctest: +SKIP
    >>> bm.combine(jobs)  # doctest: +SKIP
    """
    listed = combination.checked(fits)
    tree = combination.combined(listed)
    first = listed[0]
    tree = relabelling.align(tree, first.spec, first.design, str(tree.attrs[names.RELABEL]))
    return _checked(replace(first, idata=tree))

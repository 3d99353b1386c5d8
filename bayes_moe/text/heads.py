"""Linear predictors of a fit by what they say: log odds of experts, or a parameter of one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_moe.core import names as tree_names
from bayes_moe.core.errors import SpecError, listed
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.linear import Linear
from bayes_moe.results.fit import Fit

ELEMENT = re.compile(r"(.*)\[(\d+)\]")
"""The term of one number of a column of arrays: the column, and its position."""


@dataclass(frozen=True)
class Head:
    """One linear predictor of a fit.

    Attributes
    ----------
    variable : str
        Its reported coefficients, such as ``"gate_coef"``.
    labels : mapping of str to object
        Where it stands along the other dimensions of the variable, such as its expert and class.
    output : int
        Its position among the predictors of the variable.
    matrix : Matrix
        Its features in the fitted rows.
    """

    variable: str
    labels: Mapping[str, Any]
    output: int
    matrix: Matrix


@dataclass(frozen=True)
class Functions:
    """Named linear functions of the coefficients of a head.

    ``weights`` (function, term) are dense or sparse, ``spread`` (function,) the standard deviations
    over the fitted rows of what they are multiplied by, NaN where that is unknown.
    """

    labels: np.ndarray
    weights: Any
    spread: np.ndarray


def heads_of(fit: Fit, variables: str | Iterable[str] | None) -> list[Head]:
    """The linear predictors with features of a fit, those of the gate first.

    Raises
    ------
    SpecError
        For a variable that is no coefficient of one, or where there is none.
    """
    structure, posterior = fit.spec.structure, fit.idata[tree_names.POSTERIOR].to_dataset()
    found: dict[str, list[Head]] = {}
    for site, predictor in structure.sites:
        matrix = fit.design.rows.matrices[site.stem]
        features = [j for j in range(len(matrix.terms)) if j != matrix.intercept]
        if type(predictor) is not Linear or not features or site.coef not in posterior:
            continue
        dims = [str(d) for d in posterior[site.coef].dims]
        others = [d for d in dims[:-1] if d not in (tree_names.CHAIN, tree_names.DRAW)]
        axes = [posterior[d].values if d in posterior.coords else None for d in others]
        sizes = [posterior.sizes[d] for d in others]
        found[site.coef] = [
            Head(
                site.coef,
                {
                    d: position if axis is None else axis[position]
                    for d, axis, position in zip(others, axes, where, strict=True)
                },
                output,
                matrix,
            )
            for output, where in enumerate(np.ndindex(*sizes))
        ]
    if variables is None:
        wanted = list(found)
    else:
        wanted = [variables] if isinstance(variables, str) else list(variables)
    unknown = [name for name in wanted if name not in found]
    if unknown:
        has = f"there are {listed(found)}" if found else "there is none"
        raise SpecError(f"{listed(unknown)}: no coefficients of linear predictors; {has}.")
    if not wanted:
        raise SpecError(
            "top_terms needs a linear predictor with features; this model has none. For other "
            "predictors see bm.plots of effects along a column."
        )
    return [head for name in wanted for head in found[name]]


def functions_of(
    matrix: Matrix,
    names: Mapping[str, Sequence[str]],
    components: Mapping[str, tuple[Any, Sequence[str]]],
) -> Functions:
    """The coefficients of a matrix by name, and those of words where columns are components.

    Raises
    ------
    SpecError
        For names or components that do not fit the columns.
    """
    from scipy import sparse

    width = len(matrix.terms)
    single: list[tuple[str, int]] = []
    mapped: dict[str, dict[int, int]] = {column: {} for column in components}
    for j, term in enumerate(matrix.terms):
        column, place = _element(term)
        if j == matrix.intercept:
            continue
        if column in mapped:
            mapped[column][place] = j
        else:
            single.append((_named(names, term, column, place), j))
    at = [j for _, j in single]
    labels = [label for label, _ in single]
    parts = [sparse.csr_array((np.ones(len(at)), (np.arange(len(at)), at)), (len(at), width))]
    spreads = [np.asarray(matrix.scale)[at]]
    for column, places in mapped.items():
        if not places:
            continue
        weights, words = _components(column, components[column], len(places))
        order = [places[k] for k in range(len(places))]
        to_terms = sparse.csr_array(
            (np.ones(len(order)), (range(len(order)), order)), (len(order), width)
        )
        parts.append(sparse.csr_array(weights @ to_terms))
        labels += words
        spreads.append(np.full(len(words), np.nan))
    return Functions(
        np.array(labels, dtype=object), sparse.vstack(parts).tocsr(), np.concatenate(spreads)
    )


def check_columns(
    heads: Iterable[Head], argument: str, given: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    """Raise :class:`SpecError` for columns of an argument that no head has."""
    if given is None:
        return {}
    has = sorted({c for head in heads for c in _columns(head.matrix)})
    unknown = [c for c in given if c not in has]
    if unknown:
        raise SpecError(
            f"`{argument}` names {listed(unknown)}; columns of several terms are {listed(has)}."
            if has
            else f"`{argument}` names {listed(unknown)}, and no column has several terms."
        )
    return given


def text_components(fit: Fit, heads: Iterable[Head]) -> dict[str, tuple[Any, Sequence[str]]]:
    """Matrices (word, component) and words of the text terms that are columns of some heads.

    Hashed words have no names, so that their components stay what they are.
    """
    has = {c for head in heads for c in _columns(head.matrix)}
    return {
        name: (vectors.components.T, vectors.terms)
        for name, vectors in fit.design.texts.vectors.items()
        if name in has and vectors.components is not None and vectors.settings.hashing is None
    }


def _columns(matrix: Matrix) -> Iterator[str]:
    return (column for column, place in map(_element, matrix.terms) if place >= 0)


def _element(term: str) -> tuple[str, int]:
    """Column and position of a term, -1 for one that is not of a column of arrays."""
    found = ELEMENT.fullmatch(term)
    return (term, -1) if found is None else (found[1], int(found[2]))


def _named(names: Mapping[str, Sequence[str]], term: str, column: str, place: int) -> str:
    if place < 0 or column not in names:
        return term
    if place >= len(names[column]):
        raise SpecError(
            f"`names` has {len(names[column])} names of {column!r}, which has a term {term!r}: "
            "give one name a column of the matrix."
        )
    return str(names[column][place])


def _components(column: str, given: tuple[Any, Sequence[str]], count: int) -> tuple[Any, list[str]]:
    """Weights (word, component) and words of the components of a column."""
    if not isinstance(given, tuple) or len(given) != 2:
        raise SpecError(f"`components[{column!r}]` is a pair: a matrix (word, component), words.")
    weights, words = given
    weights = weights if hasattr(weights, "tocsr") else np.asarray(weights, dtype=float)
    if weights.ndim != 2 or weights.shape != (len(words), count):
        raise SpecError(
            f"`components[{column!r}]` has a matrix of shape {weights.shape} and {len(words)} "
            f"words; the fit has {count} components, so it is (word, component) = "
            f"({len(words)}, {count}). Of scikit-learn's TruncatedSVD it is components_.T."
        )
    return weights, [str(word) for word in words]

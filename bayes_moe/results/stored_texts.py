"""Fitted text terms in a saved fit: terms, their weights and components, as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.data.design import Design
from bayes_moe.data.fitted_texts import FittedTexts
from bayes_moe.data.formulas import text_terms
from bayes_moe.data.sparse_columns import matrix_in
from bayes_moe.data.sparse_columns import restored as matrix_of_parts
from bayes_moe.data.text_settings import TextSettings, TextTerm
from bayes_moe.data.text_vectors import TextVectors, hashed_terms
from bayes_moe.model.spec import MixtureOfExperts

if TYPE_CHECKING:
    import xarray as xr

TEXTS = "texts"
"""Part of a stored design, of models with text terms."""
TERMS, IDF, COMPONENTS = "terms", "idf", "components"
"""Parts of a text term: its terms, their weights, and directions of its decomposition."""
ENTRIES = ("data", "indices", "indptr")
"""Parts of the sparse matrix (row, term) of the fitted rows, as in SciPy."""


def described(design: Design) -> dict[str, Any]:
    """Part of a header that names the text terms; empty for a model without any."""
    return {TEXTS: [*design.texts.terms]} if design.texts.terms else {}


def with_texts(dataset: xr.Dataset, design: Design) -> xr.Dataset:
    """Dataset with what was fitted of the text terms too."""
    variables: dict[str, tuple[tuple[str, ...], Any]] = {}
    for j, vectors in enumerate(design.texts.vectors.values()):
        along, parts = f"text_{j}_term", _parts(vectors.settings)
        if TERMS in parts:
            variables[_name(j, TERMS)] = ((along,), np.array(vectors.terms, dtype=str))
        if IDF in parts:
            variables[_name(j, IDF)] = ((along,), vectors.idf)
        if COMPONENTS in parts:
            variables[_name(j, COMPONENTS)] = ((f"text_{j}_component", along), vectors.components)
    for j, name in _sources(design.texts.terms).values():
        matrix = design.texts.weighted[name]
        for part in ENTRIES:
            along = _name(j, "row_end" if part == "indptr" else "entry")
            variables[_name(j, part)] = ((along,), getattr(matrix, part))
    return dataset.assign(variables)


def count(entry: Any, spec: MixtureOfExperts) -> int:
    """Number of variables of the text terms that a header names.

    Raises
    ------
    ValueError
        Unless they are those of the formulas.
    """
    terms = text_terms(spec.formulas.values())
    if entry is None:
        entry = []
    if not isinstance(entry, list) or entry != [*terms]:
        raise ValueError("the text terms are others than those of the formulas")
    own = sum(len(_parts(term.settings)) for term in terms.values())
    return own + len(ENTRIES) * len(_sources(terms))


def restored(dataset: xr.Dataset | None, spec: MixtureOfExperts, rows: int) -> FittedTexts:
    """Fitted text terms of a file, which has so many rows.

    Raises
    ------
    ValueError
        For parts that do not fit each other.
    """
    terms = text_terms(spec.formulas.values())
    if dataset is None:  # files of earlier versions have no such terms
        return FittedTexts()
    vectors = {
        name: _vectors(dataset, j, term.settings) for j, (name, term) in enumerate(terms.items())
    }
    matrices = {}
    for key, (j, name) in _sources(terms).items():
        entries = {part: dataset[_name(j, part)].values for part in ENTRIES}
        found = matrix_in(matrix_of_parts(entries, len(vectors[name].terms)))
        if found.shape[0] != rows:
            raise ValueError(f"the text term {name!r} has other rows than the table")
        matrices[key] = found
    weighted = {name: matrices[term.source] for name, term in terms.items()}
    return FittedTexts(terms, vectors, weighted)


def sparse_width(texts: FittedTexts, formula: str) -> int:
    """Number of sparse columns that the text terms of a formula make."""
    made = text_terms([formula]).values()
    return sum(len(texts.vectors[t.name].terms) for t in made if t.settings.components is None)


def _name(j: int, part: str) -> str:
    return f"text_{j}_{part}"


def _sources(terms: Mapping[str, TextTerm]) -> dict[Any, tuple[int, str]]:
    """Number and name of the first text term of each matrix of the fitted rows."""
    found: dict[Any, tuple[int, str]] = {}
    for j, (name, term) in enumerate(terms.items()):
        found.setdefault(term.source, (j, name))
    return found


def _parts(settings: TextSettings) -> list[str]:
    """Parts that a text term has in a file."""
    has = {
        TERMS: settings.hashing is None,
        IDF: settings.weighting == "tfidf",
        COMPONENTS: settings.components is not None,
    }
    return [part for part, there in has.items() if there]


def _vectors(dataset: xr.Dataset, j: int, settings: TextSettings) -> TextVectors:
    """Fitted text term of a number."""
    parts = {part: np.asarray(dataset[_name(j, part)].values) for part in _parts(settings)}
    terms = hashed_terms(settings)
    if TERMS in parts:
        if parts[TERMS].ndim != 1 or not all(isinstance(t, str) for t in parts[TERMS].tolist()):
            raise ValueError("the terms of texts are no list of texts")
        terms = tuple(parts[TERMS].tolist())
        if len({*terms}) < len(terms) or not terms:
            raise ValueError("the terms of texts are none, or one of them is there twice")
    shapes = {IDF: (len(terms),), COMPONENTS: (settings.components, len(terms))}
    for part, shape in shapes.items():
        if part in parts and (parts[part].shape != shape or parts[part].dtype.kind != "f"):
            raise ValueError(f"the {part} of a text term do not fit its {len(terms)} terms")
        if part in parts and not np.isfinite(parts[part]).all():
            raise ValueError(f"the {part} of a text term are not all finite")
    return TextVectors(settings, terms, parts.get(IDF), parts.get(COMPONENTS))

"""Texts to numbers: terms, their weights, and components of these, fitted to some texts.

Terms are scikit-learn's; what is fitted are plain arrays, so that other texts are treated as the
fitted ones were, from a file too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from bayes_moe.core.errors import DataError, need
from bayes_moe.data.text_settings import TextSettings
from bayes_moe.data.truncated_svd import right_directions


@dataclass(frozen=True, eq=False)
class TextVectors:
    """Terms of the fitted texts, and what is made of their numbers.

    Attributes
    ----------
    settings : TextSettings
        How texts become terms, and terms numbers.
    terms : tuple of str
        The terms; numbers as text of hashed ones.
    idf : array (term,) or None
        Weights of the terms, ``log((1 + n) / (1 + rows with the term)) + 1`` of ``n`` rows.
    components : array (component, term) or None
        Directions of the decomposition, as rows of length 1.
    """

    settings: TextSettings
    terms: tuple[str, ...]
    idf: np.ndarray | None = None
    components: np.ndarray | None = None

    @classmethod
    def fit(cls, texts: Sequence[str], settings: TextSettings, where: str) -> tuple[Self, Any]:
        """Terms of texts, and their sparse matrix (row, term) of numbers, without a decomposition.

        ``where`` names the term in errors.

        Raises
        ------
        DataError
            If no term is left.
        """
        need("sklearn", "sklearn")
        if settings.hashing is not None:
            terms = hashed_terms(settings)
            counts = _vectoriser(settings, None).transform(texts)
        else:
            terms, counts = _vocabulary(texts, settings, where)
        idf = None
        if settings.weighting == "tfidf":
            rows = np.bincount(counts.indices, minlength=len(terms))
            idf = np.log((1 + len(texts)) / (1 + rows)) + 1
        found = cls(settings.of_terms, terms, idf)
        return found, found._weighted(counts)

    def decomposed(self, weighted: Any, components: int, where: str) -> Self:
        """The same with the first ``components`` of the decomposition of their matrix (row, term).

        Raises
        ------
        DataError
            For more components than the texts have directions.
        """
        directions = right_directions(weighted, components)
        if len(directions) < components:
            raise DataError(
                f"{where} asks for components={components}, but the {weighted.shape[0]} texts with "
                f"{len(self.terms)} terms have {len(directions)}: give at most that many."
            )
        return replace(self, settings=replace(self.settings, components=components),
                       components=directions)  # fmt: skip

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features: the terms, or the numbers of the components."""
        if self.components is None:
            return self.terms
        return tuple(map(str, range(len(self.components))))

    def of(self, texts: Sequence[str]) -> Any:
        """Features of texts: a sparse matrix (row, term), or an array (row, component)."""
        return self.projected(self.terms_of(texts))

    def terms_of(self, texts: Sequence[str]) -> Any:
        """Sparse matrix (row, term) of the numbers of terms in texts."""
        from scipy.sparse import csr_array

        if not len(texts):
            return csr_array((0, len(self.terms)), dtype=float)
        return self._weighted(self._vectoriser.transform(texts))

    def projected(self, weighted: Any) -> Any:
        """Features, from the numbers (row, term) of terms."""
        return weighted if self.components is None else weighted @ self.components.T

    @cached_property
    def _vectoriser(self) -> Any:
        """scikit-learn's vectoriser with these terms."""
        need("sklearn", "sklearn")
        return _vectoriser(self.settings, self.terms)

    def _weighted(self, counts: Any) -> Any:
        """Sparse matrix (row, term) of the numbers of terms, from how often they occur."""
        from scipy.sparse import csr_array

        found = csr_array(counts, dtype=float)
        found.sort_indices()
        if self.settings.weighting == "binary":
            found.data[:] = 1.0
        if self.settings.sublinear:
            found.data = 1 + np.log(found.data)
        if self.idf is not None:
            found.data *= self.idf[found.indices]
            row = np.repeat(np.arange(found.shape[0]), np.diff(found.indptr))
            square = np.bincount(row, found.data**2, minlength=found.shape[0])
            found.data /= np.sqrt(square)[row]
        return found


def hashed_terms(settings: TextSettings) -> tuple[str, ...]:
    """Names of hashed terms, which are numbers; none without hashing."""
    return tuple(map(str, range(settings.hashing or 0)))


def _vocabulary(
    texts: Sequence[str], settings: TextSettings, where: str
) -> tuple[tuple[str, ...], Any]:
    """Terms of texts in their order, and how often (row, term) they occur; DataError for none."""
    fitted = _vectoriser(settings, None)
    if isinstance(settings.min_df, int) and settings.min_df > len(texts):
        raise DataError(_no_term(where, settings))
    try:
        counts = fitted.fit_transform(texts)
    except ValueError as error:  # scikit-learn's for an empty vocabulary
        raise DataError(_no_term(where, settings)) from error
    return tuple(map(str, fitted.get_feature_names_out())), counts


def _no_term(where: str, settings: TextSettings) -> str:
    made = "words of two or more letters" if settings.analyzer == "word" else "characters"
    least = f"{settings.min_df} rows"
    if isinstance(settings.min_df, float):
        least = f"a share of {settings.min_df} of the rows"
    return (
        f"{where} has no term: of the {made}, none is in at least {least} and in no more than "
        "max_df= allows. Give a smaller min_df=, another analyzer= or fewer stop_words=."
    )


def _vectoriser(settings: TextSettings, terms: tuple[str, ...] | None) -> Any:
    """scikit-learn's vectoriser that counts terms: these, or those that it finds when fitted."""
    from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer

    words = settings.stop_words
    common = {
        "analyzer": settings.analyzer,
        "ngram_range": settings.ngrams,
        "lowercase": settings.lowercase,
        "stop_words": list(words) if isinstance(words, tuple) else words,
    }
    if settings.hashing is not None:
        # Signs that make collisions cancel would have no logarithm.
        plain = {"norm": None, "alternate_sign": False}
        return HashingVectorizer(n_features=settings.hashing, **plain, **common)
    if terms is not None:
        return CountVectorizer(
            vocabulary=dict(zip(terms, range(len(terms)), strict=True)), **common
        )
    limits = {
        "min_df": settings.min_df,
        "max_df": 1.0 if settings.max_df is None else settings.max_df,
        "max_features": settings.max_terms,
    }
    return CountVectorizer(**limits, **common)

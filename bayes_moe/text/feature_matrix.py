"""Features of texts outside of formulas: terms, or components of them, with their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core.errors import DataError
from bayes_moe.data.fitted_texts import texts_in
from bayes_moe.data.text_settings import TextSettings
from bayes_moe.data.text_vectors import TextVectors

if TYPE_CHECKING:
    import pandas as pd

WHERE = "bm.text.features()"


@dataclass(frozen=True, eq=False)
class TextFeatures:
    """Features of some texts, and the same of others.

    Attributes
    ----------
    values : scipy.sparse.csr_array (row, term) or DataFrame (row, component)
        Features of the fitted texts.
    names : tuple of str
        Names of the columns: the terms (numbers of hashed ones), or the numbers of components.
    terms : tuple of str
        The terms.
    idf : array (term,) or None
        Weights of the terms under ``weighting="tfidf"``.
    components : array (component, term) or None
        Directions of the decomposition, as rows of length 1.
    """

    values: Any
    vectors: TextVectors = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return self.vectors.names

    @property
    def terms(self) -> tuple[str, ...]:
        """The terms."""
        return self.vectors.terms

    @property
    def idf(self) -> np.ndarray | None:
        """Weights (term,) of the terms."""
        return self.vectors.idf

    @property
    def components(self) -> np.ndarray | None:
        """Directions (component, term) of the decomposition."""
        return self.vectors.components

    def transform(self, texts: Iterable[str]) -> Any:
        """Features of other texts, with the terms, weights and directions of the fitted ones.

        Terms that no fitted text has are not counted: a text without any other is a row of zeros.

        Parameters
        ----------
        texts : sequence of str
            The texts, as a list, an array or a Series.

        Returns
        -------
        scipy.sparse.csr_array (row, term) or DataFrame (row, component)
            As ``values``; a DataFrame has the index of a Series.

        Raises
        ------
        DataError
            For anything but texts, missing ones included.
        """
        column = _column(texts)
        return _shown(self.vectors.of(texts_in(column, WHERE)), self.names, column.index)


def features(
    texts: Iterable[str],
    components: int | None = None,
    *,
    analyzer: str | None = None,
    ngrams: int | tuple[int, int] | None = None,
    min_df: int | float | None = None,
    max_df: int | float | None = None,
    max_terms: int | None = None,
    lowercase: bool | None = None,
    sublinear: bool | None = None,
    weighting: str | None = None,
    hashing: int | None = None,
    stop_words: str | Iterable[str] | None = None,
) -> TextFeatures:
    r"""Features of texts, as the term ``text(...)`` of formulas makes them.

    Terms are scikit-learn's. With ``weighting="tfidf"``, term :math:`j` that is :math:`f_{ij}`
    times in text :math:`i`, and in :math:`d_j` of the :math:`n` texts, has the number

    .. math:: x_{ij} = (1 + \log f_{ij}) \Bigl(\log \frac{1 + n}{1 + d_j} + 1\Bigr) / c_i,

    where :math:`c_i` makes the squares of a row sum to one. With ``components``, the features are
    :math:`X V`, where :math:`V` are the first right singular vectors of :math:`X`: latent semantic
    analysis (Deerwester et al. 1990).

    Parameters
    ----------
    texts : sequence of str
        The texts, as a list, an array or a Series. An empty one is a row of zeros.
    components : int, optional
        Number of components of the truncated singular value decomposition; by default the
        features are the terms.
    analyzer : {"word", "char", "char_wb"}, optional
        What terms are made of: words of two or more letters or digits (the default), characters,
        or characters within words.
    ngrams : int or tuple of int, optional
        Words or characters of a term: a number, or the least and the largest one, ``(1, 2)``; 1 by
        default.
    min_df : int or float, optional
        Texts that a term has to be in: a number, 2 by default, or a share below 1.
    max_df : int or float, optional
        Texts that a term may be in at most: a number, or a share below 1; by default all.
    max_terms : int, optional
        Most terms, of those that occur most often.
    lowercase : bool, optional
        Whether capital letters are made small first, as by default.
    sublinear : bool, optional
        Whether a term counts :math:`1 + \log f`, as by default with ``"tfidf"``, or :math:`f`.
    weighting : {"tfidf", "count", "binary"}, optional
        ``"tfidf"`` by default; ``"count"`` is how often a term is there and ``"binary"`` whether,
        without weights of terms and without a division by lengths.
    hashing : int, optional
        Hash terms to so many numbers instead of listing them: terms then have no names, and
        different ones may share a number.
    stop_words : "english" or list of str, optional
        Words that are left out.

    Returns
    -------
    TextFeatures
        With ``values`` of the texts, ``names`` of the columns and ``transform`` of other texts.

    Raises
    ------
    DataError
        For anything but texts, texts without a term, and more components than there are.
    SpecError
        For settings that cannot be, or do not go together.
    ImportError
        Without scikit-learn, which ``pip install 'bayes_moe[sklearn]'`` installs.

    Examples
    --------
    >>> import bayes_moe as bm
    >>> found = bm.text.features(["a good film", "a bad film", "good, good"], min_df=1)
    >>> found.names
    ('bad', 'film', 'good')
    >>> found.values.toarray().round(2).tolist()
    [[0.0, 0.71, 0.71], [0.8, 0.61, 0.0], [0.0, 0.0, 1.0]]
    >>> found.transform(["bad, bad book"]).toarray().tolist()
    [[1.0, 0.0, 0.0]]
    """
    given = {
        "components": components,
        "analyzer": analyzer,
        "ngrams": ngrams,
        "min_df": min_df,
        "max_df": max_df,
        "max_terms": max_terms,
        "lowercase": lowercase,
        "sublinear": sublinear,
        "weighting": weighting,
        "hashing": hashing,
        "stop_words": stop_words,
    }
    settings = TextSettings.of(given, WHERE)
    column = _column(texts)
    vectors, weighted = TextVectors.fit(texts_in(column, WHERE), settings.of_terms, WHERE)
    if settings.components is not None:
        vectors = vectors.decomposed(weighted, settings.components, WHERE)
    return TextFeatures(_shown(vectors.projected(weighted), vectors.names, column.index), vectors)


def _column(texts: Iterable[str]) -> pd.Series:
    """Texts as a complete column.

    Raises
    ------
    DataError
        For a single text, and missing ones.
    """
    import pandas as pd

    if isinstance(texts, str | Mapping) or not isinstance(texts, Iterable):
        raise DataError(
            f"{WHERE} takes a list of texts, such as the values of a mapping; it got {texts!r:.60}."
        )
    column = texts if isinstance(texts, pd.Series) else pd.Series([*texts], dtype=object)
    absent = np.flatnonzero(column.isna().to_numpy(dtype=bool))
    if absent.size:
        raise DataError(
            f"{WHERE} has {absent.size} missing text(s), first at position {absent[0]}: leave them "
            "out, or give '' for a text without words."
        )
    return column if column.name is not None else column.rename("texts")


def _shown(values: Any, names: tuple[str, ...], index: pd.Index) -> Any:
    """Components as a table, terms as they are."""
    import pandas as pd

    if not isinstance(values, np.ndarray):
        return values
    return pd.DataFrame(values, index=index, columns=list(names))

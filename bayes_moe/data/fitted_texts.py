"""Text terms of a design: fitted to its texts once, and made columns of other rows by that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.data.formulas import text_terms
from bayes_moe.data.group_terms import parts
from bayes_moe.data.matrix_columns import elements
from bayes_moe.data.tables import kind
from bayes_moe.data.text_settings import TextTerm
from bayes_moe.data.text_vectors import TextVectors

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class FittedTexts:
    """Text terms of formulas with what was fitted, by the names of the terms.

    Attributes
    ----------
    terms : mapping of str to TextTerm
        The terms.
    vectors : mapping of str to TextVectors
        What was fitted to their texts.
    weighted : mapping of str to sparse matrix (obs, term)
        Numbers of terms in the fitted rows: one matrix for all text terms that have the same ones.
    """

    terms: Mapping[str, TextTerm] = field(default_factory=dict)
    vectors: Mapping[str, TextVectors] = field(default_factory=dict)
    weighted: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def fit(cls, formulas: Iterable[str], columns: pd.DataFrame) -> tuple[Self, pd.DataFrame]:
        """Text terms of formulas, fitted to a complete table, and the table with their columns.

        Terms are counted once for all text terms that have the same ones.

        Raises
        ------
        DataError
            For columns that hold no texts, texts without a term, and components that there are not.
        """
        terms = text_terms(formulas)
        counted: dict[Any, tuple[TextVectors, Any]] = {}
        vectors, every = {}, {}
        for name, term in terms.items():
            key = term.source
            if key not in counted:
                texts = texts_in(columns[term.column], name)
                counted[key] = TextVectors.fit(texts, term.settings.of_terms, repr(name))
            found, weighted = counted[key]
            if term.settings.components is not None:
                found = found.decomposed(weighted, term.settings.components, repr(name))
            vectors[name], every[name] = found, weighted
        result = cls(terms, vectors, every)
        return result, result.of_fitted(columns)

    def of_fitted(self, columns: pd.DataFrame) -> pd.DataFrame:
        """The table of the fitted rows with the columns of the terms."""
        made = {name: v.projected(self.weighted[name]) for name, v in self.vectors.items()}
        return self._beside(columns, made)

    def applied(self, columns: pd.DataFrame) -> pd.DataFrame:
        """A complete table with the columns of the terms.

        Raises
        ------
        DataError
            For columns that hold no texts.
        """
        counted: dict[Any, Any] = {}
        features = {}
        for name, term in self.terms.items():
            key, vectors = term.source, self.vectors[name]
            if key not in counted:
                counted[key] = vectors.terms_of(texts_in(columns[term.column], name))
            features[name] = vectors.projected(counted[key])
        return self._beside(columns, features)

    @property
    def columns(self) -> set[str]:
        """Columns of the table whose texts the terms read."""
        return {term.column for term in self.terms.values()}

    def typical(self, column: str) -> int:
        """Row (obs,) of the fitted text that is most similar to all others on average.

        The similarity of two texts is the cosine of the angle between their numbers of terms, in
        the first text term that reads the column.
        """
        name = next(t.name for t in self.terms.values() if t.column == column)
        rows = self.weighted[name]
        length = np.sqrt((rows**2).sum(axis=1))
        unit = np.divide(1, length, out=np.zeros(len(length)), where=length > 0)
        return int(np.argmax(unit * (rows @ (unit @ rows))))

    def _beside(self, columns: pd.DataFrame, features: Mapping[str, Any]) -> pd.DataFrame:
        """Table with the features of terms as columns."""
        if not features:
            return columns
        import pandas as pd

        from bayes_moe.data.sparse_rows import column_of

        made: dict[str, pd.Series] = {}
        for name, values in features.items():
            if isinstance(values, np.ndarray):
                made |= elements(name, values, columns.index)
            else:
                made[name] = column_of(values, columns.index, self.vectors[name].names)
        return pd.concat([columns, pd.DataFrame(made, index=columns.index)], axis=1)


NO_TEXTS = FittedTexts()
"""A model without text terms."""


def check_no_columns_of_terms(formulas: Iterable[str], columns: Iterable[str]) -> None:
    """Raise :class:`DataError` for columns of a user's table that have the name of a text term."""
    given = [*columns]
    for name in text_terms(formulas):
        taken = [c for c in given if c == name or (c.startswith(f"{name}[") and c.endswith("]"))]
        if taken:
            raise DataError(
                f"The table has a column {taken[0]!r}, which is the name of what the text term "
                f"{name!r} makes. Rename it."
            )


def check_text_terms(
    formulas: Sequence[str], rows: Iterable[str], counts: Mapping[str, str]
) -> None:
    """Raise :class:`SpecError` for text terms where there can be none.

    ``formulas`` are those of a model, that of the response first; ``rows`` are formulas of what
    else is known of rows, such as weights, and ``counts`` those of known numbers, by name.
    """
    named = [("response", formulas[0]), *(("weight", text) for text in rows)]
    named += [(f"formula of {name!r}", text) for name, text in counts.items()]
    named += [("group term", text) for formula in formulas for text in [*parts(formula)][1:]]
    for what, formula in named:
        for name in text_terms([formula]):
            raise SpecError(
                f"The {what} cannot have the text term {name!r} in it, which makes several "
                "columns: it is a term of a gate's formula or of an expert's."
            )


def texts_in(column: pd.Series, name: str) -> list[str]:
    """Texts (row,) of a complete column.

    Raises
    ------
    DataError
        For a column of anything else.
    """
    values: list[str] = column.tolist()
    wrong = next((v for v in values if not isinstance(v, str)), None)
    if wrong is not None:
        held = kind(column)
        held = "other values than texts" if held == "categories" else held
        raise DataError(
            f"{name!r} needs a column of texts; {column.name!r} holds {held}, such as {wrong!r}: "
            "make it text, or leave text() out."
        )
    return values

"""Features of one step of simulated paths, which read the responses simulated before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.core.errors import SpecError
from bayes_moe.data.group_terms import group_columns, without_groups
from bayes_moe.data.matrix import Matrix
from bayes_moe.data.path_matrix import PathMatrix, repeated
from bayes_moe.data.sparse_matrix import SparseMatrix
from bayes_moe.prediction.future_rows import FutureRows
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class PathFeatures:
    """Matrices of the rows of one step, of several series with several paths each.

    Rows of a step are (series, path), and those of a :class:`PathMatrix` (sample, series, path).
    """

    fit: Fit
    future: FutureRows
    samples: int
    paths: int

    def at(self, step: int, values: Mapping[str, np.ndarray]) -> dict[str, Matrix]:
        """Matrices by stem, from values (sample, series * path) of the terms that look back."""
        own = self.future.by_step[step]
        found = {}
        for stem, matrix in self.future.rows.matrices.items():
            plain = repeated(matrix.pick(own), self.paths)
            names = self._read[stem]
            if not names:
                found[stem] = plain
            elif stem in self._columns:
                found[stem] = self._filled(stem, plain, values)
            else:
                found[stem] = self._applied(stem, plain, own, {n: values[n] for n in names})
        return found

    @cached_property
    def _read(self) -> dict[str, tuple[str, ...]]:
        """Terms of responses to come that each formula reads, by stem.

        Raises
        ------
        SpecError
            For those in slopes of groups, beside sparse columns, and in numbers of trials.
        """
        names = [t.name for t in self.future.feedback]
        counts = self.fit.spec.structure.row_count_formulas
        found = {}
        for stem, formula in self.fit.design.formulas.items():
            matrix = self.future.rows.matrices[stem]
            read = tuple(n for n in names if _mentions(formula, matrix, n))
            found[stem] = read
            if not read:
                continue
            where = ""
            if stem in counts:
                where = "a number of trials or an exposure"
            elif isinstance(matrix, SparseMatrix):
                where = "a formula with sparse columns"
            elif group_columns([formula]) and any(
                n in t for n in read for g in matrix.groups for t in g.terms
            ):
                where = "an effect of groups"
            if where:
                raise SpecError(
                    f"{read[0]!r} in {where} ({stem!r}: {formula!r}) reads responses that a "
                    "forecast of so many steps simulates, which is not supported there. Forecast "
                    "as many steps as the term looks back, or put it elsewhere."
                )
        return found

    @cached_property
    def _columns(self) -> dict[str, list[tuple[int, str]]]:
        """Positions of columns that are terms themselves, by stems that have no others of them.

        Offsets of these stems are terms themselves, too.
        """
        found = {}
        for stem, read in self._read.items():
            if not read:
                continue
            matrix, offsets = self.future.rows.matrices[stem], self._offsets(stem)
            mentions = [(j, t) for j, t in enumerate(matrix.terms) if any(n in t for n in read)]
            plain = all(t in read for _, t in (*mentions, *enumerate(offsets)))
            whole = {t for _, t in mentions} | {*offsets} == {*read}
            if plain and whole:
                found[stem] = mentions
        return found

    def _offsets(self, stem: str) -> tuple[str, ...]:
        """What the offsets of a formula add to it: names of terms, where they are such."""
        fitted = self.fit.design._fitted[stem]
        own = set(fitted.columns) - set(fitted.terms)
        return tuple(
            name.removeprefix("offset(").removesuffix(")") for name in fitted.columns if name in own
        )

    @cached_property
    def _table(self) -> pd.DataFrame:
        """The next rows with the columns of text terms."""
        return self.fit.design.texts.applied(self.future.rows.columns)

    def _filled(self, stem: str, plain: Matrix, values: Mapping[str, np.ndarray]) -> PathMatrix:
        """Matrix whose columns and offsets are the terms themselves."""
        filled = np.tile(plain.values, (self.samples, 1))
        for j, name in self._columns[stem]:
            filled[:, j] = values[name].ravel()
        offsets = [values[name].reshape(-1, 1) for name in self._offsets(stem)]
        return PathMatrix.of(
            plain, filled, self.samples, np.sum(offsets, axis=0) if offsets else None
        )

    def _applied(
        self, stem: str, plain: Matrix, own: np.ndarray, values: Mapping[str, np.ndarray]
    ) -> PathMatrix:
        """Matrix of a formula that makes more of the terms, evaluated on all paths."""
        fitted = self.fit.design._fitted[stem]
        table: pd.DataFrame = self._table.iloc[np.repeat(own, self.paths)]
        index = np.tile(np.arange(len(table)), self.samples)
        table = table.iloc[index].reset_index(drop=True)
        table = table.assign(**{name: value.ravel() for name, value in values.items()})
        found, offset = fitted.parted(fitted.apply(table, np.tile(own, self.samples * self.paths)))
        return PathMatrix.of(plain, found, self.samples, offset)


def _mentions(formula: str, matrix: Matrix, name: str) -> bool:
    """Whether a formula has a term; its text there may have other spaces than its name."""
    packed = "".join(name.split())
    texts: Sequence[str] = (formula, without_groups(formula), *matrix.terms)
    return any(packed in "".join(text.split()) for text in texts)

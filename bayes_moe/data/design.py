"""Design: formulas fitted to a table, with its matrices and response; also applied to new rows.

A design keeps the columns that it was fitted to, so it can be fitted again to the same numbers: a
saved fit stores the columns, and no pickle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_one_of
from bayes_moe.core.errors import DataError, unknown
from bayes_moe.core.samples import Sample
from bayes_moe.data.censored_response import Limits, plain_values
from bayes_moe.data.class_labels import Levels, ResponseRule, codes
from bayes_moe.data.coded_response import CodedResponse
from bayes_moe.data.design_checks import (
    check_all_features,
    check_degenerate,
)
from bayes_moe.data.fitted_groups import FittedGroups, fit_groups
from bayes_moe.data.fitted_texts import NO_TEXTS, FittedTexts
from bayes_moe.data.fitted_types import as_fitted
from bayes_moe.data.formula_functions import Functions
from bayes_moe.data.formulas import FittedFormula, looked_up, text_terms, used_columns
from bayes_moe.data.group_terms import ERROR
from bayes_moe.data.in_time import InTime
from bayes_moe.data.matrix import Rows, design_matrix
from bayes_moe.data.matrix_columns import check_width
from bayes_moe.data.missing import (
    MISSING,
    fill_gaps,
    refuse_or_drop,
    with_gap_cells,
    with_gaps,
)
from bayes_moe.data.observation import Observation
from bayes_moe.data.open_ends import open_ends, open_terms
from bayes_moe.data.past_rows import NO_PAST, PastRows
from bayes_moe.data.recording import recording_limits, recording_terms
from bayes_moe.data.responses import response_formula, response_values
from bayes_moe.data.sparse_columns import matrices_as_fitted
from bayes_moe.data.sparse_matrix import beside_sparse, with_columns
from bayes_moe.data.sparse_terms import dense_part
from bayes_moe.data.tables import in_index, row_labels, to_pandas
from bayes_moe.data.used_columns import Stored, UsedColumns, columns_in_use

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Design(InTime):
    """Formulas of a model fitted to a table.

    Attributes
    ----------
    rows : Rows
        The rows the model is fitted to, with their response.
    response_term : str
        Left-hand side of the formula: a column, an expression such as ``log(y)``, or several of
        them, ``cbind(y1, y2)``.
    formulas : mapping of str to str
        Right-hand side by predictor stem (``"gate"``, ``"mu"``, ...).
    n_dropped : int
        Rows left out because of missing values (only with ``missing="drop"``).
    may_miss : mapping of str to str or None
        Columns that the gate models, and why their missing values cannot be integrated out; None
        where they can.
    levels : tuple or None
        Labels of the response's classes, in the order of the codes 0, 1, ... that are the values
        of the response; None for a response of numbers.
    limits : Limits or None
        What the response states of censoring and truncation; None if it is observed in all rows.
    past : PastRows
        All rows in time, and the terms that look back: see :mod:`bayes_moe.data.past_rows`.
    texts : FittedTexts
        Text terms of the formulas, fitted to the rows.
    """

    rows: Rows
    response_term: str
    formulas: Mapping[str, str]
    center: bool
    n_dropped: int
    _fitted: Mapping[str, FittedFormula]
    may_miss: Mapping[str, str | None] = field(default_factory=dict)
    levels: Levels | None = None
    _groups: Mapping[str, tuple[FittedGroups, ...]] = field(default_factory=dict)
    limits: Limits | None = None
    past: PastRows = NO_PAST
    texts: FittedTexts = NO_TEXTS

    @classmethod
    def from_data(
        cls,
        response: str | ResponseRule | None,
        formulas: Mapping[str, str],
        data: Any,
        *,
        missing: str = "raise",
        center: bool = True,
        may_miss: Mapping[str, str | None] | None = None,
        functions: Functions | None = None,
    ) -> Design:
        """Fit formulas to a table.

        Parameters
        ----------
        response : str, ResponseRule or None
            Left-hand side, e.g. ``"tuned"``, with what the model makes of classes, if it is no
            number; None for a table without a response.
        formulas : mapping of str to str
            Right-hand side by predictor stem.
        data : DataFrame or mapping of arrays
            pandas, polars, anything narwhals reads, or a dict of equally long arrays. Series and
            DataArrays in a dict are paired by their row labels, as pandas does.
        missing : {"raise", "drop", "model"}
            Treatment of rows that have missing values in a used column. With ``"model"`` they
            are kept, and missing values are NaN in the matrices.
        center : bool
            Whether features are centred (if there is an intercept).
        may_miss : mapping of str to str or None, optional
            See :class:`Design`.
        functions : mapping of str to callable, optional
            The user's functions that the formulas call.

        Raises
        ------
        DataError
            For unknown columns, missing or infinite values, constant or duplicate design
            columns, and tables without enough rows.
        SpecError
            For functions that the formulas call and that are neither listed nor given.
        """
        check_one_of("value of `missing`", missing, MISSING)
        may_miss = may_miss or {}
        rule = _rule(response)
        used = columns_in_use(data, rule, formulas, (missing, may_miss), functions)
        coded = CodedResponse.read(used.columns, np.flatnonzero(used.kept), rule, used.limits)
        return cls._fit(used, coded, formulas, center, may_miss, functions)

    @classmethod
    def restored(
        cls,
        response: str | ResponseRule,
        formulas: Mapping[str, str],
        columns: pd.DataFrame,
        *,
        center: bool,
        may_miss: Mapping[str, str | None],
        functions: Functions | None,
        stored: Stored,
    ) -> Design:
        """Fit formulas to the columns of a saved fit again, with its fitted text terms.

        ``stored`` has the numbers of columns that formulas make, by stem (``"y"`` for the
        response): a formula that makes more is refused before these are made.

        Raises
        ------
        DataError, SpecError
            As :meth:`from_data` does.
        """
        rule = _rule(response)
        used = columns_in_use(columns, rule, formulas, ("model", may_miss), functions)
        used = replace(used, texts=stored.texts)
        coded = CodedResponse.read(used.columns, np.flatnonzero(used.kept), rule, used.limits)
        return cls._fit(used, coded, formulas, center, may_miss, functions, stored.columns)

    @classmethod
    def _fit(
        cls,
        used: UsedColumns,
        response: CodedResponse,
        formulas: Mapping[str, str],
        center: bool,
        may_miss: Mapping[str, str | None],
        functions: Functions | None,
        expected: Mapping[str, int] = MappingProxyType({}),
    ) -> Design:
        """Fit formulas to the used columns of a table."""
        positions = np.flatnonzero(used.kept)
        check_all_features(formulas, used.columns)
        fitted: dict[str, FittedFormula] = {}
        fit = partial(FittedFormula.fit, functions=functions)
        texts, wide = used.with_texts(formulas.values())

        def values_of(stem: str, formula: str) -> np.ndarray:
            own = stem == names.RESPONSE
            columns, most = response.columns if own else wide, expected.get(stem)
            found = fit(formula, columns, positions, is_response=own, expected=most)
            fitted[stem], values = found
            return values

        observed = None
        if response.term:
            response.check(formulas, used.columns)
            values = values_of(names.RESPONSE, response_formula(response.term))
            observed = response_values(response.term, values, response.limits, used.gaps, positions)
        matrices, weights = {}, used.observation.weights
        grouped, groups = fit_groups(formulas, used.columns, positions, fit, weights)
        for stem, formula in formulas.items():
            every = values_of(stem, dense_part(formula, wide))
            terms, (values, offset) = fitted[stem].terms, fitted[stem].parted(every)
            if observed is not None:
                check_degenerate(values, terms, stem)
            known = with_gaps(values, terms, used.gaps)
            dense = design_matrix(known, terms, center, weights, (offset, groups[stem]))
            matrices[stem] = with_columns(dense, wide, (stem, formula), weights, center)
        seen = replace(used.observation, response=observed)
        rows = Rows(matrices, positions, with_gap_cells(used.columns, used.gaps), seen, used.index)
        described = (response.term, dict(formulas), center, used.n_dropped, fitted, may_miss)
        found = (response.levels, grouped, response.limits, used.past, texts)
        return cls(rows.in_time(), *described, *found)

    def labelled(self, obs_id: np.ndarray, index: pd.Index | None = None) -> Design:
        """The same design with other positions (obs,) of its rows, and other labels (obs,)."""
        return replace(self, rows=replace(self.rows, obs_id=np.asarray(obs_id), index=index))

    @property
    def response(self) -> np.ndarray:
        """Values (obs,) of the response term; codes 0, 1, ... of classes.

        Those of several responses are (response, obs). What is known of a censored or truncated
        one is (number, obs): see :class:`bayes_moe.data.censored_response.Limits`.
        """
        return self.rows.observed

    @property
    def plain_response(self) -> np.ndarray:
        """As :attr:`response`, with one number (obs,) for what is known of a censored one."""
        return self.response if self.limits is None else plain_values(self.response)

    @property
    def first_response(self) -> np.ndarray:
        """Values (obs,) of the response, or of the first of several."""
        return np.atleast_2d(self.plain_response)[0]

    @property
    def first_sample(self) -> Sample:
        """The response, or the first of several, with the weights of the rows."""
        return Sample(self.first_response, self.rows.weights)

    @property
    def response_formula(self) -> str:
        """Formula whose columns are the responses."""
        return response_formula(self.response_term)

    @property
    def columns(self) -> pd.DataFrame:
        """Used columns of the rows that the model is fitted to."""
        table: pd.DataFrame = self.rows.columns
        return table

    def depends_on_rows(self, stem: str) -> bool:
        """Whether columns depend on the fitted rows: on their categories, knots, means or texts.

        ``stem`` is that of a formula, or ``"y"`` for the response.
        """
        fitted = self._fitted[stem]
        more = bool(self._groups.get(stem)) or bool(text_terms([self.formulas.get(stem, "~ 1")]))
        return bool(fitted.spec.transform_state) or bool(fitted.categories) or more

    def transform(
        self, data: Any = None, *, with_response: bool = False, unseen: str = ERROR
    ) -> Rows:
        """Matrices of new rows; None means the fitted rows.

        Categories, spline knots, polynomial bases, centring and scaling are those of the
        fitted rows. Missing values of columns that the gate models are NaN in the matrices, if
        they can be integrated out. ``unseen`` is what is done with groups of group terms that the
        fitted rows lack: see :meth:`bayes_moe.data.fitted_groups.FittedGroups.apply`.

        Raises
        ------
        DataError
            For unknown columns, missing values in others, and categories that the fitted rows lack.
        """
        if data is None:
            return self.rows
        table = matrices_as_fitted(to_pandas(data), self.columns)
        index = row_labels(table)
        functions = next(iter(self._fitted.values())).functions
        table, in_time = self.past.placed(table, functions)
        expressions = [*self.formulas.values()] + ([self.response_formula] if with_response else [])
        used = _needed(self.columns, expressions, table)
        limits, table = self.limits if with_response else None, table[used].reset_index(drop=True)
        table, ends = open_ends(limits, table, self.formulas.values())
        table, gaps = fill_gaps(table, self.may_miss, self.columns)
        complete, _ = refuse_or_drop(table, "raise", "Fill or remove them.")
        columns = self._typed(complete)
        labels, wide = np.arange(len(columns)), self.texts.applied(columns)
        matrices = {}
        for stem, matrix in self.rows.matrices.items():
            fitted = self._fitted[stem]
            values, offset = fitted.parted(fitted.apply(wide, labels))
            groups = tuple(g.apply(columns, labels, unseen) for g in self._groups.get(stem, ()))
            known = with_gaps(values, matrix.terms, gaps)
            at = matrix.at(beside_sparse(matrix, known, wide), offset)
            matrices[stem] = replace(at, groups=groups)
        response = None
        if with_response:
            values = self._fitted[names.RESPONSE].apply(_coded(self, columns, labels), labels)
            response = response_values(self.response_term, values, self.limits, ends, labels)
        seen, cells = Observation(response), with_gap_cells(columns, {**gaps, **ends})
        return self.continued(Rows(matrices, labels, cells, seen, index), in_time)

    def recording(self, data: Any = None) -> np.ndarray | None:
        """Limits (4, obs) of what is recorded of rows: see :mod:`bayes_moe.data.recording`.

        None if responses are recorded as they are. A response that has stated limits is not read.

        Raises
        ------
        DataError
            For unknown columns and missing values, and rows of which no limit is known.
        """
        if self.limits is None:
            return None
        table = self.columns if data is None else to_pandas(data)
        used = _needed(self.columns, list(recording_terms(self.limits)), table)
        every = used_columns([self.response_formula], list(self.columns.columns))
        # A response that has stated limits may have any value.
        others = {name: self.columns[name].iloc[0] for name in every if name not in used}
        table, ends = open_ends(
            self.limits, table[used].reset_index(drop=True).assign(**others), ()
        )
        complete, _ = refuse_or_drop(table, "raise", "Fill or remove them.")
        labels = self.rows.obs_id if data is None else np.arange(len(complete))
        columns = self._typed(complete)
        values = self._fitted[names.RESPONSE].apply(_coded(self, columns, labels), labels)
        return recording_limits(self.limits, values, open_terms(self.limits, ends), labels)

    def _typed(self, columns: pd.DataFrame) -> pd.DataFrame:
        """New columns in the types of the fitted ones; DataError for values these cannot hold."""
        labelled = [] if self.levels is None else looked_up(self.response_term)
        fits = self._fitted.values()
        return as_fitted(columns, self.columns, self.formulas, fits, labelled)


def _coded(design: Design, columns: pd.DataFrame, labels: np.ndarray) -> pd.DataFrame:
    """Columns with codes in place of labels of the response's classes, and of a status."""
    if design.limits is not None:
        return design.limits.coded(columns, labels)
    if design.levels is None:
        return columns
    name = looked_up(design.response_term)[0]
    return columns.assign(**{name: codes(name, columns[name], design.levels, labels)})


def _rule(response: str | ResponseRule | None) -> ResponseRule:
    """What is made of a response, which is numeric unless a rule says otherwise."""
    return response if isinstance(response, ResponseRule) else ResponseRule(response or "")


def _needed(fitted: pd.DataFrame, expressions: list[str], table: pd.DataFrame) -> list[str]:
    """Those of the fitted columns that formulas use; DataError for what a table lacks of them."""
    used = used_columns(expressions, list(fitted.columns))
    for name in (n for e in expressions for n in looked_up(e) if n not in fitted):
        check_width(name, fitted.columns, table.columns)
    for name in used:
        if name not in table.columns:
            hint = in_index(name, table.index.names)
            raise DataError(f"{unknown('column', name, table.columns)} The model needs it.{hint}")
    return used

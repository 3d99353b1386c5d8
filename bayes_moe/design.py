"""Formula + table -> Design: matrices, response, terms, scaling; the same recipe for new rows.

Formulas are formulaic's. A design remembers the columns it was made from, so it can be remade
exactly from its formulas and its table: that is how a saved fit comes back without pickle.
"""

from __future__ import annotations

import ast
import builtins
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe import names
from bayes_moe.errors import DataError, MissingRowsWarning, SpecError, unknown

if TYPE_CHECKING:
    import pandas as pd

INTERCEPT = "Intercept"


@dataclass(frozen=True)
class Matrix:
    """The features of one linear predictor, for one set of rows.

    ``values`` (obs, term) are on the user's scale. ``center`` and ``scale`` (term,) belong to
    the rows that the model was fitted to: ``standardised`` is ``(values - center) / scale``.
    """

    terms: tuple[str, ...]
    values: np.ndarray
    center: np.ndarray
    scale: np.ndarray

    @property
    def intercept(self) -> int | None:
        """Position of the intercept among the terms, or None."""
        return self.terms.index(INTERCEPT) if INTERCEPT in self.terms else None

    @property
    def standardised(self) -> np.ndarray:
        """Centred and scaled features (obs, term)."""
        return (self.values - self.center) / self.scale

    @property
    def to_user(self) -> np.ndarray:
        """Matrix (term, term) that takes coefficients of ``standardised`` to those of ``values``.

        ``beta = raw @ to_user``: slopes are divided by their scale, and what centring took out
        goes back into the intercept.
        """
        linear = np.diag(1 / self.scale)
        if self.intercept is not None:
            linear[:, self.intercept] -= self.center / self.scale
        return linear


@dataclass(frozen=True)
class Rows:
    """New rows seen through a design: matrices by predictor, row labels, perhaps a response."""

    matrices: Mapping[str, Matrix]
    obs_id: np.ndarray
    columns: Any
    response: np.ndarray | None = None

    @property
    def size(self) -> int:
        """How many rows there are."""
        return len(self.obs_id)

    @property
    def observed(self) -> np.ndarray:
        """The response (obs,) of rows that have one."""
        if self.response is None:
            raise DataError("These rows have no response.")
        return self.response

    def pick(self, which: slice | np.ndarray) -> Rows:
        """Return some of the rows, by position."""
        matrices = {
            stem: Matrix(m.terms, m.values[which], m.center, m.scale)
            for stem, m in self.matrices.items()
        }
        response = None if self.response is None else self.response[which]
        return Rows(matrices, self.obs_id[which], self.columns.iloc[which], response)


@dataclass(frozen=True)
class Design:
    """A table seen through the formulas of a model.

    Attributes
    ----------
    rows : Rows
        The rows the model is fitted to, with their response.
    response_term : str
        Left-hand side of the formula: a column, or an expression such as ``log(y)``.
    formulas : mapping of str to str
        Right-hand side by predictor stem (``"gate"``, ``"mu"``, ...).
    n_dropped : int
        Rows left out because of missing values (only with ``missing="drop"``).
    """

    rows: Rows
    response_term: str
    formulas: Mapping[str, str]
    center: bool
    n_dropped: int
    _recipes: Mapping[str, Any]

    @classmethod
    def from_data(
        cls,
        response: str | None,
        formulas: Mapping[str, str],
        data: Any,
        *,
        missing: str = "raise",
        center: bool = True,
        obs_id: np.ndarray | None = None,
    ) -> Design:
        """Apply formulas to a table.

        Parameters
        ----------
        response : str or None
            Left-hand side, e.g. ``"tuned"``; None for a table without a response.
        formulas : mapping of str to str
            Right-hand side by predictor stem.
        data : DataFrame or mapping of arrays
            pandas, polars, anything narwhals reads, or a dict of equally long arrays.
        missing : {"raise", "drop"}
            What to do with rows that have missing values in a used column.
        center : bool
            Whether features are centred (if there is an intercept).
        obs_id : array, optional
            Row labels; by default the positions of the rows in ``data``.

        Raises
        ------
        DataError
            For unknown columns, missing or infinite values, constant or duplicate design
            columns, and tables without enough rows.
        """
        if missing not in ("raise", "drop"):
            raise SpecError(unknown("value of `missing`", missing, ("raise", "drop")))
        table = to_pandas(data)
        if len(table) < 2:
            raise DataError(f"The table has {len(table)} row(s); a mixture needs at least 2.")
        left = [] if response is None else [response]
        used = used_columns([*left, *formulas.values()], list(table.columns))
        columns = table[used].reset_index(drop=True)
        keep = _complete(columns, missing)
        n_dropped = int(len(columns) - keep.sum())
        labels = np.arange(len(columns)) if obs_id is None else np.asarray(obs_id)
        columns, labels = columns[keep].reset_index(drop=True), labels[keep]
        if n_dropped:
            if len(columns) < 2:
                raise DataError(f"missing='drop' would leave {len(columns)} of {len(keep)} rows.")
            warnings.warn(
                f"missing='drop' left out {n_dropped} of {len(keep)} rows with missing values.",
                MissingRowsWarning,
                stacklevel=3,
            )
        recipes: dict[str, Any] = {}
        observed = None
        if response is not None:
            recipes[names.RESPONSE] = _recipe(f"{response} - 1", columns)
            observed = _response(recipes, columns, response)
        matrices = {}
        for stem, formula in formulas.items():
            recipes[stem] = _recipe(formula, columns)
            matrices[stem] = _matrix(recipes[stem], columns, stem, center)
        rows = Rows(matrices, labels, columns, observed)
        return cls(rows, response or "", dict(formulas), center, n_dropped, recipes)

    @property
    def response(self) -> np.ndarray:
        """The response (obs,) as the model sees it."""
        return self.rows.observed

    @property
    def columns(self) -> pd.DataFrame:
        """The used columns of the rows the model is fitted to."""
        table: pd.DataFrame = self.rows.columns
        return table

    def transform(self, data: Any = None, *, with_response: bool = False) -> Rows:
        """See new rows through this design; None means the rows it was made from.

        Categories, spline knots, polynomial bases, centring and scaling are those of the
        original rows.

        Raises
        ------
        DataError
            For unknown columns, missing values, and categories that were not seen.
        """
        if data is None:
            return self.rows
        table = to_pandas(data)
        wanted = [*self.formulas.values()] + ([self.response_term] if with_response else [])
        used = used_columns(wanted, list(table.columns))
        columns = table[used].reset_index(drop=True)
        _complete(columns, "raise")
        self._check_categories(columns)
        matrices = {}
        for stem, seen in self.rows.matrices.items():
            values = _apply(self._recipes[stem], columns, seen.terms)
            matrices[stem] = Matrix(seen.terms, values, seen.center, seen.scale)
        response = _response(self._recipes, columns, self.response_term) if with_response else None
        return Rows(matrices, np.arange(len(columns)), columns, response)

    def _check_categories(self, columns: pd.DataFrame) -> None:
        for recipe in self._recipes.values():
            for factor, (kind, state) in recipe.encoder_state.items():
                if kind.value != "categorical" or "categories" not in state:
                    continue
                seen = list(state["categories"])
                for column in used_columns([str(factor)], [*columns.columns], strict=False):
                    if str(factor) not in (column, f"C({column})", f"`{column}`"):
                        continue
                    new = columns.loc[~columns[column].isin(seen), column]
                    if len(new):
                        raise DataError(
                            f"Column {column!r} has categories that the fitted rows do not: "
                            f"{_listed(dict.fromkeys(new))} (first at row {new.index[0]}). "
                            f"Known: {_listed(seen)}."
                        )


def to_pandas(data: Any) -> pd.DataFrame:
    """Turn any supported table into a pandas DataFrame, without touching the user's object."""
    import narwhals.stable.v2 as nw
    import pandas as pd

    if isinstance(data, Mapping):
        data = {k: np.asarray(v) for k, v in data.items()}
        bad = {k: v.shape for k, v in data.items() if v.ndim != 1}
        if bad:
            raise DataError(f"Columns of a dict must be one-dimensional; shapes: {bad}.")
        if len({len(v) for v in data.values()}) > 1:
            lengths = {k: len(v) for k, v in data.items()}
            raise DataError(f"Columns of a dict must be equally long; lengths: {lengths}.")
        return pd.DataFrame(data)
    if isinstance(data, pd.DataFrame):
        table = data
    else:
        try:
            table = nw.from_native(data, eager_only=True).to_pandas()
        except TypeError as error:
            raise DataError(
                f"Cannot read a table from {type(data).__name__!r}: give a pandas or polars "
                "DataFrame, another eager table that narwhals reads, or a dict of arrays."
            ) from error
    doubled = [str(c) for c in table.columns[table.columns.duplicated()]]
    if doubled:
        raise DataError(f"Duplicate column names: {_listed(dict.fromkeys(doubled))}. Rename them.")
    return table


def used_columns(formulas: list[str], available: list[str], *, strict: bool = True) -> list[str]:
    """Return the table's columns that formulas use, in the table's order.

    Raises
    ------
    DataError
        For a name that is neither a column nor a function of the formula language.
    """
    from formulaic.transforms import TRANSFORMS

    known = {*TRANSFORMS, *dir(builtins)}
    used: set[str] = set()
    for formula in formulas:
        for expression in _expressions(formula):
            for name, is_function in _names(expression):
                if name in available and not (is_function and name in known):
                    used.add(name)
                elif name not in known and strict:
                    kind = "function in the formula" if is_function else "column"
                    pool = sorted(TRANSFORMS) if is_function else [str(c) for c in available]
                    raise DataError(f"{unknown(kind, name, pool)} (formula {formula!r})")
    return [c for c in available if c in used]


def parse_formula(formula: str) -> Any:
    """Parse a formula, with an error that shows it."""
    from formulaic import Formula
    from formulaic.errors import FormulaicError

    try:
        return Formula(formula)
    except (FormulaicError, SyntaxError) as error:
        reason = str(error).splitlines()[0]
        raise SpecError(f"Cannot read the formula {formula!r}: {reason}") from error


def _expressions(formula: str) -> list[str]:
    parsed = parse_formula(formula)
    return [
        factor.expr if factor.eval_method.value != "lookup" else f"`{factor.expr}`"
        for term in parsed
        for factor in term.factors
        if factor.eval_method.value != "literal"
    ]


def _names(expression: str) -> list[tuple[str, bool]]:
    """Names in a formula's expression, each with whether it is called as a function."""
    quoted: dict[str, str] = {}

    def alias(match: re.Match[str]) -> str:
        key = f"quoted_{len(quoted)}_"
        quoted[key] = match.group(1)
        return key

    tree = ast.parse(re.sub(r"`([^`]+)`", alias, expression).strip(), mode="eval")
    called = {id(_root(node.func)) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return [
        (quoted.get(node.id, node.id), id(node) in called)
        for node in ast.walk(tree)
        if isinstance(node, ast.Name)
    ]


def _root(node: ast.AST) -> ast.AST:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node


def _complete(columns: pd.DataFrame, missing: str) -> np.ndarray:
    """Return a mask of complete rows; raise for missing values unless they are to be dropped."""
    import pandas as pd

    keep = np.ones(len(columns), dtype=bool)
    for column in columns:
        series = columns[column]
        bad = series.isna().to_numpy(dtype=bool)
        if pd.api.types.is_float_dtype(series.dtype):
            infinite = np.isinf(series.to_numpy(dtype=float, na_value=np.nan))
            if infinite.any():
                raise DataError(
                    f"Column {column!r} has {int(infinite.sum())} infinite value(s), first at "
                    f"row(s) {_listed(np.flatnonzero(infinite))}. Mend or remove them."
                )
        if bad.any() and missing == "raise":
            raise DataError(
                f"Column {column!r} has {int(bad.sum())} missing value(s), first at row(s) "
                f"{_listed(np.flatnonzero(bad))}. Fill them, or pass missing='drop' to fit."
            )
        keep &= ~bad
    return keep


def _recipe(formula: str, columns: pd.DataFrame) -> Any:
    return _materialise(parse_formula(formula), columns, formula).model_spec


def _materialise(recipe: Any, columns: pd.DataFrame, shown: str) -> Any:
    from formulaic.errors import DataMismatchWarning, FormulaicError

    # A formula without columns (`~ 1`) takes its number of rows from the table's index.
    table = columns if columns.shape[1] else columns.assign(**{names.OBS: 0})
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", DataMismatchWarning)
            return recipe.get_model_matrix(table, na_action="ignore")
    except DataMismatchWarning as error:
        raise DataError(f"Unseen category in {shown!r}: {error}") from error
    except (FormulaicError, ValueError, TypeError, NameError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise DataError(f"Cannot evaluate the formula {shown!r} on the table: {reason}") from error


def _apply(recipe: Any, columns: pd.DataFrame, terms: tuple[str, ...] | None = None) -> np.ndarray:
    matrix = _materialise(recipe, columns, str(recipe.formula))
    if terms is not None and tuple(map(str, matrix.columns)) != terms:
        raise DataError(
            f"The formula {str(recipe.formula)!r} gave the columns {list(matrix.columns)} on these "
            f"rows but {list(terms)} on the fitted ones."
        )
    values = np.asarray(matrix, dtype=float)
    bad = ~np.isfinite(values)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise DataError(
            f"The term {matrix.columns[column]!r} is not finite at row {row} (and at "
            f"{int(bad.any(axis=1).sum()) - 1} more): check the function and its domain."
        )
    return values


def _matrix(recipe: Any, columns: pd.DataFrame, stem: str, center: bool) -> Matrix:
    values = _apply(recipe, columns)
    terms = tuple(str(c) for c in recipe.column_names)
    if not terms:
        raise DataError(f"The formula of {stem!r} has no terms; write '~ 1' for a constant.")
    has_intercept = INTERCEPT in terms
    _check_degenerate(values, terms, stem, has_intercept)
    free = np.array([t != INTERCEPT for t in terms])
    mean, sd = values.mean(axis=0), values.std(axis=0)
    root_mean_square = np.sqrt(np.mean(values**2, axis=0))
    centre = np.where(free & has_intercept & center, mean, 0.0)
    scale = np.where(free, sd if has_intercept else root_mean_square, 1.0)
    return Matrix(terms, values, centre, scale)


def _check_degenerate(
    values: np.ndarray, terms: tuple[str, ...], stem: str, has_intercept: bool
) -> None:
    """Refuse columns that no data can tell from the intercept or from one another."""
    columns = [j for j, t in enumerate(terms) if t != INTERCEPT]
    size = np.abs(values).max(axis=0)
    for j in columns:
        constant = np.ptp(values[:, j]) <= 1e-12 * size[j]
        if constant and (has_intercept or size[j] == 0):
            raise DataError(
                f"The design column {terms[j]!r} of {stem!r} is constant "
                f"({values[0, j]:g} in every row). Remove it from the formula."
            )
    shifted = values[:, columns] - (values[:, columns].mean(axis=0) if has_intercept else 0.0)
    unit = shifted / np.linalg.norm(shifted, axis=0)
    parallel = np.triu(np.abs(unit.T @ unit) > 1 - 1e-12, k=1)
    if parallel.any():
        a, b = np.argwhere(parallel)[0]
        raise DataError(
            f"The design columns {terms[columns[a]]!r} and {terms[columns[b]]!r} of {stem!r} are "
            "duplicates of each other (up to shift and scale). Remove one."
        )


def _response(recipes: Mapping[str, Any], columns: pd.DataFrame, shown: str) -> np.ndarray:
    values = _apply(recipes[names.RESPONSE], columns)
    if values.shape[1] != 1:
        raise DataError(
            f"The response {shown!r} makes {values.shape[1]} columns; it must be one, and numeric."
        )
    return values[:, 0]


def _listed(values: Any, most: int = 5) -> str:
    shown = [str(v) for v in values]
    return ", ".join(shown[:most]) + (", ..." if len(shown) > most else "")

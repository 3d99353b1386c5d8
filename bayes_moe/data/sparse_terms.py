"""Terms of formulas that are sparse matrices, which are columns of the table by themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bayes_moe.core.errors import DataError
from bayes_moe.data.formula_factors import columns_of, is_lookup, is_text
from bayes_moe.data.formulas import parse_formula, text_terms
from bayes_moe.data.group_terms import parts, without_groups
from bayes_moe.data.sparse_columns import sparse_names

if TYPE_CHECKING:
    import pandas as pd


def sparse_terms(formula: str, names: Iterable[str]) -> tuple[str, ...]:
    """Sparse columns that are terms of a formula, of those among ``names``.

    Raises
    ------
    DataError
        For one inside a product, a function or a group term.
    """
    known, found = [*names], dict[str, None]()
    if not known:
        return ()
    fixed, *grouped = parts(formula)
    for term in parse_formula(fixed):
        used = {
            n: f
            for f in term.factors
            if f.eval_method.value != "literal"
            for n in columns_of(f, known)[0]
            if n in known
        }
        for name, factor in used.items():
            if len(term.factors) > 1 or not (is_lookup(factor) or is_text(factor)):
                raise DataError(_only_a_term(name, str(term), formula))
            found[name] = None
    for part in grouped:
        for term in parse_formula(part):
            for factor in term.factors:
                if str(factor.expr) in known:
                    raise DataError(_only_a_term(str(factor.expr), str(term), formula))
    return tuple(found)


def _only_a_term(name: str, term: str, formula: str) -> str:
    """Message on a sparse column that is not a term by itself."""
    return (
        f"Column {name!r} is a sparse matrix, which is only a term by itself, as in 'y ~ {name}'; "
        f"{term!r} is something else (formula {formula!r}). Multiply it before, or give it as an "
        f"array, {name}.toarray(), if that is small."
    )


def dense_part(formula: str, columns: pd.DataFrame) -> str:
    """The text of a formula without group terms and those that are sparse columns of a table."""
    sparse = sparse_terms(formula, sparse_names(columns))
    made = text_terms([formula])
    left_out = (name if name in made else f"`{name}`" for name in sparse)
    return without_groups(formula) + "".join(f" - {name}" for name in left_out)

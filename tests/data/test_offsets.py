"""Offsets of formulas: what they are, and formulas without them."""

import numpy as np
import pandas as pd
import pytest

from bayes_moe.core.errors import SpecError
from bayes_moe.data.design import Design
from bayes_moe.data.formulas import offset_columns, parse_formula, without_offsets
from bayes_moe.data.offsets import is_offset

TABLE = pd.DataFrame(
    {"y": [1.0, 2, 4, 3], "x": [1.0, 3, 2, 5], "e": [1.0, 2, 3, 4], "z": [0.0, 1, 0, 2]}
)


@pytest.mark.parametrize(
    ("formula", "widths"),
    [
        ("~ x", []),
        ("~ x + offset(e)", [1]),
        ("~ offset(log(e)) + x + offset(z)", [1, 1]),
        ("~ 1 + offset(e, z, x)", [3]),
        ("y ~ x + offset(log(e + 1))", [1]),
    ],
)
def test_widths(formula, widths):
    assert offset_columns(formula) == widths


@pytest.mark.parametrize(
    "formula",
    [
        "~ x",
        "~ x + offset(e)",
        "~ offset(log(e)) + x + offset(z)",
        "~ offset(e)",
        "~ 0 + x + offset(e)",
        "~ offset(e) + 0 + x",
        "~ (offset(e) + x)",
        "~ 0 + (offset(e) + x)",
        "~ x*z + offset( `e` ) + I(x**2)",
        "~ (x + offset(e) + z) + offset(z)",
        "y ~ x + offset(log(e)) + z",
    ],
)
def test_formulas_without_offsets(formula):
    bare = parse_formula(without_offsets(formula))
    parsed = parse_formula(formula)
    bare, parsed = (getattr(p, "rhs", p) for p in (bare, parsed))
    assert {*map(str, bare)} == {str(term) for term in parsed if not is_offset(term)}


def test_a_formula_without_offsets_stays_as_it_is():
    assert without_offsets("~ x  + z") == "~ x  + z"
    assert without_offsets("~ x + offset(log(e)) + z") == "~ x + z"


def test_offsets_add_up_and_are_no_terms():
    formula = "~ x + offset(log(e)) + offset(2 * z)"
    design = Design.from_data("y", {"mu": formula}, TABLE)
    matrix = design.rows.matrices["mu"]
    expected = np.log(TABLE["e"]) + 2 * TABLE["z"]
    assert matrix.terms == ("Intercept", "x")
    np.testing.assert_allclose(matrix.offset[:, 0], expected, rtol=1e-15)
    assert matrix.level == pytest.approx(expected.mean())
    picked = design.rows.pick(np.array([2, 0])).matrices["mu"]
    np.testing.assert_array_equal(picked.offset, matrix.offset[[2, 0]])
    new = design.transform(TABLE.iloc[1:3]).matrices["mu"]
    np.testing.assert_array_equal(new.offset, matrix.offset[1:3])
    assert new.level == matrix.level
    assert design.transform(TABLE.iloc[:0]).matrices["mu"].offset.shape == (0, 1)


def test_one_column_is_added_to_several():
    design = Design.from_data("y", {"gate": "~ x + offset(e, z) + offset(x)"}, TABLE)
    expected = TABLE[["e", "z"]].to_numpy() + TABLE[["x"]].to_numpy()
    np.testing.assert_allclose(design.rows.matrices["gate"].offset, expected)


def test_an_offset_may_be_constant_or_a_copy_of_a_feature():
    formula = "~ x + offset(x) + offset(7 + 0 * x)"
    assert Design.from_data("y", {"mu": formula}, TABLE).rows.matrices["mu"].terms[1] == "x"


def test_an_offset_may_remember_the_fitted_rows():
    design = Design.from_data("y", {"mu": "~ x + offset(center(z))"}, TABLE)
    assert design.depends_on_rows("mu")
    new = design.transform(TABLE.iloc[:2]).matrices["mu"].offset[:, 0]
    np.testing.assert_allclose(new, TABLE["z"][:2] - TABLE["z"].mean())


@pytest.mark.parametrize(
    "formula", ["~ x:offset(e)", "~ x*offset(e)", "~ I(offset(e))", "offset(y) ~ x", "~ offset()"]
)
def test_what_is_no_offset_is_refused(formula):
    with pytest.raises(SpecError, match="offset"):
        parse_formula(formula)

"""A sparse matrix is a column of a table, and a term of a formula as the same array is."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.data.design import Design
from bayes_moe.data.reference_grid import grid_along
from bayes_moe.data.sparse_columns import as_column, matrix_in, restored, stored_parts

N, WIDTH = 60, 4


def table(as_sparse=True):
    rng = np.random.default_rng(0)
    x = sparse.random(N, WIDTH, density=0.4, rng=rng, format="csr")
    data = {"a": rng.normal(size=N), "g": np.tile(["u", "v"], N // 2), "y": rng.normal(size=N)}
    return data | {"x": x if as_sparse else x.toarray(), "w": np.arange(N) % 3}


def matrices(formula, new=None, center=True):
    found = []
    for as_sparse in (True, False):
        design = Design.from_data("y", {"mu": formula}, table(as_sparse), center=center)
        rows = design.rows if new is None else design.transform(new)
        found.append(rows.matrices["mu"])
    return found


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("formula", ["~ x", "~ 0 + x", "~ x + a", "~ a * g + x", "~ offset(a) + x"])
def test_a_sparse_column_is_the_array(formula, center):
    own, other = matrices(formula, center=center)
    where = [other.terms.index(term) for term in own.terms]
    assert sorted(where) == list(range(len(other.terms)))
    np.testing.assert_allclose(own.center, other.center[where], atol=1e-15)
    np.testing.assert_allclose(own.scale, other.scale[where], rtol=1e-14)
    np.testing.assert_array_equal(own.range, [r[where] for r in other.range])
    coef = np.random.default_rng(1).normal(size=(3, len(where)))
    expected = coef @ other.values[:, where].T
    np.testing.assert_allclose(own.product(coef), expected, atol=1e-13)
    few = np.array([5, 1])
    np.testing.assert_allclose(own.pick(few).product(coef), expected[:, few], atol=1e-13)
    assert own.equals(own.pick(slice(None)))
    assert not own.equals(own.pick(few))


def test_weights_count_rows():
    weighted, repeated = table(), table()
    which = np.repeat(np.arange(N), weighted["w"])
    repeated = {name: values[which] for name, values in repeated.items()}
    from bayes_moe.data.class_labels import ResponseRule
    from bayes_moe.data.observation import RowColumns

    rule = ResponseRule("y", row_columns=RowColumns(weights="w"))
    one = Design.from_data(rule, {"mu": "~ x"}, weighted).rows.matrices["mu"]
    other = Design.from_data("y", {"mu": "~ x"}, repeated).rows.matrices["mu"]
    np.testing.assert_allclose(one.center, other.center, rtol=1e-13)
    np.testing.assert_allclose(one.scale, other.scale, rtol=1e-13)


@pytest.mark.parametrize(
    "make",
    [
        sparse.csr_matrix,
        sparse.coo_array,
        sparse.csc_matrix,
        lambda x: pd.DataFrame.sparse.from_spmatrix(sparse.csr_matrix(x)),
    ],
)
def test_every_form_is_read(make):
    data = table()
    x = data["x"].toarray()
    design = Design.from_data("y", {"mu": "~ x"}, data | {"x": make(x)})
    np.testing.assert_array_equal(matrix_in(design.columns["x"]).toarray(), x)
    frame = pd.DataFrame(data | {"x": as_column("x", data["x"])})
    again = Design.from_data("y", {"mu": "~ x"}, frame[frame.a > 0])
    np.testing.assert_array_equal(matrix_in(again.columns["x"]).toarray(), x[data["a"] > 0])


def test_new_rows_may_be_of_the_other_form():
    few = {name: values[:7] for name, values in table().items()}
    for new in (few, few | {"x": few["x"].toarray()}):
        own, other = matrices("~ a + x", new)
        np.testing.assert_allclose(own.product(np.eye(6)), other.values.T)
    none = Design.from_data("y", {"mu": "~ x"}, table()).transform({"x": few["x"][:0]})
    assert none.matrices["mu"].values.shape == (0, 5)


@pytest.mark.parametrize("formula", ["~ x:a", "~ x*g", "~ log(x)", "~ I(x)"])
def test_a_sparse_column_is_only_a_term(formula):
    with pytest.raises(DataError, match="'x' is a sparse matrix, which is only a term by itself"):
        Design.from_data("y", {"mu": formula}, table())


@pytest.mark.parametrize("response", ["x", "log(x)"])
def test_a_sparse_column_is_no_response(response):
    with pytest.raises(DataError, match="sparse matrix"):
        Design.from_data(response, {"mu": "~ a"}, table())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, :2], "'x' has 2 numbers a row here, but 4 in the fitted rows"),
        (lambda x: x * np.nan, r"'x' has \d+ missing value\(s\), first at row\(s\) 0"),
        (lambda x: x * np.inf, r"'x' has \d+ infinite value\(s\), first at row\(s\) 0"),
        (lambda x: x[:, :0], r"'x' has the shape \(60, 0\)"),
        (lambda x: x * 1j, "'x' holds complex128"),
    ],
)
def test_bad_matrices_are_refused(change, message):
    data = table()
    design = Design.from_data("y", {"mu": "~ x"}, data)
    with pytest.raises(DataError, match=message):
        design.transform(data | {"x": change(data["x"])})


def test_missing_rows_are_dropped():
    data = table()
    data["x"] = data["x"].copy()
    data["x"].data[0] = np.nan
    with pytest.warns(UserWarning, match="left out 1 of 60"):
        design = Design.from_data("y", {"mu": "~ x"}, data, missing="drop")
    assert design.rows.matrices["mu"].values.shape == (N - 1, WIDTH + 1)


def test_constant_columns():
    data = table()
    x = data["x"].toarray()
    x[:, 1], x[:, 2] = 2.0, 0.0
    with pytest.raises(DataError, match=r"constant up to rounding.*'x\[1\]'"):
        Design.from_data("y", {"mu": "~ x"}, data | {"x": sparse.csr_matrix(x)})
    x[0, 1] = 0.0  # a column of zeros remains
    found = Design.from_data("y", {"mu": "~ x"}, data | {"x": sparse.csr_matrix(x)}).rows
    assert (found.matrices["mu"].center[3], found.matrices["mu"].scale[3]) == (0.0, 1.0)


@pytest.mark.parametrize(
    "use",
    [np.asarray, lambda v: v - np.zeros(5), lambda v: v[:, 0], lambda v: np.isnan(v)],
)
def test_values_are_no_array(use):
    values = matrices("~ x")[0].values
    with pytest.raises(SpecError, match=r"no sparse matrix, as the column\(s\) 'x'"):
        use(values)


def test_parts_of_a_file_are_checked():
    parts = stored_parts(as_column("x", table()["x"]))
    np.testing.assert_array_equal(
        matrix_in(restored(parts, WIDTH)).toarray(), table(as_sparse=False)["x"]
    )
    indices, indptr = parts["indices"].copy(), parts["indptr"].copy()
    indices[3], indptr[2] = WIDTH, indptr[1] - 1
    for bad in (
        {"indices": indices},
        {"indices": -parts["indices"]},
        {"indptr": indptr},
        {"indptr": parts["indptr"][:-1]},
        {"indices": parts["indices"].astype(float)},
    ):
        with pytest.raises(ValueError, match="sparse matrix"):
            restored(parts | bad, WIDTH)
    with pytest.raises(ValueError, match="types"):
        restored(parts, "4")


def test_plots_hold_sparse_columns_at_their_medians():
    data = table()
    data["x"] = sparse.csr_matrix(data["x"].toarray() + np.array([0, 0, 1.5, 0]))
    own, other = (
        grid_along(Design.from_data("y", {"mu": "~ a + x"}, data | {"x": x}), "a")
        for x in (data["x"], data["x"].toarray())
    )
    found = matrix_in(own.rows["x"]).toarray()
    np.testing.assert_array_equal(found, other.rows[[f"x[{j}]" for j in range(WIDTH)]])
    assert found[0, 2] > 1
    assert [*own.fixed] == []

"""Values of formulas: float64 whatever comes in, listed functions of NumPy, and the user's own."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest

import bayes_moe as bm
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.data import formula_values
from bayes_moe.data.design import Design
from bayes_moe.data.formula_functions import FUNCTIONS, ONE_ARGUMENT, TWO_ARGUMENTS
from bayes_moe.data.formulas import FittedFormula

N = 60
WHOLE = np.tile([100, 7, 90, 3, 55, 126, 81, 12, 64, 30], N // 10)
OTHER = np.tile([5, 120, 99, 14, 77, 2, 101, 46, 88, 119, 60, 21], N // 12)
TRUTH = np.arange(N) % 3 == 0

NUMBERS = {
    **{t: lambda v, t=t: v.astype(t) for t in ("int8", "int16", "int32", "int64")},
    **{t: lambda v, t=t: v.astype(t) for t in ("uint8", "uint16", "uint32", "uint64")},
    **{t: lambda v, t=t: v.astype(t) for t in ("float16", "float32", "float64")},
    **{t: lambda v, t=t: pd.array(v, dtype=t) for t in ("Int8", "UInt8", "Int64", "Float32")},
    **{
        f"{t}[pyarrow]": lambda v, t=t: pd.array(v, dtype=f"{t}[pyarrow]")
        for t in ("int8", "uint8", "int32", "int64", "uint64", "float", "double")
    },
    **{f"polars {t}": lambda v, t=t: pl.Series(v).cast(t) for t in (pl.Int8, pl.UInt8, pl.Float32)},
    "object": lambda v: pd.Series(v.tolist(), dtype=object),
    "sparse": lambda v: pd.arrays.SparseArray(v.astype("int8")),
    "list": lambda v: v.tolist(),
}
TERMS = {
    "x": lambda x, z: x,
    "I(x**2)": lambda x, z: x**2,
    "np.square(x)": lambda x, z: x**2,
    "I(x - z)": lambda x, z: x - z,
    "I(x * z * x * z * x * z * x)": lambda x, z: x**4 * z**3,
    "x:z": lambda x, z: x * z,
    "{-x}": lambda x, z: -x,
    "I(x + z > 150)": lambda x, z: x + z > 150,
    "subtract(x, z)": lambda x, z: x - z,
    "power(x, 9)": lambda x, z: x**9,
    "where(x > z, x, z)": np.maximum,
}


def table(dtype):
    make = NUMBERS[dtype]
    return {"x": make(WHOLE), "z": make(OTHER), "y": make(WHOLE // 2 + 3)}


@pytest.mark.parametrize("dtype", NUMBERS)
def test_arithmetic_is_in_double_precision(dtype):
    data = table(dtype)
    terms = {f"~ 0 + {term}": f for term, f in TERMS.items()}
    found = Design.from_data(None, {str(j): t for j, t in enumerate(terms)}, data)
    new = found.transform({name: NUMBERS["int8"](np.asarray(v)) for name, v in data.items()})
    for j, function in enumerate(terms.values()):
        expected = function(WHOLE.astype(float), OTHER.astype(float)).astype(float)
        for rows in (found.rows, new):
            values = rows.matrices[str(j)].values
            assert values.dtype == float
            np.testing.assert_allclose(values[:, 0], expected, rtol=1e-14)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_several_columns_and_responses_are_in_double_precision(dtype):
    data = table(dtype)
    x, y = WHOLE.astype(float), WHOLE // 2 + 3.0
    found = Design.from_data(
        "I(y**3 - y)",
        {"mu": "~ poly(x, 2, raw=True)", "gate": "~ x*z + bs(z, df=4)"},
        data,
    )
    np.testing.assert_allclose(found.response, y**3 - y, rtol=1e-14)
    raw = found.rows.matrices["mu"].values
    np.testing.assert_allclose(raw, np.column_stack([x**0, x, x**2]), rtol=1e-14)
    gate = found.rows.matrices["gate"].values
    np.testing.assert_allclose(gate[:, -1], x * OTHER, rtol=1e-14)


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int64", "float16", "Int8", "uint8[pyarrow]", "polars Int8"]
)
def test_fits_and_predictions_do_not_depend_on_the_type(dtype):
    spec = bm.mixture_of_experts("y ~ I(x**2)", gate="~ I(x - z)", experts=1)
    reference = bm.fit(spec, table("float64"), "em", random_seed=1)
    fit = bm.fit(spec, table(dtype), "em", random_seed=1)
    np.testing.assert_allclose(
        fit.idata["posterior"]["mu_coef"], reference.idata["posterior"]["mu_coef"], rtol=1e-12
    )
    rows = {name: NUMBERS[dtype](np.asarray(v)[:5]) for name, v in table("int64").items()}
    wide = {name: np.asarray(v)[:5].astype(float) for name, v in table("int64").items()}
    np.testing.assert_allclose(
        bm.predict(reference, rows).mean(), bm.predict(reference, wide).mean(), rtol=1e-14
    )


@pytest.mark.parametrize("dtype", NUMBERS)
def test_trials_are_summed_in_double_precision(dtype):
    spec = bm.mixture_of_experts(
        "y ~ x", family="binomial", trials="I(x + z)", gate="~ 1", experts=2
    )
    trials = spec.design(table(dtype)).rows.matrices["trials"].values[:, 0]
    np.testing.assert_array_equal(trials, WHOLE.astype(float) + OTHER)


BOOLEANS = {
    "bool": lambda v: v,
    "boolean": lambda v: pd.array(v, dtype="boolean"),
    "bool[pyarrow]": lambda v: pd.array(v, dtype="bool[pyarrow]"),
    "object": lambda v: pd.Series(v.tolist(), dtype=object),
    "polars": lambda v: pl.Series(v),
}


@pytest.mark.parametrize("dtype", BOOLEANS)
@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("a", TRUTH),
        ("I(a + b)", TRUTH.astype(int) + 1 - TRUTH[::-1]),
        ("I(a - b)", TRUTH.astype(int) - 1 + TRUTH[::-1]),
        ("I(-a)", -1.0 * TRUTH),
        ("a:b", TRUTH & ~TRUTH[::-1]),
        ("I(a & b)", TRUTH & ~TRUTH[::-1]),
        ("I(a | ~b)", TRUTH | TRUTH[::-1]),
        ("maximum(a, b)", TRUTH | ~TRUTH[::-1]),
    ],
)
def test_truth_values_are_numbers_in_arithmetic(dtype, term, expected):
    make = BOOLEANS[dtype]
    data = {"a": make(TRUTH), "b": make(~TRUTH[::-1])}
    values = Design.from_data(None, {"mu": f"~ 0 + {term}"}, data).rows.matrices["mu"].values
    np.testing.assert_array_equal(values[:, 0], np.asarray(expected, dtype=float))


@pytest.mark.parametrize("dtype", ["int8", "uint64", "Int64", "int8[pyarrow]"])
def test_whole_numbers_are_labels_inside_categories(dtype):
    data = {"k": pd.Series(np.arange(12) % 3 + 1).astype(dtype)}
    for formula in ("~ C(k)", "~ C(Q('k'))", "~ C(k, levels=[1, 2, 3])"):
        terms = Design.from_data(None, {"mu": formula}, data).rows.matrices["mu"].terms
        assert [t.rpartition("[")[2] for t in terms] == ["Intercept", "T.2]", "T.3]"]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (np.array([1, 2**53 + 1, 3]), "9007199254740993 at row 1"),
        (np.array([1, 2, -(2**60)]), "-1152921504606846976 at row 2"),
        (np.array([2**64 - 1, 2, 3], dtype="u8"), "18446744073709551615 at row 0"),
    ],
)
@pytest.mark.parametrize("formula", ["~ k", "~ I(k - 1)", "~ log(k)", "~ k:x", "~ C(k > 2)"])
def test_whole_numbers_too_large_for_double_precision_are_refused(values, shown, formula):
    data = {"k": values, "x": [1.0, 2.0, 4.0]}
    with pytest.raises(DataError, match=rf"'k' has whole numbers beyond 2\*\*53, such as {shown}"):
        Design.from_data(None, {"mu": formula}, data)
    labels = Design.from_data(None, {"mu": "~ C(k)"}, data)
    assert len(labels.rows.matrices["mu"].terms) == 3
    exact = Design.from_data(None, {"mu": "~ k"}, {"k": [2**53, 1, -(2**53)]})
    np.testing.assert_array_equal(exact.rows.matrices["mu"].values[:, 1], [2.0**53, 1, -(2.0**53)])


GRID = np.array([-2.5, -1.0, -0.3, 0.0, 0.2, 0.5, 0.99, 1.0, 1.5, 2.0, 3.7])


@pytest.mark.parametrize("prefix", ["", "np."])
@pytest.mark.parametrize("name", [*ONE_ARGUMENT, *TWO_ARGUMENTS])
def test_elementwise_functions_are_numpys(name, prefix):
    function = getattr(np, name)
    arguments = [GRID, GRID[::-1]][: 1 if name in ONE_ARGUMENT else 2]
    with np.errstate(all="ignore"):
        expected = np.asarray(function(*arguments), dtype=float)
    ok = np.isfinite(expected)
    data = {"x": arguments[0][ok], "z": arguments[-1][ok]}
    term = f"{prefix}{name}(x{', z' if len(arguments) == 2 else ''})"
    values = Design.from_data(None, {"mu": f"~ 0 + {term}"}, data).rows.matrices["mu"].values
    np.testing.assert_allclose(values[:, 0], expected[ok], rtol=1e-15)


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("clip(x, -1, 1)", np.clip(GRID, -1, 1)),
        ("np.clip(x, a_min=-1, a_max=1)", np.clip(GRID, -1, 1)),
        ("where(x > 1, 2, x)", np.where(GRID > 1, 2, GRID)),
        ("where(x, 1, 2)", np.where(GRID, 1, 2)),
        ("round(x, 1)", np.round(GRID, 1)),
        ("round(x)", np.round(GRID)),
        ("pow(x, 3)", GRID**3),
        ("exp10(x)", 10.0**GRID),
        ("interp(x, [0, 1], [0, 10])", np.interp(GRID, [0, 1], [0, 10])),
        ("digitize(x, [0, 1], right=True)", np.digitize(GRID, [0, 1], right=True)),
        ("logical_not(x > 1)", ~(GRID > 1)),
        ("I(-1 < x <= 1)", (GRID > -1) & (GRID <= 1)),
        ("I(x // 2 + x % 2 / 3)", GRID // 2 + GRID % 2 / 3),
        ("I(g == 'a')", np.arange(11) % 2 == 0),
        ("I('a' != g)", np.arange(11) % 2 == 1),
        ("I(g == h)", np.arange(11) % 2 == 0),
        ("np.sin(2 * np.pi * x)", np.sin(2 * np.pi * GRID)),
        ("I(+x)", GRID),
        ("I(True + x)", 1 + GRID),
    ],
)
def test_other_functions_and_operators_are_numpys(term, expected):
    data = {"x": GRID, "g": ["a", "b"] * 5 + ["a"], "h": pd.Categorical(["a"] * 11)}
    values = Design.from_data(None, {"mu": f"~ 0 + {term}"}, data).rows.matrices["mu"].values
    np.testing.assert_allclose(values[:, 0], np.asarray(expected, dtype=float), rtol=1e-15)


def test_every_elementwise_function_was_compared():
    others = {"clip", "where", "round", "pow", "exp10", "interp", "digitize", "logical_not"}
    listed = {name for name, f in FUNCTIONS.items() if f.group == "element"}
    assert listed == {*ONE_ARGUMENT, *TWO_ARGUMENTS} | others


def test_numbers_of_columns_are_bounded():
    data = {"a": [f"a{j}" for j in range(200)], "b": [f"b{j}" for j in range(200)]}
    with pytest.raises(DataError, match=r"makes 40000 columns; at most 5000"):
        Design.from_data(None, {"mu": "~ 0 + a:b"}, data)
    with pytest.raises(DataError, match=r"'id' makes 6000 columns"):
        Design.from_data(None, {"mu": "~ id"}, {"id": [f"i{j}" for j in range(6000)]})


# --- functions of the user -----------------------------------------------------------------------


def hinge(x, at=0.0):
    return np.maximum(x - at, 0)


def both(x, g):
    return np.column_stack([x, x * (np.asarray(g) == "b")])


CURVE = {
    "x": np.linspace(-2, 2, 40),
    "g": ["a", "b"] * 20,
    "y": np.abs(np.linspace(-2, 2, 40)) + np.sin(np.arange(40)) / 9,
}
OWN = {"hinge": hinge, "both": both}


def own(formula="y ~ hinge(x, at=0.5) + both(x, g)", gate="~ hinge(x)", **functions):
    return bm.mixture_of_experts(formula, gate=gate, functions={**OWN, **functions})


def test_functions_of_the_user_are_called_on_columns():
    found = own().design(CURVE).rows.matrices
    x = CURVE["x"]
    expected = np.column_stack(
        [np.ones(40), np.maximum(x - 0.5, 0), x, x * (np.arange(40) % 2 == 1)]
    )
    np.testing.assert_allclose(found["mu"].values, expected)
    np.testing.assert_allclose(found["gate"].values[:, 1], np.maximum(x, 0))
    assert found["mu"].terms[1] == "hinge(x, at=0.5)"


PLACES = {
    "response": lambda f: bm.mixture_of_experts("hinge(y) ~ x", functions=f),
    "gate": lambda f: bm.mixture_of_experts("y ~ x", "~ hinge(x)", functions=f),
    "parameter": lambda f: bm.mixture_of_experts("y ~ x", sigma="~ hinge(x)", functions=f),
    "trials": lambda f: bm.mixture_of_experts(
        "y ~ x", family="binomial", trials="hinge(x)", functions=f
    ),
    "tree": lambda f: bm.hierarchical_mixture("y ~ hinge(x)", functions=f),
    "network": lambda f: bm.mixture_density("y ~ hinge(x)", functions=f),
    "gaussian": lambda f: bm.mixture_of_experts(
        "y ~ x", bm.gates.Gaussian("~ x + hinge(x)"), functions=f
    ),
    "by hand": lambda f: bm.MixtureOfExperts(
        bm.gates.Softmax("~ x"), [bm.Expert("y ~ hinge(x)")] * 2, functions=f
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_functions_of_the_user_are_needed_by_name(place):
    describe = PLACES[place]
    spec = describe(OWN)
    assert dict(spec.functions) == {"hinge": hinge}
    for missing in (None, {}, {"hing": hinge}):
        with pytest.raises(SpecError, match=r"'hinge'.*functions=\{'hinge'"):
            describe(missing)
    record = spec.to_dict()
    assert record["functions"] == ["hinge"]
    assert "hinge" not in {k for k, v in record.items() if callable(v)}
    assert bm.MixtureOfExperts.from_dict(record, OWN) == spec
    with pytest.raises(SpecError, match=r"'hinge'.*functions="):
        bm.MixtureOfExperts.from_dict(record)
    with pytest.raises(SpecError, match=r"'hinge'.*functions="):
        bm.MixtureOfExperts.from_json(spec.to_json())
    assert pickle.loads(pickle.dumps(spec)).functions == {"hinge": hinge}


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ([hinge], "must map names to functions"),
        ({"hinge": 3}, "must map 'hinge' to a function"),
        ({"a b": hinge}, "must be an identifier"),
        ({1: hinge}, "must be an identifier"),
        *(
            ({name: hinge}, "know already")
            for name in ("log", "C", "poly", "np", "contr", "I", "Sum", "open", "eval", "_f", "abs")
        ),
    ],
)
def test_functions_of_the_user_hide_nothing(functions, message):
    with pytest.raises(SpecError, match=message):
        bm.mixture_of_experts("y ~ x", functions=functions)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: 1.0, r"one value a row, 40 here; it returned the shape \(\)"),
        (lambda x: x[:-1], r"returned the shape \(39,\)"),
        (lambda x: x[:, None, None], r"returned the shape \(40, 1, 1\)"),
        (lambda x: ["a"] * len(x), "must return numbers"),
        (lambda x: [None] * len(x), "must return numbers"),
        (lambda x: x * np.nan, r"'f\(x\)' is not finite in 40 row"),
        (lambda x: 1 / 0, "Cannot evaluate the formula.*ZeroDivisionError"),
        (lambda x: x - x.max(), "depends on which other rows"),
        (lambda: 1, "Cannot evaluate the formula.*TypeError"),
    ],
)
def test_answers_of_functions_of_the_user_are_checked(function, message):
    spec = own("y ~ f(x)", "~ 1", f=function)
    with pytest.raises(DataError, match=message):
        spec.design(CURVE)


def test_functions_of_the_user_cannot_change_the_table():
    def negate(x):
        result = -x
        x[:] = 0
        return result

    before = CURVE["x"].copy()
    found = own("y ~ x + I(negate(x) * x)", "~ x", negate=negate)
    matrix = found.design(CURVE).rows.matrices["mu"].values
    np.testing.assert_array_equal(CURVE["x"], before)
    np.testing.assert_allclose(matrix[:, 2], -(before**2))


def test_a_saved_fit_asks_for_the_functions_again(tmp_path):
    fit = bm.fit(own(), CURVE, "em", random_seed=1)
    path = bm.save(fit, tmp_path / "own.nc")
    with pytest.raises(SpecError, match=r"'both'.*functions=\{'both'"):
        bm.load(path)
    with pytest.raises(SpecError, match="'both'"):
        bm.load(path, functions={"hinge": hinge})
    again = bm.load(path, functions=OWN)
    assert again.spec == fit.spec
    new = {"x": [0.3, 1.4], "g": ["b", "a"]}
    np.testing.assert_array_equal(bm.predict(again, new).mean(), bm.predict(fit, new).mean())
    other = bm.refit(again, CURVE)
    np.testing.assert_allclose(other.design.response, fit.design.response)


EXPECTED = {
    "x": 2,
    "0 + x": 1,
    "x + g": 4,
    "0 + g": 3,
    "g * h": 6,
    "g:h": 6,
    "C(g, contr.sum)": 3,
    "C(g, contr.poly):x + h": 5,
    "bs(x, df=7)": 8,
    "bs(x, df=7):g + z": 23,
    "cr(x, df=5) + cc(z, df=4)": 10,
    "poly(x, 4)": 5,
    "poly(x, 2):poly(z, 3)": 7,
    "(x + z + g)**2": 10,
    "I(x**2) + np.log(z)": 3,
    "hinge(x)": 4,
    "x:z:g:h": 7,
}


@pytest.mark.parametrize("formula", EXPECTED)
def test_no_more_columns_are_made_than_expected(formula):
    """Less are refused, whichever kind of term makes the columns; the constant is not counted."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": rng.normal(size=60), "z": rng.uniform(1, 2, 60)})
    table["g"], table["h"] = rng.choice([*"abc"], 60), rng.choice([*"uv"], 60)
    own = {"hinge": lambda x: np.stack([np.maximum(x - k, 0) for k in (-1, 0, 1)], axis=1)}
    text, count = f"~ {formula}", EXPECTED[formula]
    rows = np.arange(60)
    fitted, values = FittedFormula.fit(text, table, rows, own, expected=count)
    assert fitted.apply(table, rows).shape == values.shape == (60, count)
    less = count - 1 if formula.startswith("0") else count - 2
    message = f"more columns than the {less} that are expected"
    with pytest.raises(DataError, match=message):
        FittedFormula.fit(text, table, rows, own, expected=less)
    assert FittedFormula.fit(text, table, rows, own)[1].shape == (60, count)


def test_a_factor_is_refused_before_its_term(monkeypatch):
    """Splines are counted as they are evaluated, and none is after the first too many."""
    made = []
    spline = formula_values._FITTED["bs"]

    def counted(x, **settings):
        made.append(settings["df"])
        return spline(x, **settings)

    monkeypatch.setattr(formula_values, "_FITTED", {"bs": counted})
    text = "~ " + " + ".join(f"bs(x, df={20 + j})" for j in range(25))
    table = pd.DataFrame({"x": np.linspace(0, 1, 50)})
    with pytest.raises(DataError, match="more columns than the 45"):
        FittedFormula.fit(text, table, np.arange(50), expected=45)
    assert len(made) in (2, 3)  # formulaic takes factors in the order of a set

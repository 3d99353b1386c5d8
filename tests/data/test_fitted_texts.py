"""Text terms of formulas: their columns, the rows they are fitted to, and where there are none."""

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

import bayes_moe as bm
from bayes_moe.core import names
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.data import text_vectors
from bayes_moe.data.reference_grid import choose_feature, grid_along, state
from bayes_moe.data.sparse_matrix import sparse_in
from bayes_moe.model.portability import is_portable, portable_stems
from tests.support.given_draws import fit_with
from tests.support.texts import reviews

TABLE, NEW = reviews(), reviews(15, seed=1)
BOTH = "text(review, components=3)"


def described(formula="y ~ x + text(review)", gate=f"~ {BOTH}", **more):
    settings = {"family": "bernoulli", "experts": 2} | more
    return bm.mixture_of_experts(formula, gate=gate, **settings)


@pytest.fixture(scope="module")
def design():
    return described().design(TABLE)


@pytest.fixture(scope="module")
def oracle():
    terms = TfidfVectorizer(min_df=2, sublinear_tf=True).fit(TABLE["review"])
    values = terms.transform(TABLE["review"])
    svd = TruncatedSVD(3, algorithm="arpack", random_state=0)
    return terms, svd.fit(values).components_


def test_terms_are_sparse_columns_with_names(design, oracle):
    terms, _ = oracle
    matrix = design.rows.matrices["p"]
    named = [f"text(review)[{t}]" for t in terms.get_feature_names_out()]
    assert list(matrix.terms) == ["Intercept", "x", *named]
    expected = terms.transform(TABLE["review"]).toarray()
    np.testing.assert_allclose(matrix.values.sparse.toarray(), expected, rtol=1e-12)
    assert sparse_in(design.rows) == ["text(review)"]


def test_components_are_columns(design, oracle):
    terms, components = oracle
    matrix = design.rows.matrices["gate"]
    assert matrix.terms == ("Intercept", *(f"{BOTH}[{j}]" for j in range(3)))
    expected = terms.transform(TABLE["review"]) @ components.T
    np.testing.assert_allclose(matrix.values[:, 1:], expected, atol=1e-9)


def test_other_rows_have_the_fitted_terms(design, oracle):
    terms, components = oracle
    rows = design.transform(NEW)
    expected = terms.transform(NEW["review"])
    found = rows.matrices["p"].values.sparse
    np.testing.assert_allclose(found.toarray(), expected.toarray(), rtol=1e-12)
    projected = rows.matrices["gate"].values[:, 1:]
    np.testing.assert_allclose(projected, expected @ components.T, atol=1e-9)
    empty = design.transform(NEW.assign(review=["", "nothing known", *NEW["review"][2:]]))
    assert not empty.matrices["p"].values.sparse[[0, 1]].nnz
    assert not empty.matrices["gate"].values[:2, 1:].any()
    assert design.transform(NEW[:0]).matrices["p"].values.shape == (0, len(terms.vocabulary_) + 2)


def test_the_table_keeps_the_texts(design):
    assert [*design.columns.columns] == ["review", "y", "x"]
    again = described().design(design.columns)
    assert again.rows.matrices["p"].equals(design.rows.matrices["p"])


def test_only_fitted_rows_are_read(design):
    weight = np.r_[np.zeros(40), np.ones(len(TABLE) - 40)]
    part = described(weights="w").design(TABLE.assign(w=weight))
    alone = described().design(TABLE[40:].reset_index(drop=True))
    assert part.rows.matrices["p"].terms == alone.rows.matrices["p"].terms
    values = (d.rows.matrices["gate"].values for d in (part, alone))
    np.testing.assert_array_equal(*values)
    lacking = TABLE.assign(review=TABLE["review"].where(weight > 0))
    with pytest.warns(bm.MissingRowsWarning, match="40 of 120 rows"):
        dropped = described().design(lacking, missing="drop")
    assert dropped.rows.matrices["p"].terms == alone.rows.matrices["p"].terms


def test_terms_are_counted_once(monkeypatch):
    calls, made = [], text_vectors._vectoriser
    monkeypatch.setattr(
        text_vectors, "_vectoriser", lambda *given: calls.append(given) or made(*given)
    )
    design = described("y ~ text(review) + text(review, components=2)").design(TABLE)
    assert len(calls) == 1
    design.transform(NEW)
    assert len(calls) == 2
    described("y ~ text(review) + text(review, ngrams=2)").design(TABLE)
    assert len(calls) == 4


def test_several_columns_and_names():
    table = TABLE.assign(**{"the title": TABLE["review"].str[:9], "text": TABLE["review"]})
    formula = "y ~ text(`the title`, hashing=8) + text(text) + text(review, components=2)"
    matrix = described(formula, "~ 1").design(table).rows.matrices["p"]
    hashed = [t for t in matrix.terms if t.startswith("text(`the title`")]
    assert hashed == [f"text(`the title`, hashing=8)[{j}]" for j in range(8)]
    assert "text(review, components=2)[1]" in matrix.terms
    assert "text(text)[good]" in matrix.terms


def test_categories_and_other_texts(design):
    table = TABLE.assign(review=TABLE["review"].astype("category"))
    own = described().design(table)
    assert own.rows.matrices["p"].equals(design.rows.matrices["p"])
    assert own.transform(NEW).matrices["p"].equals(design.transform(NEW).matrices["p"])


def test_patterns_do_not_match_columns_that_terms_make():
    spec = bm.mixture_of_experts(f"y ~ cols('x*') + {BOTH}", experts=1, family="bernoulli")
    terms = spec.design(TABLE).rows.matrices["p"].terms
    assert terms == ("Intercept", "x", *(f"{BOTH}[{j}]" for j in range(3)))


def test_coefficients_mean_something_for_the_fitted_texts_alone(design):
    assert not portable_stems(described(), design)
    spec = described("y ~ x", "~ x")
    assert is_portable(spec, spec.design(TABLE))


def test_gates_that_model_their_features_refuse_texts():
    spec = described("y ~ x", bm.gates.Gaussian(f"~ {BOTH}"))
    with pytest.raises(DataError, match="A Gaussian gate models columns of numbers"):
        spec.design(TABLE)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ x:text(review)", "has a text term in the product"),
        ("y ~ x * text(review)", "has a text term in the product"),
        ("y ~ log(text(review))", r"has text\(\) inside"),
        ("y ~ offset(text(review))", r"has text\(\) inside"),
        ("y ~ lag(text(review), 1)", r"has text\(\) inside"),
        ("text(review) ~ x", "is the text term 'text"),
        ("y ~ text('review')", "takes the name of a column of texts"),
        ("y ~ text(log(x))", "takes the name of a column of texts"),
        ("y ~ text()", "'text' needs the argument 'x'"),
        ("y ~ text(review, size=3)", "Unknown argument of 'text' 'size'"),
        ("y ~ text(review, components=n)", "must be written out"),
        ("y ~ text(review, components=0)", r"of 'text\(review, components=0\)' must be"),
        ("y ~ x + (1 + text(review) | g)", "The group term cannot have the text term"),
    ],
)
def test_formulas_that_cannot_be_are_refused(formula, message):
    with pytest.raises(SpecError, match=message):
        described(formula, "~ 1")


def test_numbers_of_rows_are_no_texts():
    with pytest.raises(SpecError, match="The weight cannot have the text term"):
        described("y ~ x", weights="text(review)")
    with pytest.raises(SpecError, match=r"formula of .* cannot have the text term"):
        described("y ~ x", "~ 1", family="binomial", trials="text(review)")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (TABLE["x"], r"needs a column of texts; 'review' holds numbers, such as"),
        (TABLE["y"] > 0, "needs a column of texts; 'review' holds numbers, such as"),
        (pd.Series(pd.Categorical(TABLE["y"])), "holds other values than texts, such as"),
        (TABLE["review"].where(TABLE.index > 0), r"'review' has 1 missing value\(s\)"),
    ],
)
def test_columns_without_texts_are_refused(column, message, design):
    with pytest.raises(DataError, match=message):
        described().design(TABLE.assign(review=column))
    with pytest.raises(DataError, match="review"):
        design.transform(TABLE.assign(review=column))


def test_absent_columns_are_named(design):
    for read in (described().design, design.transform):
        with pytest.raises(DataError, match="Unknown column 'review'"):
            read(TABLE.drop(columns="review"))


@pytest.mark.parametrize("column", ["text(review, components=2)[0]", "text(review, components=2)"])
def test_columns_of_the_name_of_a_term_are_refused(column):
    with pytest.raises(DataError, match=r"name of what the text term .* makes. Rename it"):
        described("y ~ text(review, components=2)", "~ 1").design(TABLE.assign(**{column: 1.0}))


def test_terms_in_every_text_are_refused_beside_a_constant():
    table = TABLE.assign(review="film " + TABLE["review"])
    with pytest.raises(DataError, match=r"constant .*max_df=0\.99 or stop_words="):
        described("y ~ text(review, weighting='binary')", "~ 1").design(table)


def test_what_takes_no_sparse_terms_says_so():
    with pytest.raises(SpecError, match=r"write text\(review, components=100\), which makes few"):
        bm.fit(described(), TABLE, method="nuts", random_seed=1)
    with pytest.raises(SpecError, match="takes no sparse matrix, as the column"):
        bm.build(described(), TABLE)
    spec = described("y ~ text(review)", predictor="mlp")
    with pytest.raises(SpecError, match="takes no sparse matrix"):
        spec.design(TABLE)


# --- plots ----------------------------------------------------------------------------------------


def test_plots_hold_texts_at_a_typical_one(design):
    grid = grid_along(design, "x")
    terms = TfidfVectorizer(min_df=2, sublinear_tf=True)
    values = terms.fit_transform(TABLE["review"]).toarray()
    typical = TABLE["review"][int(np.argmax((values @ values.T).mean(axis=1)))]
    assert set(grid.rows["review"]) == {typical}
    assert grid.fixed == {"review": typical}
    given = grid_along(design, "x", {"review": "a good film that nobody has seen, with warm music"})
    assert state(given.fixed) == ["review = a good film that nobody has seen, wit..."]
    assert design.transform(given.rows).matrices["p"].values.sparse.nnz == 4 * len(given.rows)
    with pytest.raises(DataError, match="must hold 'review' at a text; it is 3"):
        grid_along(design, "x", {"review": 3})


def test_there_are_no_plots_along_texts(design):
    assert choose_feature(design, None, ["p"]) == "x"
    with pytest.raises(DataError, match="'review' holds texts, along which there are no plots"):
        choose_feature(design, "review", ["p"])
    alone = described("y ~ text(review)").design(TABLE)
    with pytest.raises(SpecError, match="uses no column beside texts"):
        choose_feature(alone, None, ["p"])


# --- graphs and time ------------------------------------------------------------------------------


def test_graphs_of_components_keep_internal_variables():
    graph = bm.build(described(f"y ~ {BOTH}"), TABLE)
    assert {v.name for v in graph.model.free_RVs} == {"gate_raw", "p_raw"}
    assert names.TABLE_MARK in graph.model.named_vars


def test_forecasts_read_the_texts_of_the_next_rows():
    table = TABLE.assign(t=np.arange(len(TABLE), dtype=float))
    spec = bm.mixture_of_experts(f"x ~ I(lag(x, 1)**2) + {BOTH}", experts=1, time="t")
    coef = np.random.default_rng(0).normal(size=(20, 5))
    fit = fit_with(spec, table, mu_coef=coef[:, None], sigma=np.full((20, 1), 0.1))
    ahead = NEW[["review"]][:3].assign(t=np.arange(3.0) + len(TABLE))
    found = bm.forecast(fit, data=ahead, random_seed=1).mean()
    known = np.r_[1, TABLE["x"].iloc[-1] ** 2]
    features = fit.design.texts.vectors[BOTH].of(NEW["review"][:1].tolist())[0]
    expected = (coef @ np.r_[known, features]).mean()
    assert np.ravel(found)[0] == pytest.approx(expected, rel=1e-9)
    assert np.isfinite(found).all()
    with pytest.raises(DataError, match=r"need the column\(s\) 'review'"):
        bm.forecast(fit, 3, random_seed=1)


def test_simulated_series_read_texts():
    table = TABLE.assign(t=np.arange(len(TABLE), dtype=float))
    table.loc[1:, "x"] = np.nan
    spec = bm.mixture_of_experts(f"x ~ lag(x, 1) + {BOTH}", gate="~ 1", experts=1, time="t")
    coef = np.array([[0.5, 0.2, 1.0, -1.0, 2.0]])
    made = bm.simulate(spec, table, {"mu_coef": coef, "sigma": [1e-9]}, random_seed=1)
    features = spec.design(TABLE.assign(t=table["t"])).texts.applied(TABLE)
    values = features[[f"{BOTH}[{j}]" for j in range(3)]].to_numpy()
    x = made["x"].to_numpy()
    expected = 0.5 + 0.2 * x[:-1] + values[1:] @ coef[0, 2:]
    np.testing.assert_allclose(x[1:], expected, atol=1e-6)

"""Plots of classes: their numbers are the predictions', their words the labels."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.core import registry
from bayes_moe.data.reference_grid import grid_along
from bayes_moe.plots import outline_text
from bayes_moe.plots.canvas import class_colours
from tests.support import class_families
from tests.support.fits import fake_fit

mpl.use("Agg")
LEVELS = ("bad $", "fair", "good")
PLOTS = {
    "classes": bm.plot_classes,
    "expert": lambda fit, **settings: bm.plot_classes(fit, expert=1, **settings),
    "reliability": bm.plot_reliability,
    "confusion": bm.plot_confusion,
}
TRUTH = {"gate_coef": [[0.5, 1.0], [-0.5, -1.0]], "p_coef": [[0.5, 2.0], [-1.0, -1.0]]}
CURVES = {"bernoulli": ("no", "yes"), "kinds": LEVELS}


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    from matplotlib import pyplot

    monkeypatch.setitem(registry.TABLE, "family", registry.TABLE["family"] | class_families.ROWS)
    yield
    pyplot.close("all")


def made(family="kinds", levels=LEVELS, feature=None, **settings):
    rng = np.random.default_rng(3)
    x = rng.normal(size=60) if feature is None else feature
    table = pd.DataFrame({"x": x})
    spec = bm.mixture_of_experts("y ~ x", family=family, levels=levels)
    table["y"] = bm.simulate(spec, table, TRUTH, random_seed=1)["y"]
    return fake_fit(spec, table, TRUTH, draws=20, **settings)


def axes_of(pc):
    return pc.viz["plot"].item()


def legend_of(pc):
    (legend,) = pc.viz["figure"].item().legends
    return [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize("family", CURVES)
@pytest.mark.parametrize("name", PLOTS)
@pytest.mark.parametrize("backend", ["matplotlib", "none"])
def test_every_plot_is_made(family, name, backend):
    pc = PLOTS[name](made(family, CURVES[family]), backend=backend)
    assert pc.backend == backend
    if backend == "matplotlib":
        pc.viz["figure"].item().canvas.draw()


@pytest.mark.parametrize("family", CURVES)
def test_lines_are_mean_probabilities_inside_their_bands(family):
    levels = CURVES[family]
    fit = made(family, levels, spread=0.3)
    pc = bm.plot_classes(fit, ci_prob=(0.5, 0.9), backend="none")
    rows = grid_along(fit.design, "x").rows
    predictive = bm.predict(fit, rows)
    shown = levels[-1:] if len(levels) == 2 else levels
    assert pc.viz["pe_line"]["value"]["class"].values.tolist() == list(shown)
    for label in shown:
        which = {"class": label}
        drawn = pc.viz["pe_line"]["value"].sel(which).item()
        np.testing.assert_allclose(drawn["x"], rows["x"])
        np.testing.assert_allclose(drawn["y"], predictive.probabilities().sel(which), rtol=1e-9)
        for j, inside in enumerate((0.9, 0.5)):
            band = pc.viz["ci_band"]["value"].sel(which).values[j]
            ends = predictive.probability_interval(inside).sel(which)
            np.testing.assert_allclose(band["y_bottom"], ends.sel(ci_bound="lower"), rtol=1e-9)
            np.testing.assert_allclose(band["y_top"], ends.sel(ci_bound="upper"), rtol=1e-9)


def test_lines_of_an_expert_are_solid_where_the_gate_uses_it():
    fit = made(spread=0.1)
    pc = bm.plot_classes(fit, expert=0, backend="none")
    predictive = bm.predict(fit, grid_along(fit.design, "x").rows)
    used = (predictive.weights().sel(expert=0) >= 0.05).values
    assert used.any()
    assert not used.all()
    expected = predictive.expert_probabilities().sel({"expert": 0, "class": "good"})
    for part, where in (("pe_line", used), ("pe_line_unused", ~used)):
        drawn = pc.viz[part]["value"].sel({"class": "good"}).item()["y"]
        np.testing.assert_allclose(drawn, np.where(where, expected, np.nan))


def test_rows_are_in_the_strip_of_their_class():
    fit = made()
    pc = bm.plot_classes(fit, backend="none")
    drawn = pc.viz["observed_scatter"]["value"].item()
    np.testing.assert_array_equal(drawn["x"], fit.design.columns["x"])
    heights = [drawn["y"][fit.design.response == code] for code in range(3)]
    assert all(
        lower.max() < upper.min() for lower, upper in zip(heights[1:], heights, strict=False)
    )
    assert heights[0].max() < 0
    binary = made("bernoulli", ("no", "yes"))
    drawn = bm.plot_classes(binary, backend="none").viz["observed_scatter"]["value"].item()
    np.testing.assert_array_equal(drawn["y"] > 1, binary.design.response == 1)
    np.testing.assert_array_equal(drawn["y"] < 0, binary.design.response == 0)


def test_points_are_shares_of_bins():
    fit = made()
    table = bm.reliability(fit, bins=4, ci_prob=0.8)
    pc = bm.plot_reliability(fit, bins=4, ci_prob=0.8, backend="none")
    for label, lines in table.groupby("class"):
        drawn = pc.viz["observed_scatter"]["value"].sel({"class": label}).item()
        bars = pc.viz["ci_line"]["value"].sel({"class": label}).item()
        for found, column in (
            (drawn["x"], "predicted"),
            (drawn["y"], "observed"),
            (bars["y_bottom"], "lower"),
            (bars["y_top"], "upper"),
        ):
            np.testing.assert_allclose(found[: len(lines)], lines[column])
            assert np.isnan(found[len(lines) :]).all()


def test_reliability_of_one_class():
    pc = bm.plot_reliability(made(), classes=["fair"])
    assert pc.viz["observed_scatter"]["value"]["class"].values.tolist() == ["fair"]
    assert axes_of(pc).get_xlabel() == "predicted probability of fair"


def test_cells_are_counts():
    fit = made()
    table = bm.confusion_matrix(fit).to_numpy()
    pc = bm.plot_confusion(fit, backend="none")
    written, cells = (pc.viz[part]["value"].values for part in ("count", "cell"))
    for (i, j), count in np.ndenumerate(table):
        assert (written[i, j]["x"], written[i, j]["y"]) == (j, i)
        assert written[i, j]["string"] == str(count)
        assert cells[i, j]["alpha"] == pytest.approx(0.85 * count / table[i].sum())
        assert cells[i, j]["y_bottom"].tolist() == [i - 0.5] * 2


def test_words_are_the_labels():
    fit = made()
    pc = bm.plot_classes(fit)
    assert axes_of(pc).get_ylabel() == "probability"
    assert legend_of(pc) == [r"bad \$", "fair", "good", "89 % interval", "data"]
    assert axes_of(bm.plot_classes(fit, expert=1)).get_ylabel() == "probability, expert 1"
    binary = made("bernoulli", ("no", "yes"))
    assert axes_of(bm.plot_classes(binary)).get_ylabel() == "probability of yes"
    assert "data: yes above, no below" in legend_of(bm.plot_classes(binary))
    assert axes_of(bm.plot_reliability(binary)).get_xlabel() == "predicted probability of yes"
    assert legend_of(bm.plot_reliability(fit))[:3] == [r"bad \$", "fair", "good"]
    confused = axes_of(bm.plot_confusion(fit))
    for ticks in (confused.get_xticklabels(), confused.get_yticklabels()):
        assert [tick.get_text() for tick in ticks] == [r"bad \$", "fair", "good"]


def test_categories_of_a_feature_and_modes():
    spec = bm.mixture_of_experts("y ~ g", family="kinds", levels=LEVELS)
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"g": rng.choice(["u", "v"], 50)})
    table["y"] = bm.simulate(spec, table, TRUTH, random_seed=1)["y"]
    mode = fake_fit(spec, table, TRUTH, chains=1, draws=1)
    pc = bm.plot_classes(mode)
    assert [t.get_text() for t in axes_of(pc).get_xticklabels()] == ["u", "v"]


def test_the_user_has_the_last_word():
    fit = made()
    pc = bm.plot_classes(
        fit,
        backend="none",
        color=["k", "r", "b"],
        visuals={"ci_band": False, "observed_scatter": {"facecolor": "grey"}},
    )
    assert "ci_band" not in pc.viz.children
    assert pc.viz["pe_line"]["value"].sel({"class": "fair"}).item()["color"] == "r"
    assert pc.viz["observed_scatter"]["value"].item()["facecolor"] == "grey"
    again = bm.plot_classes(fit, expert=0, plot_collection=pc)
    assert again is pc
    quiet = bm.plot_reliability(fit, backend="none", visuals={"ref_line": False})
    assert "ref_line" not in quiet.viz.children


def test_many_classes_have_colours_of_their_own():
    assert class_colours(10) == {}
    for count in (11, 26):
        colours = class_colours(count)["color"]
        assert len({*colours}) == count
        assert all(mpl.colors.is_color_like(colour) for colour in colours)
    levels = tuple("abcdefghijkl")
    pc = bm.plot_classes(made(levels=levels), backend="none")
    drawn = [pc.viz["pe_line"]["value"].sel({"class": c}).item()["color"] for c in levels]
    assert len({*drawn}) == 12


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda fit: bm.plot_classes(fit, expert=5), "Unknown expert 5"),
        (lambda fit: bm.plot_classes(fit, visuals={"count": False}), "Unknown part in `visuals`"),
        (lambda fit: bm.plot_confusion(fit, visuals={"pe_line": {}}), "Unknown part in `visuals`"),
        (lambda fit: bm.plot_reliability(fit, bins=0), "`bins` must be"),
        (
            lambda fit: bm.plot_classes(fit, plot_collection=bm.plot_gate(fit, backend="none")),
            "must map 'color' to the dimension 'class'",
        ),
    ],
)
def test_what_cannot_be_drawn_is_named(draw, says):
    with pytest.raises(bm.SpecError, match=says):
        draw(made())


def test_other_responses_have_no_classes():
    spec = bm.mixture_of_experts("y ~ x", experts=1)
    table = pd.DataFrame({"x": np.arange(9.0), "y": np.arange(9.0) % 4})
    fit = fake_fit(spec, table, {"mu_coef": [[0.0, 1.0]], "sigma": [1.0]})
    for draw in (bm.plot_classes, bm.plot_reliability, bm.plot_confusion):
        with pytest.raises(bm.SpecError, match="is a number under family 'normal'"):
            draw(fit)


def tree_fit(**settings):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": rng.normal(size=80), "g": rng.choice(["u", "v"], 80)})
    spec = bm.hierarchical_mixture(
        "y ~ x + g", gate="~ x", tree=["a", "b"], family="categorical", levels=LEVELS
    )
    coefs = np.array([[[1.0, 2, 0], [0, 0, 1]], [[0, 0, 0], [1, 0, 0]], [[-1, -2, 0], [-1, 0, -1]]])
    truth = {"gate_coef": [[0.5, 2.0], [-0.5, -2.0]], "p_coef": coefs}
    table["y"] = bm.simulate(spec, table, truth, random_seed=1)["y"]
    return bm.fit(spec, table, "em", restarts=2, random_seed=1, **settings)


@pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")
def test_leaves_of_a_tree_have_a_line_for_each_class():
    fit = tree_fit()
    pc = bm.plot_tree(fit, "x")
    pc.viz["figure"].item().canvas.draw()
    rows = grid_along(fit.design, "x").rows
    found = bm.predict(fit, rows).expert_probabilities()
    for code, label in enumerate(LEVELS):
        part = pc.viz["pe_line" + (f"_class{code}" if code else "")]["value"]
        for expert in ("a", "b"):
            y = np.asarray(part.sel(expert=expert).item().get_ydata())
            seen = np.isfinite(y)
            assert seen.any()
            expected = found.sel({"expert": expert, "class": label}).values
            np.testing.assert_allclose(y[seen], expected[seen], rtol=1e-9)
    assert {r"bad \$", "fair", "good"} <= {*legend_of(pc)}
    colours = {
        pc.viz[f"pe_line{ending}"]["value"].values[0].get_color()
        for ending in ("", "_class1", "_class2")
    }
    assert len(colours) == 3
    assert not colours & {*pc.aes["color"]["mapping"].values.tolist()}
    by_category = bm.plot_tree(fit, "g")
    by_category.viz["figure"].item().canvas.draw()


@pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")
def test_texts_of_trees_have_an_equation_for_each_class(monkeypatch):
    fit = tree_fit()
    assert "logit p ~ x + g" in bm.tree_text(fit)
    monkeypatch.setattr(outline_text, "MAX_LETTERS", 200)
    text = bm.tree_text(fit)
    coefs = fit.idata["posterior"]["p_coef"].mean(("chain", "draw"))
    for label in LEVELS:
        constant = float(coefs.sel({"class": label, "expert": "a"})[0])
        sign = "-" if constant < 0 else ""
        assert f"logit p[{label}] = {sign}{abs(constant):.3g} " in text

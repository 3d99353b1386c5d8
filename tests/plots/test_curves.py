"""Plots: their numbers are the predictions', their words the user's, and nothing is left open."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.data.design import Design
from bayes_moe.data.reference_grid import grid_along
from bayes_moe.plots import curves as plots
from bayes_moe.plots import reference
from tests.support.fits import fake_fit

mpl.use("Agg")
PLOTS = {"gate": bm.plot_gate, "experts": bm.plot_experts, "predictive": bm.plot_predictive}


@pytest.fixture(autouse=True)
def _closed_figures():
    from matplotlib import pyplot

    yield
    pyplot.close("all")


def lines_fit(k, n=60, **options):
    """``k`` parallel lines, of which the gate prefers higher ones as x rises."""
    spec = bm.mixture_of_experts("y ~ x", experts=k)
    truth = {
        "mu_coef": np.column_stack([4.0 * np.arange(k), np.ones(k)]),
        "sigma": np.full(k, 0.5),
    }
    if k > 1:
        truth["gate_coef"] = np.column_stack([np.zeros(k), np.linspace(-1, 1, k)])
    rows = pd.DataFrame({"x": np.random.default_rng(0).uniform(-2, 3, n)})
    return fake_fit(spec, bm.simulate(spec, rows, truth, random_seed=1), truth, **options)


def awkward_fit():
    """Names with spaces, accents, dollars and of xarray's own things; all kinds of columns."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "my y $a$": rng.normal(size=60),
            "größe $b$": rng.uniform(1, 9, 60),
            "expert": rng.choice(["u", "v"], 60, p=[0.3, 0.7]),
            "obs_id": pd.Categorical(rng.choice(["lo", "hi"], 60), ["lo", "hi"]),
            "X": rng.normal(size=60),
            "y": rng.integers(1, 4, 60),
            "value": rng.random(60) > 0.3,
        }
    )
    spec = bm.mixture_of_experts(
        "`my y $a$` ~ bs(`größe $b$`, df=4) + expert + C(y)", gate="~ X + obs_id + value", experts=2
    )
    terms = Design.from_data(None, spec.formulas, table).rows.matrices
    truth = {
        "mu_coef": rng.normal(size=(2, len(terms["mu"].terms))),
        "gate_coef": rng.normal(size=(2, len(terms["gate"].terms))),
        "sigma": [0.5, 1.0],
    }
    return fake_fit(spec, table, truth)


def plot_of(pc):
    return pc.viz["plot"].item()


def words(pc):
    (legend,) = pc.viz["figure"].item().legends
    return [text.get_text() for text in legend.get_texts()], legend.get_title().get_text()


def band_of(pc, j=0, **which):
    """Lower and upper bounds of a band drawn without a backend."""
    drawn = pc.viz["ci_band"]["value"].sel(**which).values[j]
    return drawn["y_bottom"], drawn["y_top"]


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("name", PLOTS)
@pytest.mark.parametrize("backend", ["matplotlib", "none"])
def test_every_plot_is_made(k, name, backend):
    if (k, name) == (1, "gate"):
        with pytest.raises(bm.SpecError, match="one expert"):
            bm.plot_gate(lines_fit(1))
        return
    pc = PLOTS[name](lines_fit(k), backend=backend)
    assert pc.backend == backend
    if backend == "matplotlib":
        pc.viz["figure"].item().canvas.draw()
        assert plot_of(pc).get_xlabel() == "x"
        assert plot_of(pc).get_ylabel() == ("gate weight" if name == "gate" else "y")


def test_gate_lines_are_mean_weights_inside_their_bands():
    fit = lines_fit(4, spread=0.3)
    pc = bm.plot_gate(fit, ci_prob=(0.5, 0.9), backend="none")
    grid = grid_along(fit.design, "x")
    assert grid.x[[0, -1]].tolist() == [
        fit.design.columns["x"].min(),
        fit.design.columns["x"].max(),
    ]
    weights = bm.predict(fit, grid.rows).weights()
    for k in range(4):
        drawn = pc.viz["pe_line"]["value"].sel(expert=k).item()
        np.testing.assert_allclose(drawn["x"], grid.x)
        np.testing.assert_allclose(drawn["y"], weights.sel(expert=k))
        wide, narrow = (band_of(pc, j, expert=k) for j in (0, 1))
        assert np.all((wide[0] < narrow[0]) & (narrow[0] < drawn["y"]))
        assert np.all((wide[1] > narrow[1]) & (narrow[1] > drawn["y"]))


def test_expert_lines_are_solid_where_the_gate_uses_them():
    fit = lines_fit(4, spread=0.2)
    pc = bm.plot_experts(fit, backend="none")
    seen = bm.predict(fit, grid_along(fit.design, "x").rows)
    for k in range(4):
        used = (seen.weights().sel(expert=k) >= plots.LEAST_WEIGHT).values
        mean = seen.expert_means().sel(expert=k).values
        parts = {"pe_line": used, "pe_line_unused": ~used}
        for part in [p for p, where in parts.items() if where.any()]:
            drawn = pc.viz[part]["value"].sel(expert=k).item()["y"]
            np.testing.assert_allclose(drawn, np.where(parts[part], mean, np.nan))
        low, high = band_of(pc, expert=k)
        assert np.all((low < mean)[used] & (mean < high)[used])
        assert np.isnan(low[~used]).all()


def test_predictive_bands_are_the_predictive_intervals():
    fit = lines_fit(2)
    pc = bm.plot_predictive(fit, backend="none")
    seen = bm.predict(fit, grid_along(fit.design, "x").rows)
    np.testing.assert_allclose(pc.viz["pe_line"]["value"].item()["y"], seen.mean())
    for j, p in enumerate((0.89, 0.5)):
        np.testing.assert_allclose(band_of(pc, j), seen.interval(p).T)


@pytest.mark.parametrize("name", ["experts", "predictive"])
def test_all_rows_are_drawn_where_they_are(name):
    fit = lines_fit(2)
    points = PLOTS[name](fit).viz["observed_scatter"]["value"].item().get_offsets()
    np.testing.assert_allclose(
        points, np.column_stack([fit.design.columns["x"], fit.design.response])
    )


def test_a_long_table_is_sampled_and_the_legend_says_so(monkeypatch):
    monkeypatch.setattr(reference, "MAX_ROWS", 50)
    monkeypatch.setattr(reference, "MAX_VALUES", 2000)
    pc = bm.plot_experts(lines_fit(2))
    assert len(pc.viz["observed_scatter"]["value"].item().get_offsets()) == 50
    assert words(pc)[0][-1] == "undecided data\n(50 of 60 rows shown)"


def test_points_have_their_experts_colour_and_grey_in_doubt():
    share = np.array([[1.0, 0, 0], [0, 0.5, 0.5], [0, 0, 1.0]])
    colours = plots.blend(["#ff0000", "#00ff00", "#0000ff"], share)
    assert colours == ["#ff0000", plots.GREY, "#0000ff"]
    assert plots.blend(["#ff0000"], np.ones((1, 1))) == ["#ff0000"]


def test_legends():
    fit = lines_fit(2)
    assert words(bm.plot_gate(fit)) == (["expert 0", "expert 1", "89 % interval"], "")
    entries, _ = words(bm.plot_experts(fit, ci_prob=(0.5, 0.9)))
    bands = ["90 % interval", "50 % interval"]
    assert entries == ["expert 0", "expert 1", *bands, "undecided data"]
    assert words(bm.plot_predictive(fit, ci_prob=(0.5, 0.9)))[0] == ["mean", *bands, "data"]
    assert words(bm.plot_experts(lines_fit(1)))[0] == ["expert 0", "89 % interval", "data"]


@pytest.mark.parametrize("name", PLOTS)
def test_awkward_names_and_every_kind_of_column(name):
    fit = awkward_fit()
    for feature in fit.design.columns.columns.drop("my y $a$"):
        pc = PLOTS[name](fit, feature)
        pc.viz["figure"].item().canvas.draw()
        assert plot_of(pc).get_xlabel().replace("\\", "") == feature
        if name != "gate":
            assert plot_of(pc).get_ylabel() == r"my y \$a\$"


def test_the_only_numeric_column_is_the_default():
    assert plot_of(bm.plot_experts(awkward_fit())).get_xlabel() == r"größe \$b\$"
    assert plot_of(bm.plot_gate(awkward_fit())).get_xlabel() == "X"


@pytest.mark.parametrize(
    ("feature", "labels"),
    [("expert", ["u", "v"]), ("obs_id", ["lo", "hi"]), ("y", ["1", "2", "3"])],
)
def test_categories_are_named_on_the_axis(feature, labels):
    pc = bm.plot_gate(awkward_fit(), feature)
    assert [t.get_text() for t in plot_of(pc).get_xticklabels()] == labels
    assert len(pc.viz["pe_line"]["value"].sel(expert=1).item().get_offsets()) == len(labels)


def test_other_columns_are_held_and_the_legend_says_where():
    fit = awkward_fit()
    held = grid_along(fit.design, "X").fixed
    assert held["größe $b$"] == fit.design.columns["größe $b$"].median()
    assert (held["expert"], held["value"]) == ("v", True)
    pc = bm.plot_gate(fit, "X", at={"obs_id": "hi", "value": False}, backend="none")
    rows = grid_along(fit.design, "X").rows.assign(obs_id="hi", value=False)
    drawn = pc.viz["pe_line"]["value"].sel(expert=0).item()["y"]
    np.testing.assert_allclose(drawn, bm.predict(fit, rows).weights().sel(expert=0))
    pc = bm.plot_gate(fit, "X", at={"obs_id": "hi"})
    assert words(pc)[1] == "at obs_id = hi\nand value = True"


@pytest.mark.parametrize(
    ("name", "options", "error", "says"),
    [
        ("predictive", {}, bm.SpecError, "'größe .b.', 'expert', 'obs_id', 'X', 'y', 'value'"),
        ("gate", {"feature": "Y"}, bm.DataError, "Did you mean 'y'"),
        ("gate", {"at": {"X": 1}}, bm.SpecError, "'X': it is the feature"),
        ("gate", {"at": {"x": 1}}, bm.DataError, "Did you mean 'X'"),
        ("gate", {"at": {"obs_id": "high"}}, bm.DataError, "'obs_id' in `at` 'high'"),
        ("gate", {"at": {"größe $b$": "big"}}, bm.DataError, "at a number; it is 'big'"),
        ("gate", {"ci_prob": 89}, bm.SpecError, "strictly between 0 and 1; it is 89"),
        ("gate", {"visuals": {"band": False}}, bm.SpecError, "Did you mean 'ci_band'"),
    ],
)
def test_what_cannot_be_drawn_is_named(name, options, error, says):
    with pytest.raises(error, match=says):
        PLOTS[name](awkward_fit(), **options, backend="none")


def test_the_user_has_the_last_word():
    pc = bm.plot_gate(
        lines_fit(2),
        visuals={
            "ci_band": False,
            "legend": False,
            "ylabel": {"text": "w"},
            "pe_line": {"width": 5},
        },
        color=["black", "red"],
        figure_kwargs={"figsize": (3, 2)},
    )
    assert {*pc.viz.children} == {"pe_line", "pe_line_unused", "xlabel", "ylabel"}
    assert plot_of(pc).get_ylabel() == "w"
    line = pc.viz["pe_line"]["value"].sel(expert=1).item()
    assert (line.get_color(), line.get_linewidth()) == ("red", 5)
    assert pc.viz["figure"].item().get_size_inches().tolist() == [3, 2]


def test_two_fits_share_a_plot_collection():
    pc = bm.plot_gate(lines_fit(2))
    assert bm.plot_gate(lines_fit(2, seed=1), plot_collection=pc) is pc
    assert len(plot_of(pc).lines) == 4
    assert len(pc.viz["figure"].item().legends) == 1
    with pytest.raises(bm.SpecError, match="map 'color'"):
        bm.plot_gate(lines_fit(2), plot_collection=bm.plot_predictive(lines_fit(2)))


def test_importing_the_module_is_cheap():
    code = (
        "import sys, bayes_moe.plots.curves; "
        "print({'pymc', 'arviz_plots', 'matplotlib'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def tree_fit(gate, k, **options):
    """Parallel lines under a gate whose splits all go by ``x``."""
    spec = bm.mixture_of_experts("y ~ x", gate=gate, experts=k)
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"x": rng.uniform(-2, 3, 60), "z": rng.normal(3, 1, 60)})
    truth = {
        "mu_coef": np.column_stack([2.0 * np.arange(k), np.ones(k)]),
        "sigma": np.full(k, 0.5),
    }
    for h in gate.structure(k).heads:
        rows_of = h.outputs.stop - h.outputs.start
        terms = len(spec.design(rows.assign(y=0.0 + np.arange(60))).rows.matrices[h.stem].terms)
        truth[f"{h.stem}_coef"] = np.resize([1.0, -1.0], (terms, rows_of)).T + np.zeros(terms)
    return fake_fit(spec, bm.simulate(spec, rows, truth, random_seed=1), truth, **options)


TREES = {
    "balanced": (bm.gates.Tree(branching=(2, 2), formula="~ x"), 4),
    "unbalanced": (bm.gates.Tree([[0, 1], 2], formula="~ x", formulas={"0": "~ 1"}), 3),
    "eight": (bm.gates.Tree(branching=(2, 2, 2), formula="~ x"), 8),
    "sticks": (bm.gates.StickBreaking("~ x + z"), 4),
    "flat": (bm.gates.Softmax("~ x"), 3),
}


@pytest.mark.parametrize("name", TREES)
def test_a_tree_has_a_panel_for_every_node_and_a_ribbon_for_every_branch(name):
    gate, k = TREES[name]
    fit = tree_fit(gate, k)
    pc = bm.plot_tree(fit, ci_prob=(0.5, 0.9))
    pc.viz["figure"].item().canvas.draw()
    splits = gate.structure(k).splits.splits
    branches = [label for split in splits for label in split.labels]
    panels = pc.viz["plot"]
    assert set(panels["node"].values) == {s.name for s in splits} | {
        f"expert {j}" for j in range(k)
    }
    for part in ("edge", "share", "branch_line", "branch_band", "branch_band_1"):
        assert set(pc.viz[part]["gate_branch"].values) == set(branches)
    for part in ("pe_line", "ci_band", "observed_scatter"):
        assert pc.viz[part]["expert"].values.tolist() == list(range(k))
    texts = [t.get_text() for t in pc.viz["share"]["value"].values]
    usage = bm.usage(fit).mean(("chain", "draw"))
    below = [usage.isel(expert=list(b)).sum() for s in splits for b in s.leaves]
    by_label = dict(zip(branches, below, strict=True))
    for label, text in zip(pc.viz["share"]["gate_branch"].values, texts, strict=True):
        assert text == f"{100 * float(by_label[str(label)]):.0f} %"


@pytest.mark.parametrize("name", TREES)
def test_nothing_of_a_tree_overlaps_or_leaves_the_figure(name):
    gate, k = TREES[name]
    figure = bm.plot_tree(tree_fit(gate, k)).viz["figure"].item()
    figure.canvas.draw()
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    boxes += [legend.get_window_extent() for legend in figure.legends]
    boxes += [text.get_window_extent() for text in figure.texts]
    for j, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height
        for other in boxes[j + 1 :]:
            assert not (box.overlaps(other) and box.shrunk(0.98, 0.98).overlaps(other))


@pytest.mark.parametrize("columns", [2, 12])
def test_the_legend_of_a_tree_is_inside_the_figure(columns):
    names = [f"a_long_name_{j}" for j in range(columns)]
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(60, columns)), columns=names)
    spec = bm.hierarchical_mixture(f"y ~ {' + '.join(names)}", branching=(2,))
    signs = np.array([[1.0], [-1.0]])
    truth = {"gate_coef": signs * np.ones(columns + 1), "sigma": [0.3, 0.3]}
    truth |= {"mu_coef": signs * np.ones(columns + 1)}
    fit = fake_fit(spec, bm.simulate(spec, table, truth, random_seed=1), truth, draws=3)
    figure = bm.plot_tree(fit).viz["figure"].item()
    figure.canvas.draw()
    parts = [figure.legends[0], *figure.texts]
    boxes = [part.get_window_extent() for part in parts]
    assert sum("other columns at" in text.get_text() for text in figure.texts) == 1
    for box in boxes:
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y0 >= 0
    legend = boxes[0].shrunk(0.98, 0.98)
    assert not any(legend.overlaps(axes.get_tightbbox()) for axes in figure.axes)
    assert not any(legend.overlaps(box) for box in boxes[1:])


def test_branch_lines_are_node_probabilities():
    fit = tree_fit(*TREES["balanced"])
    pc = bm.plot_tree(fit, "x")
    rows = grid_along(fit.design, "x").rows
    expected = bm.node_probabilities(fit, rows)
    for label in expected["gate_branch"].values:
        line = pc.viz["branch_line"]["value"].sel(gate_branch=label).item()
        np.testing.assert_allclose(line.get_ydata(), expected.sel(gate_branch=label))
    centre = bm.predict(fit, rows).expert_locations().sel(expert=2)
    solid = pc.viz["pe_line"]["value"].sel(expert=2).item().get_ydata()
    assert np.isfinite(solid).any()
    np.testing.assert_allclose(solid, np.where(np.isfinite(solid), centre, np.nan))


def test_a_tree_of_a_mode_has_no_bands():
    spec = bm.hierarchical_mixture("y ~ x", gate="~ x", tree=[["a", "b"], "c"])
    pc = bm.plot_tree(tree_mode(spec))
    assert not {"branch_band", "ci_band"} & {*pc.viz.children}
    assert [t.get_text() for t in pc.viz["figure"].item().legends[0].get_texts()] == [
        "outside the expert's data",
        "data of other experts",
    ]
    assert set(pc.viz["observed_scatter"]["expert"].values) == {"a", "b", "c"}


def tree_mode(spec):
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 3, 90)
    y = np.select([x < -0.5, x < 1], [x, 4 - x], 6 * x) + 0.2 * rng.standard_normal(90)
    return bm.fit(spec, {"x": x, "y": y}, "em", random_seed=0, progressbar=False)


def test_trees_take_awkward_names_and_every_kind_of_column():
    fit = awkward_fit()
    for feature in [None, *fit.design.columns.columns.drop("my y $a$")]:
        pc = bm.plot_tree(fit, feature)
        pc.viz["figure"].item().canvas.draw()
        if feature:
            assert pc.viz["plot"].sel(node="root").item().get_xlabel().replace("\\", "") == feature
    assert "größe $b$" in bm.tree_text(fit)


def test_the_user_has_the_last_word_on_trees():
    pc = bm.plot_tree(
        tree_fit(*TREES["flat"]),
        visuals={"legend": False, "share": False, "edge": {"alpha": 1.0}, "pe_line": {"width": 4}},
        color=["black", "red", "blue"],
        figure_kwargs={"figsize": (5, 4)},
    )
    assert not {"legend", "share"} & {*pc.viz.children}
    figure = pc.viz["figure"].item()
    assert not figure.legends
    assert figure.get_size_inches().tolist() == [5, 4]
    line = pc.viz["pe_line"]["value"].sel(expert=1).item()
    assert (line.get_color(), line.get_linewidth()) == ("red", 4)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"backend": "none"}, bm.SpecError, "matplotlib only; the backend is 'none'"),
        ({"visuals": {"edges": False}}, bm.SpecError, "Did you mean 'edge'"),
        ({"aes": {}}, bm.SpecError, "Unknown argument of plot_tree 'aes'"),
        ({"feature": "q"}, bm.DataError, "Unknown feature 'q'"),
        ({"at": {"q": 1.0}}, bm.DataError, "column in `at`"),
        ({"ci_prob": 2}, bm.SpecError, "strictly between 0 and 1"),
    ],
)
def test_trees_that_cannot_be_drawn_are_named(options, error, says):
    with pytest.raises(error, match=says):
        bm.plot_tree(tree_fit(*TREES["flat"]), **options)
    with pytest.raises(bm.SpecError, match="one expert"):
        bm.plot_tree(lines_fit(1))

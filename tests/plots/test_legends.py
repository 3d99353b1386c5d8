"""Legends have marks in the shape of what is drawn, and say which rows are shown."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from tests.support.fits import fake_fit

mpl.use("Agg")
PLOTS = {"gate": bm.plot_gate, "experts": bm.plot_experts, "predictive": bm.plot_predictive}


@pytest.fixture(autouse=True)
def _closed_figures():
    from matplotlib import pyplot

    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def fit():
    """Experts of x, z and g, of which the gate uses x and h; no row has g = "c" and h = "v"."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "x": rng.normal(size=90),
            "z": rng.normal(size=90),
            "g": np.repeat(["a", "b", "c"], 30),
            "h": ["u", "v"] * 30 + ["u"] * 30,
        }
    )
    spec = bm.mixture_of_experts("y ~ x + z + g", gate="~ x + h", experts=2)
    truth = {
        "gate_coef": np.array([[1.0, 1, 0.5], [-1, -1, -0.5]]),
        "mu_coef": np.array([[0.0, 1, 0.1, 5, 9], [2, -1, 0.1, 5, 9]]),
        "sigma": [0.3, 0.3],
    }
    return fake_fit(spec, bm.simulate(spec, table, truth, random_seed=1), truth, draws=3)


def legend_of(pc):
    (legend,) = pc.viz["figure"].item().legends
    texts = [text.get_text() for text in legend.get_texts()]
    return dict(zip(texts, legend.legend_handles, strict=True))


@pytest.mark.parametrize("name", PLOTS)
@pytest.mark.parametrize("feature", ["x", "g", "h"])
def test_a_legend_has_points_where_points_are_drawn(fit, name, feature):
    pc = PLOTS[name](fit, feature)
    drawn = pc.viz["pe_line"]["value"].values.ravel()[0]
    is_dot = hasattr(drawn, "get_offsets")
    assert is_dot == (feature != "x")
    for label, handle in legend_of(pc).items():
        has_line = handle.get_linestyle() != "None"
        if "expert" in label or label == "mean":
            assert (handle.get_marker(), has_line) == (("o", False) if is_dot else ("None", True))
        elif "interval" in label:
            assert (handle.get_marker(), has_line) == (("|", False) if is_dot else ("None", True))
        else:
            assert (handle.get_marker(), has_line) == ("o", False)


@pytest.mark.parametrize(
    ("name", "at", "says", "used"),
    [
        ("experts", {"g": "b"}, "with g = b, any z", ("g",)),
        ("experts", {"g": "c", "h": "v"}, "with g = c, any z", ("g",)),
        ("predictive", {"g": "b", "h": "v"}, "with g = b, h = v, any z", ("g", "h")),
        ("predictive", {"g": "c", "h": "u"}, "with g = c, h = u, any z", ("g", "h")),
    ],
)
def test_rows_are_shown_that_have_the_fixed_categories(fit, name, at, says, used):
    pc = PLOTS[name](fit, "x", at=at)
    table = fit.design.columns
    alike = np.all([table[column] == at[column] for column in used], axis=0)
    points = pc.viz["observed_scatter"]["value"].item().get_offsets()
    expected = np.column_stack([table["x"], fit.design.response])[alike]
    np.testing.assert_allclose(np.asarray(points), expected)
    kind = "undecided data" if name == "experts" else "data"
    assert f"{kind}\n{says}" in legend_of(pc)


def test_a_combination_without_rows_is_named(fit):
    pc = bm.plot_predictive(fit, "x", at={"g": "c", "h": "v"})
    assert "observed_scatter" not in pc.viz.children
    assert "no data\nwith g = c, h = v, any z" in legend_of(pc)


def test_rows_of_a_tree_have_the_fixed_categories(fit):
    pc = bm.plot_tree(fit, "x", at={"g": "b"})
    points = pc.viz["observed_scatter"]["value"].sel(expert=0).item().get_offsets()
    own = (fit.design.columns["g"] == "b").to_numpy()
    assert sorted(np.asarray(points)[:, 1]) == pytest.approx(sorted(fit.design.response[own]))
    labels = [label.replace("\n", " ") for label in legend_of(pc)]
    assert "data of other experts with g = b, any z" in labels


@pytest.mark.parametrize("name", PLOTS)
@pytest.mark.parametrize("feature", ["x", "g"])
def test_a_legend_of_plotly_has_points(fit, name, feature):
    pytest.importorskip("plotly")
    pytest.importorskip("webcolors")
    figure = PLOTS[name](fit, feature, backend="plotly").viz["figure"].item().to_dict()
    entries = {t["name"]: t for t in figure["data"] if t.get("showlegend")}
    kinds = {label: trace["mode"] for label, trace in entries.items()}
    dots = "markers" if feature == "g" else "lines"
    for label, mode in kinds.items():
        assert mode == ("markers" if "data" in label else dots)
    assert any("data" in label for label in kinds) == (name != "gate")
    assert all(
        not str(t.get("line", {}).get("color", "#")).startswith("B") for t in entries.values()
    )

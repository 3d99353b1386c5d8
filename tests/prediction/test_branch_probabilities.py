"""Splits of a gate: their probabilities make the weights, and the words say what the numbers do."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.gates import Softmax, StickBreaking, Tree
from bayes_moe.plots.tree_outline import direction, outline
from tests.support.examples import gate_table as table
from tests.support.fits import fake_fit

GATES = {
    "softmax": Softmax("~ x + z"),
    "warm": Softmax("~ x", temperature=2.0),
    "tree": Tree([[0, 1], [2, 3]], formula="~ x + z", formulas={"1": "~ x"}),
    "unbalanced": Tree([0, [1, [2, 3]]], formula="~ x"),
    "sticks": StickBreaking("~ x + z"),
}


def fit_with(gate, **options):
    """Four parallel lines under random gate coefficients."""
    spec = bm.mixture_of_experts("y ~ x", gate=gate, experts=4)
    design, rng = spec.design(table()), np.random.default_rng(3)
    heads = gate.structure(4).heads
    truth = {
        "mu_coef": np.column_stack([4.0 * np.arange(4), np.ones(4)]),
        "sigma": np.full(4, 0.5),
    }
    for h in heads:
        rows, terms = h.outputs.stop - h.outputs.start, design.rows.matrices[h.stem].terms
        truth[f"{h.stem}_coef"] = rng.normal(size=(rows, len(terms)))
    return fake_fit(spec, table(), truth, draws=20, spread=0.2, **options)


@pytest.fixture(scope="module", params=list(GATES))
def fit(request):
    return fit_with(GATES[request.param])


@pytest.fixture(scope="module")
def tree_mode():
    """A mode in which the root goes by ``z`` at 3, and the splits below by ``x`` at 0."""
    spec = bm.mixture_of_experts("y ~ x", gate=Tree(branching=(2, 2), formula="~ x + z"), experts=4)
    return bm.fit(spec, table(300), method="em", random_seed=1, progressbar=False)


@pytest.fixture(scope="module")
def new_rows():
    return pd.DataFrame({"x": [-1.5, 0.0, 1.0], "z": [2.0, 3.0, 5.0]}, index=[5, 5, 1])


def test_branches_of_a_split_sum_to_one_and_paths_make_the_weights(fit, new_rows):
    found = bm.node_probabilities(fit, new_rows, draws=True)
    assert found.dims == ("chain", "draw", "obs_id", "gate_branch")
    np.testing.assert_allclose(found.groupby("split").sum(), 1, atol=1e-12)
    weights = bm.predict(fit, new_rows).weights(draws=True)
    paths = fit.spec.structure.gate.splits.paths
    for k in range(4):
        along = found.isel(gate_branch=np.flatnonzero(paths[k]))
        np.testing.assert_allclose(along.prod("gate_branch"), weights.sel(expert=k), rtol=1e-9)
    mean = bm.node_probabilities(fit, new_rows)
    assert mean.dims == ("obs_id", "gate_branch")
    np.testing.assert_allclose(mean, found.mean(("chain", "draw")), rtol=1e-9)


def test_extreme_weights_give_no_nan(fit):
    far = pd.DataFrame({"x": [1e4, -1e4], "z": [-1e4, 1e4]})
    found = bm.node_probabilities(fit, far, draws=True)
    np.testing.assert_allclose(found.groupby("split").sum(), 1, atol=1e-9)
    assert np.isfinite(found).all()


def test_branches_are_named_with_split_and_depth():
    found = bm.node_probabilities(fit_with(GATES["tree"]))
    assert found["gate_branch"].values.tolist() == ["0", "1", "0.0", "0.1", "1.0", "1.1"]
    assert found["split"].values.tolist() == ["root", "root", "0", "0", "1", "1"]
    assert found["depth"].values.tolist() == [0, 0, 1, 1, 1, 1]
    sticks = bm.node_probabilities(fit_with(GATES["sticks"]))
    assert sticks["gate_branch"].values[:2].tolist() == ["0", "after 0"]


def test_node_responsibilities_are_sums_below(fit):
    found = bm.node_responsibilities(fit)
    assert found.dims == ("chain", "draw", "obs_id", "gate_branch")
    share = bm.responsibilities(fit)
    labels = [b for s in fit.spec.structure.gate.splits.splits for b in s.leaves]
    for b, leaves in enumerate(labels):
        np.testing.assert_allclose(
            found.isel(gate_branch=b), share.isel(expert=list(leaves)).sum("expert"), atol=1e-12
        )
    root = found.isel(gate_branch=found["split"] == "root")
    np.testing.assert_allclose(root.sum("gate_branch"), 1, atol=1e-12)
    given = table().iloc[:3]
    np.testing.assert_allclose(
        bm.node_responsibilities(fit, given), found.isel(obs_id=slice(3)), rtol=1e-9
    )


@pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")
def test_gates_without_splits_are_named():
    one = bm.fit(bm.mixture_of_experts("y ~ x", experts=1), table(), "em", progressbar=False)
    for read in (bm.node_probabilities, bm.node_responsibilities, bm.tree_text):
        with pytest.raises(bm.SpecError, match="one expert"):
            read(one)
    fit = bm.fit(
        bm.mixture_of_experts("y ~ x", gate=bm.gates.Attention("~ x"), experts=3),
        table(),
        "map",
        restarts=1,
        max_iter=20,
        progressbar=False,
    )
    with pytest.raises(bm.SpecError, match="'attention' has no splits"):
        bm.node_probabilities(fit)


def test_effective_experts_is_the_exponential_of_the_entropy(fit):
    shares = bm.usage(fit)
    found = bm.effective_experts(fit)
    assert found.dims == ("chain", "draw")
    logs = np.log(shares.where(shares > 0, 1.0))
    np.testing.assert_allclose(found, np.exp(-(shares * logs).sum("expert")), rtol=1e-12)
    assert (found >= 1 - 1e-12).all()
    assert (found <= 4 + 1e-12).all()
    stated = bm.diagnose(fit).table.loc["effective experts", "value"]
    assert float(stated) == pytest.approx(float(found.mean()), abs=0.006)


def test_experts_in_use_counts_expected_rows(fit):
    rows = bm.usage(fit) * 60
    for least in (1.0, 12):
        found = bm.experts_in_use(fit, least_rows=least)
        np.testing.assert_array_equal(found, (rows >= least).sum("expert"))
    assert set(bm.experts_in_use(fit).to_series().value_counts().index) <= {1, 2, 3, 4}
    for bad in (0, -1.0, np.nan, "1", True):
        with pytest.raises(bm.SpecError, match="`least_rows` must be a positive number"):
            bm.experts_in_use(fit, least_rows=bad)


def test_outline_has_every_split_and_expert_once(fit):
    root = outline(fit)
    nodes = list(root.nodes())
    splits = fit.spec.structure.gate.splits.splits
    assert sorted(n.expert for n in nodes if n.expert is not None) == [0, 1, 2, 3]
    assert {n.split.name for n in nodes if n.split} == {s.name for s in splits}
    assert all(n.depth == n.split.depth for n in nodes if n.split)
    assert root.share == pytest.approx(1)
    assert root.leaves == 4
    for node in nodes:
        if node.children:
            assert sum(c.share for c in node.children) == pytest.approx(node.share)


def test_direction_is_the_largest_standardised_slope(fit):
    few = fit.idata["posterior"].to_dataset().mean(("chain", "draw"))
    for split in fit.spec.structure.gate.splits.splits:
        matrix = fit.design.rows.matrices[split.stem]
        eta = few[f"{split.stem}_coef"].values
        first = min(
            s.rows.start for s in fit.spec.structure.gate.splits.splits if s.stem == split.stem
        )
        own = eta[split.rows.start - first : split.rows.stop - first]
        own = np.vstack([own, np.zeros_like(own[:1])]) if split.pinned else own
        size = np.sqrt((((own - own.mean(axis=0)) * matrix.scale) ** 2).sum(axis=0))[1:]
        assert direction(fit, split).grid.feature == matrix.terms[1 + int(np.argmax(size))]


def test_the_middle_is_where_branches_are_equally_likely(tree_mode):
    root, left, _ = tree_mode.spec.structure.gate.splits.splits
    found = direction(tree_mode, root)
    assert found.grid.feature == "z"
    assert found.middle == pytest.approx(3, abs=0.2)
    here = pd.DataFrame({"x": [found.grid.fixed["x"]], "z": [found.middle]})
    even = bm.node_probabilities(tree_mode, here).sel(gate_branch=["0", "1"])
    np.testing.assert_allclose(even, 0.5, atol=0.02)
    assert found.condition(found.lower).startswith("z < ")
    assert found.condition(1 - found.lower).startswith("z > ")
    at = direction(tree_mode, left, "z", {"x": 1.5})
    assert (at.grid.feature, at.grid.fixed) == ("z", {"x": 1.5})


def test_tree_text(tree_mode):
    lines = bm.tree_text(tree_mode).splitlines()
    assert len(lines) == 8
    assert lines[0].startswith("root: by z, 50 % at 3.0")
    assert lines[0].endswith("100 %")
    assert lines[1].startswith("├─ 0 (z ")
    assert lines[2].startswith("│  ├─ expert 0 (x < ")
    assert "sigma = 0.2" in lines[2]
    assert lines[6].startswith("   └─ expert 3 (x > ")
    assert lines[-1].startswith("(other columns at x = ")
    assert len({len(line) for line in lines[:-1]}) == 1
    held = bm.tree_text(tree_mode, at={"x": 1.0}).splitlines()[-1]
    assert held.startswith("(other columns at x = 1, z = ")
    with pytest.raises(bm.DataError, match="column in `at`"):
        bm.tree_text(tree_mode, at={"q": 1.0})


def test_tree_text_of_draws(fit):
    text = bm.tree_text(fit)
    assert all(f"expert {k}" in text for k in range(4))
    coef = float(fit.idata["posterior"]["mu_coef"].sel(expert=1, mu_term="x").mean())
    assert f"+ {coef:.3g} x" in text


def test_tree_text_of_other_kinds():
    rng = np.random.default_rng(0)
    n = 120
    rows = pd.DataFrame(
        {"x": rng.uniform(-2, 2, n), "g": rng.choice(["u", "v"], n), "n": np.full(n, 5)}
    )
    spec = bm.MixtureOfExperts(
        Tree([["calm", "wild"], "rest"], formula="~ g", formulas={"0": "~ 1"}),
        [
            bm.Expert("y ~ poly(x, 4)", "poisson", "calm"),
            bm.Expert("y ~ x", "binomial", "wild", trials="n"),
            bm.Expert("y ~ 1", "poisson", "rest"),
        ],
    )
    y = np.where(rows["g"] == "u", rng.binomial(5, 0.5, n), rng.poisson(9, n).clip(0, 5))
    truth = {
        "gate_coef": [[2.0, -4.0], [-2.0, 4.0]],
        "gate_0_coef": [[0.2], [-0.2]],
        "calm_mu_coef": [[1.0, 0, 0, 0, 0]],
        "wild_p_coef": [[0.0, 0.5]],
        "rest_mu_coef": [[1.5]],
    }
    text = bm.tree_text(fake_fit(spec, rows.assign(y=y), truth))
    assert "root: by g" in text
    assert "0 (g = u): the same for all rows" in text
    assert "(g = v): log mu = 1.5" in text
    assert "expert calm: log mu ~ poly(x, 4)" in text
    assert "logit p = " in text

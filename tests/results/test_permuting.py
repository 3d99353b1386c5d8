"""Variables of the user's follow the labels, and selected draws are matched or refused."""

import warnings

import numpy as np
import pytest

import bayes_moe as bm
from bayes_moe.gates import Gaussian, Tree
from bayes_moe.results import relabelling
from tests.support.fits import fake_fit, parallel_lines

LABELS = ["low", "middle", "high"]


def shuffled(fit, seed=1):
    """The fit with the labels of each draw at random among those that leave the model."""
    sizes = fit.idata["posterior"].sizes
    rng = np.random.default_rng(seed)
    shape = (sizes["chain"], sizes["draw"])
    if fit.spec.gate.kind == "tree":
        allowed = np.array([[0, 1, 2, 3], [1, 0, 2, 3], [2, 3, 0, 1], [3, 2, 1, 0]])
        orders = allowed[rng.integers(4, size=shape)]
    else:
        orders = rng.permuted(np.tile(np.arange(fit.spec.n_experts), (*shape, 1)), axis=-1)
    tree = fit.idata.copy()
    posterior = relabelling.permute(fit.idata["posterior"].to_dataset(), fit.spec, orders)
    tree["posterior"] = type(tree)(posterior)
    return bm.Fit(fit.spec, fit.design, tree)


def with_group(fit, name, dataset):
    tree = fit.idata.copy()
    tree[name] = type(tree)(dataset)
    return bm.Fit(fit.spec, fit.design, tree)


def with_variable(fit, make, group):
    """The fit with a variable of the user's, in the posterior or in a group of its own."""
    value = make(fit).rename("own")
    if group == "posterior":
        return with_group(fit, group, fit.idata["posterior"].to_dataset().assign(own=value))
    return with_group(fit, group, value.to_dataset())


def mu(fit):
    return fit.idata["posterior"]["mu_coef"]


def pairs(fit):
    """Differences of all pairs of experts, along a second dimension."""
    return mu(fit) - mu(fit).rename(expert="expert_2")


OWN = {
    "gap": lambda fit: mu(fit) - mu(fit).mean("expert"),
    "pairs": pairs,
    "order of dimensions": lambda fit: pairs(fit).transpose(
        "mu_term", "expert_2", "draw", "expert", "chain"
    ),
    "single precision": lambda fit: fit.idata["posterior"]["mu_coef"].astype("float32"),
    "truth values": lambda fit: mu(fit) > 1.0,
    "strings": lambda fit: (mu(fit) > 1.0).astype(str),
    "no labels": lambda fit: mu(fit).drop_vars("expert"),
    "by row": lambda fit: bm.responsibilities(fit)[:, :, :4],
}


@pytest.mark.parametrize("group", ["posterior", "of_the_user"])
@pytest.mark.parametrize("what", OWN)
def test_variables_of_the_user_follow_the_labels(what, group):
    spec, table, parameters = parallel_lines(3)
    fit = shuffled(fake_fit(spec, table, parameters, spread=0.03))
    if what == "no labels" and group == "posterior":
        group = "elsewhere"  # in the posterior it takes the labels of the others
    aligned = bm.relabel(with_variable(fit, OWN[what], group))
    assert not np.array_equal(OWN[what](aligned).values, OWN[what](fit).values)
    own = aligned.idata[group]["own"]
    expected = OWN[what](aligned).transpose(*own.dims)
    if what in ("truth values", "strings"):
        assert (own.values == expected.values).all()
    else:
        np.testing.assert_allclose(own.values, expected.values, rtol=1e-6, atol=1e-12)
    assert own.dtype == expected.dtype
    back = bm.relabel(aligned, "none").idata[group]["own"]
    np.testing.assert_array_equal(back.values, OWN[what](fit).transpose(*back.dims).values)


def named_lines():
    """Three lines whose experts have names."""
    _, table, parameters = parallel_lines(3)
    spec = bm.MixtureOfExperts(
        bm.gates.Softmax("~ x"), [bm.Expert("y ~ x", sigma="~ x", name=name) for name in LABELS]
    )
    return spec, table, parameters


def four_branches(formulas=None):
    """Four lines under a tree of two times two branches."""
    lines, table, parameters = parallel_lines(4)
    gate = Tree([[0, 1], [2, 3]], formula="~ x", formulas=formulas)
    spec = bm.MixtureOfExperts(gate, lines.experts)
    rng = np.random.default_rng(2)
    design = spec.design(table)
    values = {n: v for n, v in parameters.items() if n != "gate_coef"}
    for name, shape in spec.structure.gate.shapes(design.rows.matrices).items():
        values[name] = rng.normal(0, 0.5, shape)
    return spec, table, values


def test_experts_with_names_and_branches_of_a_tree():
    fit = fake_fit(*named_lines(), spread=0.03)
    assert list(mu(fit)["expert"].values) == LABELS
    mixed = shuffled(fit)
    aligned = bm.relabel(with_variable(mixed, pairs, "posterior"))
    np.testing.assert_allclose(aligned.idata["posterior"]["own"], pairs(aligned), atol=1e-12)


@pytest.mark.parametrize("formulas", [None, {"root": "~ 1"}])
def test_branches_of_a_tree_follow(formulas):
    """Probabilities of all branches, and the coefficients of the free ones."""
    fit = shuffled(fake_fit(*four_branches(formulas), spread=0.03))

    def branches(f):
        values = bm.node_probabilities(f, {"x": [-0.7, 0.4]}, draws=True)
        return values.drop_vars(["split", "depth"]).rename(obs_id="point")

    def doubled(f):
        return 2 * f.idata["posterior"][[*f.spec.structure.gate.dims][-1]]

    for make in (branches, doubled):
        aligned = bm.relabel(with_variable(fit, make, "of_the_user"))
        np.testing.assert_allclose(
            aligned.idata["of_the_user"]["own"], make(aligned), rtol=1e-9, atol=1e-12
        )
        assert not np.allclose(make(aligned).values, make(fit).values)


def test_covariances_of_a_gaussian_gate_follow():
    rng = np.random.default_rng(0)
    lines, table, parameters = parallel_lines(3)
    spec = bm.MixtureOfExperts(Gaussian("~ x"), lines.experts)
    values = {n: v for n, v in parameters.items() if n != "gate_coef"}
    values["gate_coef"] = np.zeros((3, 1))
    values["gate_x_mu_coef"] = rng.normal(size=(3, 1))
    values["gate_x_sigma"] = np.array([0.5, 1.0, 2.0])
    original = fake_fit(spec, table, values, spread=0.02)
    aligned = bm.relabel(shuffled(original))
    for name in ("gate_weight", "gate_mean", "gate_cov"):
        np.testing.assert_array_equal(
            aligned.idata["posterior"][name], original.idata["posterior"][name]
        )


NOT_PERMUTED = {
    r"own \(expert, mu_term\)": lambda fit: mu(fit).mean(("chain", "draw")),
    r"own \(chain, draw, expert_pair, mu_term\)": lambda fit: (
        mu(fit).isel(expert=[0, 1]).rename(expert="expert_pair")
    ),
    r"own \(chain, draw, expert\)": lambda fit: mu(fit).isel(expert=[0, 2], mu_term=0, drop=True),
}


@pytest.mark.parametrize("what", NOT_PERMUTED)
def test_what_cannot_be_permuted_is_named(what):
    spec, table, parameters = parallel_lines(3)
    fit = shuffled(fake_fit(spec, table, parameters))
    with_draws = {"draws": fit.idata["posterior"]["sigma_coef"]}
    own = NOT_PERMUTED[what](fit)
    if own.sizes.get("expert", 3) == 3:
        fit = with_group(fit, "of_the_user", own.to_dataset(name="own").assign(with_draws))
    else:
        fit = with_group(fit, "of_the_user", own.to_dataset(name="own"))
    with pytest.warns(UserWarning, match=rf"Not relabelled: {what}.*Make these again"):
        got = bm.relabel(fit)
    np.testing.assert_array_equal(got.idata["of_the_user"]["own"], own)


@pytest.mark.parametrize("draws", [5, 200])
def test_draws_from_the_prior_keep_labels_and_number(draws):
    """Also in groups that PyMC makes beside them; the way back leaves them too."""
    fit = shuffled(fake_fit(*parallel_lines(3), spread=0.03))
    fit = bm.extend(fit, "prior", "prior_predictive", draws=draws, random_seed=1)
    prior = fit.idata["prior"].to_dataset()
    fit = with_group(with_group(fit, "unconstrained_prior", prior), "sample_stats_prior", prior)
    aligned = bm.relabel(fit)
    assert not aligned.idata["posterior"].to_dataset().equals(fit.idata["posterior"].to_dataset())
    for changed in (aligned, bm.relabel(aligned, "none")):
        for group in ("prior", "prior_predictive", "unconstrained_prior", "sample_stats_prior"):
            assert changed.idata[group].to_dataset().equals(fit.idata[group].to_dataset())


def test_no_warning_without_a_change_and_none_for_other_variables():
    spec, table, parameters = parallel_lines(3)
    fit = fake_fit(spec, table, parameters)  # already in order
    mean = mu(fit).mean(("chain", "draw")).to_dataset(name="own")
    other = (
        fit.idata["posterior"].to_dataset()[[]].assign(level=mu(fit).mean("expert"), constant=3.0)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bm.relabel(with_group(fit, "of_the_user", mean))
        bm.relabel(with_group(shuffled(fit), "of_the_user", other))


# --- selected draws ------------------------------------------------------------------------------


def selected(fit, select):
    """The fit with a selection of the posterior's draws put back."""
    return with_group(fit, "posterior", select(fit.idata["posterior"].to_dataset()))


@pytest.fixture(scope="module")
def aligned():
    spec, table, parameters = parallel_lines(3, n=40)
    return bm.relabel(shuffled(fake_fit(spec, table, parameters, draws=40)))


@pytest.fixture(scope="module")
def other():
    spec, table, parameters = parallel_lines(3, n=40)
    return bm.relabel(shuffled(fake_fit(spec, table, parameters, draws=40, seed=9)))


def saved(fit, path):
    back = bm.load(bm.save(fit, path / "fit.nc"))
    assert back.idata["posterior"].sizes == fit.idata["posterior"].sizes
    return back


FACE = {
    "relabel": lambda fit, like, path: bm.relabel(fit),
    "relabel by parameters": lambda fit, like, path: bm.relabel(fit, "parameters"),
    "undo": lambda fit, like, path: bm.relabel(fit, "none"),
    "relabel like": lambda fit, like, path: bm.relabel(fit, like=like),
    "be followed": lambda fit, like, path: bm.relabel(like, like=fit),
    "predict": lambda fit, like, path: bm.predict(fit).mean(),
    "weights": lambda fit, like, path: bm.predict(fit).weights(draws=True),
    "interval": lambda fit, like, path: bm.predict(fit).interval(0.9),
    "log_density": lambda fit, like, path: bm.log_density(fit),
    "responsibilities": lambda fit, like, path: bm.responsibilities(fit),
    "node_probabilities": lambda fit, like, path: bm.node_probabilities(fit),
    "node_responsibilities": lambda fit, like, path: bm.node_responsibilities(fit),
    "usage": lambda fit, like, path: bm.usage(fit),
    "effective_experts": lambda fit, like, path: bm.effective_experts(fit),
    "experts_in_use": lambda fit, like, path: bm.experts_in_use(fit),
    "diagnose": lambda fit, like, path: bm.diagnose(fit),
    "summary": lambda fit, like, path: bm.summary(fit, ci_prob=0.9, ci_kind="eti"),
    "tree_text": lambda fit, like, path: bm.tree_text(fit),
    "plot_experts": lambda fit, like, path: bm.plot_experts(fit, backend="none"),
    "save": lambda fit, like, path: saved(fit, path),
}
KEEPS = {
    "every tenth draw": lambda p: p.isel(draw=slice(None, None, 10)),
    "one draw of one chain": lambda p: p.isel(chain=[1], draw=[3]),
}
LOSES = {
    "no draw": lambda p: p.isel(draw=3),
    "no chain": lambda p: p.isel(chain=0),
    "mean": lambda p: p.mean("draw"),
    "stacked": lambda p: p.stack(sample=("chain", "draw")),
}
quiet = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")


@quiet
@pytest.mark.parametrize("name", FACE)
@pytest.mark.parametrize("what", KEEPS)
def test_every_function_takes_a_selection_of_draws(name, what, aligned, other, tmp_path):
    """The same as of a fit that never had the others: nothing is paired by position."""
    part = selected(aligned, KEEPS[what])
    got = FACE[name](part, other, tmp_path)
    draws = part.idata["posterior"]
    fresh = aligned.idata.sel(chain=draws["chain"], draw=draws["draw"])
    expected = FACE[name](bm.Fit(aligned.spec, aligned.design, fresh), other, tmp_path)
    if isinstance(got, bm.Fit):
        got, expected = (f.idata["posterior"]["mu_coef"] for f in (got, expected))
    if hasattr(got, "values") and hasattr(got, "shape") and name != "plot_experts":
        np.testing.assert_allclose(np.asarray(got.values, float), expected.values, rtol=1e-12)


@quiet
@pytest.mark.parametrize(
    ("name", "what"),
    [(n, "no draw") for n in FACE if n != "save"]
    + [(n, what) for n in ("relabel", "predict", "usage") for what in LOSES],
)
def test_a_posterior_without_chains_or_draws_is_refused(name, what, aligned, other, tmp_path):
    lost = {"no draw": "draw", "no chain": "chain", "mean": "draw"}.get(what, "chain and draw")
    part = selected(aligned, LOSES[what])
    with pytest.raises(bm.SpecError, match=rf"no dimension {lost}\. Keep both.*isel\(draw=\[0\]\)"):
        FACE[name](part, other, tmp_path)
    assert "Fit of" in repr(part)


@quiet
@pytest.mark.parametrize("name", [n for n in FACE if n != "save"])
@pytest.mark.parametrize("dim", ["chain", "draw"])
def test_a_posterior_without_any_draw_is_refused(name, dim, aligned, other, tmp_path):
    part = selected(aligned, lambda p: p.isel({dim: slice(0)}))
    with pytest.raises(bm.SpecError, match=r"has \d+ chains of \d+ draws: none is left"):
        FACE[name](part, other, tmp_path)


def test_other_draws_are_refused_with_both_sizes(aligned):
    for select in (
        lambda p: p.isel(draw=slice(10)).assign_coords(draw=np.arange(90, 100)),
        lambda p: p.isel(draw=slice(10)).drop_vars("draw"),
    ):
        with pytest.raises(bm.SpecError, match=r"has 2 x 10 \(chains x draws\).*of 2 x 40.*isel"):
            bm.relabel(selected(aligned, select))


def test_groups_are_cut_to_the_draws_that_are_labelled(aligned):
    """Another group with more draws than the posterior keeps those that have labels."""
    fit = with_group(aligned, "of_the_user", mu(aligned).to_dataset(name="own"))
    got = bm.relabel(selected(fit, KEEPS["every tenth draw"]))
    assert got.idata["of_the_user"].sizes["draw"] == 4
    np.testing.assert_array_equal(got.idata["of_the_user"]["own"], mu(got))

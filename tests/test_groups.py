"""Rows that share an expert by group: fits, what is read of them, and refused tables."""

import json
from pathlib import Path

import arviz as az
import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from tests.support import contracts
from tests.support.groups import brute_force


@pytest.fixture(scope="module")
def panel():
    """Growth of 50 persons in two classes, five times each, in a random order of rows."""
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(50), 5)
    t = np.tile(np.arange(5.0), 50)
    age = rng.normal(40, 10, 50)[person]
    fast = (rng.random(50) < 1 / (1 + np.exp(-(age[::5] - 40) / 6)))[person]
    y = np.where(fast, 2 + 0.9 * t, 2 - 0.2 * t) + rng.normal(0, 1.0, 250)
    table = pd.DataFrame({"id": [f"p{i}" for i in person], "t": t, "age": age, "y": y})
    return table.assign(fast=fast).sample(frac=1, random_state=1).reset_index(drop=True)


SPEC = bm.mixture_of_experts("y ~ t", experts=2, gate="~ age", group="id")


@pytest.fixture(scope="module")
def mode(panel):
    return bm.fit(SPEC, panel, "em", random_seed=0)


@pytest.fixture(scope="module")
def draws(panel):
    return bm.fit(SPEC, panel, "laplace", draws=250, chains=2, random_seed=0)


def values_of(fit, draw=0):
    posterior = fit.idata["posterior"].isel(chain=0, draw=draw)
    return {name: posterior[name].values for name in fit.spec.variables}


def test_figures_of_groups_are_those_by_definition(mode, panel):
    density, shares = brute_force(
        SPEC, values_of(mode), mode.design, panel.rename(columns={"id": "g"})
    )
    of_groups = bm.log_density(mode)
    assert of_groups.dims == ("chain", "draw", "group_id")
    assert of_groups["group_id"].values.tolist() == panel["id"].drop_duplicates().tolist()
    np.testing.assert_allclose(of_groups.values[0, 0], [*density.values()], rtol=1e-10)
    r = bm.responsibilities(mode)
    np.testing.assert_allclose(r.values[0, 0], [*shares.values()], atol=1e-10)
    figures = bm.information(mode)
    assert figures["n_obs"] == 50
    assert figures["log_likelihood"] == pytest.approx(sum(density.values()), rel=1e-10)
    expected = -2 * sum(density.values()) + figures["effective_parameters"] * np.log(50)
    assert figures["bic"] == pytest.approx(expected, rel=1e-10)
    certain = np.log(r.values[0, 0].max(axis=-1)).sum()
    assert figures["icl"] == pytest.approx(expected - 2 * certain, rel=1e-10)
    np.testing.assert_allclose(bm.usage(mode).values[0, 0], r.values[0, 0].mean(axis=0))
    np.testing.assert_allclose(
        bm.modes(mode).iloc[0][["share[0]", "share[1]"]].astype(float), r.values[0, 0].mean(axis=0)
    )


def test_em_finds_the_classes_of_persons(mode, panel):
    contracts.path_never_falls(mode)
    r = bm.responsibilities(mode)
    fast = panel.drop_duplicates("id").set_index("id")["fast"]
    found = r.sel(expert=1).values[0, 0] > 0.5
    assert (found == fast[r["group_id"].values].to_numpy()).mean() > 0.9
    slopes = mode.idata["posterior"]["mu_coef"].values[0, 0, :, 1]
    np.testing.assert_allclose(slopes, [-0.2, 0.9], atol=0.2)
    again = bm.fit(SPEC, panel, "em", start=r.values[0, 0])
    assert float(again.idata["fit"]["objective"]) == pytest.approx(
        float(mode.idata["fit"]["objective"]), abs=1e-6
    )


def test_the_order_of_rows_does_not_matter(mode, panel):
    ordered = bm.fit(SPEC, panel.sort_values("id").reset_index(drop=True), "em", random_seed=0)
    for name, value in values_of(mode).items():
        np.testing.assert_allclose(values_of(ordered)[name], value, rtol=1e-5, atol=1e-7)
    errors = [f.idata["standard_error"]["mu_coef"].values for f in (mode, ordered)]
    np.testing.assert_allclose(*errors, rtol=1e-5)


def test_map_ends_where_em_does(mode, panel):
    found = bm.fit(SPEC, panel, "map", restarts=3, random_seed=0)
    for name, value in values_of(mode).items():
        np.testing.assert_allclose(values_of(found)[name], value, rtol=1e-3, atol=1e-3)


def test_leave_one_out_leaves_out_groups(draws):
    stored = draws.idata["log_likelihood"]["y"]
    assert stored.dims == ("chain", "draw", "group_id")
    np.testing.assert_allclose(stored, bm.log_density(draws), rtol=1e-12)
    assert az.loo(draws.idata, reff=1.0).n_data_points == 50


def test_fits_with_the_same_groups_are_compared(draws, mode, panel):
    one = bm.mixture_of_experts("exp(y / 4) ~ t", experts=2, gate="~ age", group="id")
    scaled = bm.fit(one, panel.assign(y=panel["y"]), "laplace", draws=250, chains=2, random_seed=0)
    table = bm.compare({"y": draws, "scaled": scaled})
    slope = (panel["y"] / 4).sum() + 250 * np.log(1 / 4)
    for name, fit in (("y", draws), ("scaled", scaled)):
        loo = az.loo(fit.idata, reff=1.0).elpd + (slope if name == "scaled" else 0.0)
        assert table.loc[name, "elpd"] == pytest.approx(loo, abs=1e-6)
    apart = bm.fit(bm.mixture_of_experts("y ~ t", experts=2, gate="~ age"), panel, "em")
    with pytest.raises(bm.SpecError, match="`group=`"):
        bm.compare({"groups": mode, "rows": apart})
    assert "250 rows in 50 groups" in repr(mode)


def test_new_rows_are_read_with_their_groups(draws, panel):
    part = panel[panel["id"].isin(["p3", "p7", "p11"])].reset_index(drop=True)
    new = bm.responsibilities(draws, part)
    all_of_them = bm.responsibilities(draws).sel(group_id=new["group_id"].values)
    np.testing.assert_allclose(new, all_of_them, rtol=1e-9)
    with pytest.raises(bm.DataError, match=r"'id'.*`group`"):
        bm.responsibilities(draws, part.drop(columns="id"))
    other = part.assign(age=part["age"] + (part.index == 3))
    for read in (bm.responsibilities, bm.log_density, bm.predict, bm.build):
        with pytest.raises(bm.DataError, match=r"feature 'age' differs within .* row 3"):
            read(draws, other)
    alone = bm.predict(draws, part.drop(columns=["id", "y"])).mean()
    np.testing.assert_allclose(alone, bm.predict(draws, part).mean())


def test_fits_are_saved_and_fitted_again(mode, panel, tmp_path):
    again = bm.load(bm.save(mode, tmp_path / "fit.nc"))
    assert again.spec == mode.spec
    np.testing.assert_array_equal(bm.responsibilities(again), bm.responsibilities(mode))
    half = panel[panel["id"].isin([f"p{i}" for i in range(30)])].reset_index(drop=True)
    other = bm.refit(mode, half, random_seed=0)
    assert bm.information(other)["n_obs"] == 30
    assert values_of(other)["mu_coef"][1, 1] > values_of(other)["mu_coef"][0, 1]


def test_drawn_responses_of_a_group_are_of_one_expert(panel):
    held = {"mu_coef": [[0.0], [100.0]], "weights": (0.5, 0.5)}
    spec = bm.mixture_of_experts("y ~ 1", experts=2, group="id", fixed=held)
    table = bm.simulate(spec, panel[["id", "y"]], random_seed=0, expert_column="e")
    high = table["y"] > 50
    assert table.groupby("id")["e"].nunique().max() == 1
    with pytest.raises(bm.DataError, match=r"'age' differs within"):
        bm.simulate(SPEC, panel.assign(age=panel["t"]), random_seed=0)
    assert ((table["e"] == 1) == high).all()
    fit = bm.fit(spec, table, "laplace", draws=3, chains=1, random_seed=0)
    drawn = bm.predict(fit).sample(random_seed=1).values.reshape(3, -1) > 50
    for draw in drawn:
        assert pd.Series(draw).groupby(panel["id"]).nunique().max() == 1
        assert 0.2 < draw.mean() < 0.8


def test_experts_never_divide_a_group(mode):
    rows = mode.design.rows
    r = bm.prediction.predict.row_responsibilities(mode).values[0, 0]
    same = pd.DataFrame(r).groupby(rows.observation.group).nunique()
    assert (same == 1).all(axis=None)


def test_tables_that_no_group_model_can_have(panel):
    def refused(table, match, error=bm.DataError, **changes):
        with pytest.raises(error, match=match):
            bm.fit(
                bm.mixture_of_experts(
                    "y ~ t", experts=2, **{"gate": "~ age", "group": "id"} | changes
                ),
                table,
                "em",
            )

    moved = panel.assign(age=np.where(panel.index == 17, 99.0, panel["age"]))
    whom = moved["id"][17]
    refused(moved, rf"gate's feature 'age'.*'{whom}'.*99 at row 17|'{whom}'.*at row 17.*99")
    refused(panel, "gate's feature 't'.*gate='~ 1'", gate="~ t")
    refused(panel.assign(w=np.arange(250) + 1.0), "weight 'w' differs", weights="w")
    refused(panel.assign(id="a"), "more experts .2. than groups")
    gaussian = bm.gates.Gaussian("~ age")
    refused(panel, "softmax", bm.SpecError, gate=gaussian)
    refused(panel.assign(id=panel["id"].where(panel.index > 3)), "4 missing")
    with pytest.raises(bm.SpecError, match="batch"):
        bm.fit(SPEC, panel, "advi", batch_size=20)
    with pytest.raises(bm.SpecError, match="Adam"):
        bm.fit(SPEC, panel, "map", optimizer="adam")
    with pytest.raises(bm.SpecError, match="ensemble"):
        bm.fit(SPEC, panel, "ensemble")


FOLDER = Path(__file__).parent / "data"
PEERS = json.loads((FOLDER / "peers_groups.json").read_text())["cases"]
TRIALS = {"family": "binomial", "trials": "patients", "gate": "~ 1", "group": "center"}
OF_PEERS = [
    bm.mixture_of_experts("deaths ~ treatment", experts=2, **TRIALS),
    bm.mixture_of_experts(
        "deaths ~ treatment", experts=3, shared="p_coef[treatment[T.treated]]", **TRIALS
    ),
    bm.mixture_of_experts("yp ~ x", family="poisson", experts=2, gate="~ 1", group="id2"),
    bm.mixture_of_experts("yn ~ x + I(x**2)", experts=2, gate="~ 1", group="id2"),
]


@pytest.mark.parametrize(("spec", "peer"), [*zip(OF_PEERS, PEERS, strict=True)])
def test_the_likelihood_is_flexmix_s(spec, peer):
    ships = peer["data"] == "betablocker"
    table = bm.load_dataset("betablocker") if ships else pd.read_csv(FOLDER / "NPreg.csv")
    fit = bm.fit(spec, table, "em", objective="likelihood", random_seed=0)
    found = bm.information(fit)["log_likelihood"]
    location = next(
        name for name in spec.variables if name.endswith("coef") and name != "gate_coef"
    )
    own, weights = values_of(fit), np.array(peer["weights"])
    if "sigma" not in peer:
        assert found == pytest.approx(peer["loglik"], abs=1e-5)
        order = np.argsort(own[location][:, 0])
        np.testing.assert_allclose(own[location][order], sorted(peer["coef"]), rtol=1e-4, atol=1e-5)
        shares = weights[np.argsort([coef[0] for coef in peer["coef"]])]
        np.testing.assert_allclose(bm.usage(fit).values[0, 0, order], shares, atol=1e-5)
        return
    assert peer["loglik"] < found < peer["loglik"] + 0.02
    parameters = {
        location: np.array(peer["coef"]),
        "sigma": np.array(peer["sigma"]),
        "gate_coef": np.log(weights)[:, None],
    }
    density, _ = brute_force(spec, parameters, fit.design, table.assign(g=table["id2"].astype(str)))
    assert sum(density.values()) == pytest.approx(peer["loglik"], abs=1e-5)


def test_labels_of_a_refit_follow_by_groups(draws, panel):
    other = bm.refit(draws, panel[panel["id"] > "p2"].reset_index(drop=True), random_seed=3)
    np.testing.assert_allclose(
        other.idata["posterior"]["mu_coef"].mean(("chain", "draw"))[:, 1],
        draws.idata["posterior"]["mu_coef"].mean(("chain", "draw"))[:, 1],
        atol=0.2,
    )
    certainty = other.idata["relabelling"]["certainty"]
    assert (certainty > 0.99).all()


def test_gates_of_groups_have_no_features_unless_given():
    flat, tree = bm.mixture_of_experts, bm.hierarchical_mixture
    for recipe in (flat, tree):
        assert recipe("y ~ t", group="id").gate == recipe("y ~ t", "~ 1", group="id").gate
        assert recipe("y ~ t", "~ z", group="id").gate == recipe("y ~ t", "~ z").gate
    assert flat("y ~ t", group="id").gate != flat("y ~ t").gate


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Pareto k:bayes_moe.ConvergenceWarning")
def test_intervals_cover_classes_of_persons():
    """A quarter of the persons grows; intervals of 90 % cover in 85 to 95 of 100 tables."""
    spec = bm.mixture_of_experts("y ~ t", experts=2, gate="~ 1", group="id")
    truth = {"mu_coef": np.array([[2.0, 0.0], [2.0, 0.6]]), "sigma": np.ones(2)}
    covered, shares = [], []
    t, who = np.tile(np.arange(5.0), 150), np.repeat(np.arange(150), 5)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        grows = rng.random(150) < 0.24
        y = 2 + np.where(grows[who], 0.6 * t, 0.0) + rng.normal(0, 1, 750)
        table = pd.DataFrame({"id": who, "t": t, "y": y})
        fit = bm.fit(spec, table, "laplace", draws=300, chains=1, random_seed=seed)
        draws = {n: fit.idata["posterior"][n].values[0] for n in truth}
        draws["share"] = bm.predict(fit).weights(draws=True).values[0, :, 0, 1]
        for name, value in {**truth, "share": np.array(0.24)}.items():
            low, high = np.quantile(draws[name], [0.05, 0.95], axis=0)
            covered.append(((low < value) & (value < high)).ravel())
        shares.append(draws["share"].mean())
    assert 0.85 < np.concatenate(covered).mean() < 0.95
    assert np.mean(shares) == pytest.approx(0.24, abs=0.02)

"""Methods on recurrent gates: Adam on whole series, Laplace's method, and the compiled density."""

import warnings

import numpy as np
import pytest

import bayes_moe as bm
from bayes_moe.gates import Attention, Markov, Recurrent, Softmax
from bayes_moe.graph.log_density import GraphLogDensity
from bayes_moe.model.evaluation import evaluate
from bayes_moe.optimize.adam import RowSplit
from bayes_moe.optimize.densities import log_density, of_rows
from bayes_moe.optimize.lbfgs import newton_along
from bayes_moe.optimize.network_density import NetworkDensity
from tests.support.cues import cued
from tests.support.examples import series_table
from tests.support.graphs import internal_graph

NET = bm.predictors.Recurrent
QUIET = {"random_seed": 1, "progressbar": False}


def described(gate, experts=2, **settings):
    kinds = [bm.Expert("y ~ x", **settings)] * experts
    return bm.MixtureOfExperts(gate, kinds, time="t", series="id")


def mixed_table(rows=150):
    """Two series whose rows come in turn, more rows than a chunk of the kernel has."""
    return series_table(rows).sort_values("t", kind="stable")


CASES = {
    "gru gate": described(Recurrent("~ x", units=3), experts=3),
    "rnn gate": described(Recurrent("~ x + I(x**2)", "rnn", units=2)),
    "gru experts": described(Softmax("~ x"), predictor=NET(units=2)),
    "both, of different cells": described(
        Recurrent("~ x", units=1, scale="fixed"),
        sigma="~ x",
        predictor={"mu": NET("rnn", 5), "sigma": NET("gru", 2)},
    ),
    "beside a network": described(Recurrent("~ x", units=2), predictor=bm.predictors.MLP((3,))),
    "under a Markov gate": described(Markov("~ x"), predictor=NET(units=2)),
}
SLOW = {"rnn gate", "gru experts", "beside a network"}


@pytest.fixture(scope="module", params=list(CASES))
def compiled(request):
    spec = CASES[request.param]
    return NetworkDensity(spec, spec.design(mixed_table()), jacobian=True)


def test_slopes_of_the_compiled_density_are_differences(compiled):
    rng = np.random.default_rng(1)
    x, step = 0.5 * rng.standard_normal(compiled.free.size), 1e-5
    _, slopes = compiled(x)
    free = np.flatnonzero(compiled.free_coordinates)
    for _ in range(5):
        move = np.zeros(x.size)
        move[free] = rng.standard_normal(len(free))
        ends = [compiled(x + sign * step * move)[0] for sign in (1, -1)]
        np.testing.assert_allclose((ends[0] - ends[1]) / (2 * step), slopes @ move, rtol=1e-6)


def test_the_compiled_likelihood_is_that_of_the_rows(compiled):
    """NumPy evaluates whole series, whose states a test holds to a loop and to PyTorch."""
    spec, design = compiled.spec, compiled.design
    x = 0.5 * np.random.default_rng(2).standard_normal(compiled.free.size)
    values = {n: v[None] for n, v in compiled.variables(x).items()}
    mixture = evaluate(spec, values, design.rows)
    joint = mixture.log_weights + mixture.log_components(design.response)
    expected = np.logaddexp.reduce(joint, axis=1).sum()
    np.testing.assert_allclose(compiled.weighted(x, 1.0)[1], expected, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_the_compiled_density_is_that_of_the_graph(name):
    spec = CASES[name]
    design = spec.design(mixed_table())
    one = NetworkDensity(spec, design, jacobian=True)
    other = GraphLogDensity(internal_graph(spec, design), jacobian=True)
    x = 0.5 * np.random.default_rng(1).standard_normal(one.free.size)
    for a, b in zip(one(x), other(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


# --- Adam -----------------------------------------------------------------------------------------


def test_rows_that_are_held_out_do_not_count_but_are_read():
    spec = CASES["gru gate"]
    density = log_density(spec, spec.design(mixed_table()))
    x = 0.5 * np.random.default_rng(3).standard_normal(density.free.size)
    split = RowSplit.last(density.design.rows.sequences, 0.2)
    parts = [of_rows(density, which).weighted(x, 1.0) for which in (split.train, split.held_out)]
    assert len(split.held_out) == 30
    whole = density.weighted(x, 1.0)
    np.testing.assert_allclose(parts[0][1] + parts[1][1], whole[1], rtol=1e-12)
    prior = density.weighted(x, 0.0)[2]
    np.testing.assert_allclose(parts[0][2] + parts[1][2] - prior, whole[2], rtol=1e-9, atol=1e-9)


def test_the_last_rows_of_each_series_are_held_out():
    sequences = described(Softmax("~ x")).design(mixed_table(30)).rows.sequences
    late = RowSplit.last(sequences, 0.1).held_out
    counts = np.bincount(sequences.code[late])
    np.testing.assert_array_equal(counts, [1, 2])
    for code in (0, 1):
        assert {*np.flatnonzero(sequences.code == code)[-counts[code] :]} <= {*late}


@pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")
def test_adam_rises_on_whole_series():
    spec, table = CASES["gru gate"], mixed_table()
    fit = bm.fit(spec, table, "map", optimizer="adam", restarts=2, epochs=60, **QUIET)
    figures = fit.idata["fit"]
    assert figures.attrs["optimizer"] == "adam"
    assert int(figures["epochs"]) <= 60
    assert float(figures["validation_log_density"]) > float(figures["validation_path"][0])
    assert np.isfinite(np.asarray(bm.predict(fit).mean())).all()


@pytest.mark.parametrize(
    ("spec", "settings", "message"),
    [
        (CASES["gru gate"], {"batch_size": 32}, "Leave batch_size out"),
        (CASES["under a Markov gate"], {}, "optimizer='lbfgs'"),
    ],
)
def test_adam_refuses_what_would_cut_series(spec, settings, message):
    with pytest.raises(bm.SpecError, match=message):
        bm.fit(spec, mixed_table(30), "map", optimizer="adam", **QUIET, **settings)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")
def test_adam_takes_batches_of_rows_under_attention_to_the_past():
    spec = described(Attention("~ x", over="past", window=3))
    fit = bm.fit(spec, mixed_table(), "map", optimizer="adam", restarts=2, epochs=200, **QUIET)
    figures = fit.idata["fit"]
    assert float(figures["validation_log_density"]) > float(figures["validation_path"][0])


# --- Laplace's method -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def laplace():
    spec = described(Recurrent("~ x", units=2, scale="fixed"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bm.ConvergenceWarning)
        return bm.fit(spec, mixed_table(), "laplace", restarts=2, draws=100, **QUIET)


def test_laplace_of_the_last_layer_holds_the_cells_weights(laplace):
    posterior = laplace.idata["posterior"]
    for name in ("gate_input", "gate_recurrent", "gate_constant"):
        assert np.ptp(posterior[name].values, axis=(0, 1)).max() == 0.0
    for name in ("gate_coef", "mu_coef", "sigma"):
        assert np.ptp(posterior[name].values, axis=(0, 1)).min() > 0.0


def test_laplace_has_the_curvature_of_the_objective_given_the_cells_weights(laplace):
    """Second differences of a value that NumPy evaluates, along all but the cell's weights."""
    spec, design = laplace.spec, laplace.design
    density = log_density(spec, design, jacobian=True)
    inner = ("gate_input", "gate_recurrent", "gate_constant")
    moving = ~density.determining_coordinates(inner)
    free = np.flatnonzero(moving)
    modes = laplace.idata["modes"].to_dataset()
    drawn = laplace.idata["posterior"]["gate_input"].isel(chain=0, draw=0)
    best = int(np.argmin(np.abs(modes["gate_input"] - drawn).sum(drawn.dims).values))
    x = density.point({n: modes[n].values[best] for n in spec.variables})
    x = newton_along(density, x, moving)  # the mode given the cell's weights

    def value(x):
        values = {n: v[None] for n, v in density.variables(x).items()}
        mixture = evaluate(spec, values, design.rows)
        joint = mixture.log_weights + mixture.log_components(design.response)
        return np.logaddexp.reduce(joint, axis=1).sum() + density.weighted(x, 0.0)[0]

    step = 1e-3
    moves = step * np.eye(x.size)[free]
    cross = np.array(
        [
            [
                value(x + a + b) - value(x + a - b) - value(x - a + b) + value(x - a - b)
                for b in moves
            ]
            for a in moves
        ]
    ) / (4 * step**2)
    spread = np.zeros((x.size, x.size))
    spread[np.ix_(free, free)] = np.linalg.inv(-cross)
    errors = density.errors(x, spread)
    stored = laplace.idata["standard_error"]
    for name in ("gate_coef", "mu_coef", "sigma"):
        np.testing.assert_allclose(stored[name].values, errors[name], rtol=1e-3)


# --- NUTS -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_nuts_of_two_units_ends_and_says_that_its_chains_are_not_to_be_trusted():
    """The task of docs/recurrent.md: long trees and divergences, and no graph to compile."""
    table, _ = cued(150, 1, delay=3, gap=(10, 20))
    gate = Recurrent("~ cue", units=2, scale="fixed")
    spec = bm.MixtureOfExperts(gate, [bm.Expert("y ~ x")] * 2, time="t")
    with pytest.warns(bm.ConvergenceWarning, match="diverg"):
        fit = bm.fit(spec, table, "nuts", chains=2, tune=200, draws=100, **QUIET)
    assert int(fit.idata["sample_stats"]["diverging"].sum()) > 0

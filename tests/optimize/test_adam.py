"""Adam on minibatches: its gradients, its settings, and where it ends."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import bayes_moe as bm
from bayes_moe.graph.log_density import GraphLogDensity
from bayes_moe.inference.map import MAP
from bayes_moe.optimize.adam import (
    RACE,
    Adam,
    Judge,
    RowSplit,
    Schedule,
    Stream,
    _run_epochs,
    _Task,
    descend,
    on_all_rows,
)
from bayes_moe.optimize.densities import log_density, of_rows
from bayes_moe.optimize.stopped_starts import WIDE, raced_starts, wide_starts
from tests.support.graphs import internal_graph
from tests.support.tables import inverse_sine

MLP = bm.gates.Softmax("~ x", predictor=bm.predictors.MLP((6,)))
SPEC = bm.mixture_of_experts("y ~ x", gate=MLP, experts=2)


def somewhere(surface):
    start = surface.graph.model.initial_point().values()
    centre = np.concatenate([np.ravel(v) for v in start])
    return centre + 0.2 * np.random.default_rng(5).standard_normal(centre.size)


@pytest.mark.parametrize("family", ["normal", "binomial"])
def test_batches_add_up_to_the_whole(family):
    table = inverse_sine(9000)
    table["n"] = 3 + np.arange(9000) % 4
    table["k"] = np.random.default_rng(1).binomial(table["n"], table["y"])
    spec = SPEC
    if family == "binomial":
        spec = bm.mixture_of_experts("k ~ x", gate=MLP, experts=2, family="binomial", trials="n")
    surface = GraphLogDensity(internal_graph(spec, table))
    x = somewhere(surface)
    value, gradient = surface(x)
    in_parts = on_all_rows(surface, x)
    np.testing.assert_allclose(in_parts[0], value, rtol=1e-11)
    np.testing.assert_allclose(in_parts[1], gradient, rtol=1e-9, atol=1e-8)
    split = np.random.default_rng(2).permutation(9000).reshape(90, 100)
    slopes = [of_rows(surface, which).weighted(x, 90.0)[2] for which in split]
    np.testing.assert_allclose(np.mean(slopes, axis=0), gradient, rtol=1e-9, atol=1e-8)
    held = Judge(surface, np.arange(9000))(x)
    surface.show(slice(None))
    np.testing.assert_allclose(held, surface.weighted(x, 1.0)[1] / 9000, rtol=1e-11)


def test_compiled_steps_are_those_of_the_formula():
    spec = bm.mixture_density("y ~ x", components=3, hidden=(5, 4))
    compiled = log_density(spec, spec.design(inverse_sine(200)))
    graph = GraphLogDensity(internal_graph(spec, inverse_sine(200)))
    rates = np.linspace(0.05, 0.0, 60)
    ends = []
    for surface in (compiled, graph):
        adam = Adam(somewhere(graph))
        stream = Stream(surface, np.arange(150), 40, np.random.default_rng(1))
        stream.advance([adam], rates[:25])
        stream.advance([adam], rates[25:])
        assert adam.steps == 60
        ends.append(np.stack([adam.x, adam.average, adam.mean, adam.square]))
    assert np.abs(ends[0][0] - somewhere(graph)).max() > 0.1
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-9, atol=1e-9)


def test_a_gradient_that_is_not_finite_does_not_stay_in_the_moments():
    adam = Adam(np.zeros(2))
    adam.step(np.array([1.0, np.nan]), 0.1)
    np.testing.assert_allclose(adam.x, [0.1, 0.0])


def test_adam_ends_near_the_mode_of_lbfgs():
    table = inverse_sine(4000)
    net = bm.predictors.MLP((6,), scale="fixed")  # L-BFGS would settle a learned scale, Adam not
    spec = bm.mixture_of_experts("y ~ x", gate=bm.gates.Softmax("~ x", predictor=net), experts=2)
    options = {"method": "map", "random_seed": 1, "restarts": 3}
    adam = bm.fit(spec, table, **options, optimizer="adam", epochs=50)
    exact = bm.fit(spec, table, **options, optimizer="lbfgs")
    ours, theirs = (float(f.idata["fit"]["objective"]) for f in (adam, exact))
    assert theirs - 80 < ours <= theirs + 1e-6  # of 4000 rows, for which noise is large
    figures = adam.idata["fit"]
    assert figures.attrs["optimizer"] == "adam"
    assert exact.idata["fit"].attrs["optimizer"] == "lbfgs"
    path = figures["validation_path"].values
    assert len(path) == int(figures["epochs"]) + 1
    assert float(figures["validation_log_density"]) == path.max()
    assert bool(figures["converged"])
    assert bm.diagnose(adam).ok
    again = bm.fit(spec, table, **options, optimizer="adam", epochs=50)
    assert again.idata["posterior"].identical(adam.idata["posterior"])
    assert bm.predict(adam, {"x": [0.2, 0.8]}).mean().shape == (2,)


def test_the_best_of_short_runs_is_continued():
    spec = bm.mixture_density("y ~ x", components=3, hidden=(6,))
    surface = log_density(spec, spec.design(inverse_sine(300)))
    starts = wide_starts(spec, surface.design, 4, np.random.default_rng(3))
    split, schedule = RowSplit.random(300, 0.3, np.random.default_rng(4)), Schedule(epochs=60)
    found = descend(surface, starts, schedule, np.random.default_rng(5), split=split)[1]
    held_out, paths = Judge(surface, split.held_out), []
    for start in starts:
        stream = Stream(surface, split.train, schedule.batch(210), np.random.default_rng(5))
        adam, path = Adam(surface.point(start)), []
        for _ in range(2):
            stream.advance([adam], np.full(RACE, schedule.learning_rate))
            path.append(held_out(adam.average))
        paths.append(path)
    first, second = np.array(paths).T
    better = np.argsort(-first)[:2]  # after 100 steps of four, 200 of the better two
    assert found.path[0] == pytest.approx(second[better].max(), rel=1e-12)
    assert second[better].max() > np.median(second)
    assert found.held_out == found.path.max() > np.median(second)


def test_progress_of_races_and_epochs_ends_at_all():
    surface = log_density(SPEC, SPEC.design(inverse_sine(200)))
    starts = raced_starts(SPEC, surface.design, 5, np.random.default_rng(3))
    told = []
    descend(
        surface,
        starts,
        Schedule(epochs=4),
        np.random.default_rng(5),
        lambda *of: told.append(of),
    )
    assert told == [(j, 7) for j in range(1, 8)] + [(7, 7)]  # 5, 3, 2 runs


def test_starts_are_from_a_part_of_long_tables_under_the_prior_s_scales():
    spec = bm.mixture_density("y ~ x", components=3, hidden=(4,))
    design = spec.design(inverse_sine(2500))
    starts = raced_starts(spec, design, 4, np.random.default_rng(3))
    assert len(starts) == 4
    scales = [start["trunk_decay"] for start in starts]
    assert all((s == scales[0]).all() for s in scales)
    assert (scales[0] < WIDE).all()
    again = raced_starts(spec, design, 4, np.random.default_rng(3))
    for one, other in zip(starts, again, strict=True):
        assert all((one[name] == other[name]).all() for name in one)


def test_few_epochs_say_so():
    options = {"optimizer": "adam", "epochs": 1, "restarts": 1}
    with pytest.warns(bm.ConvergenceWarning, match="raise epochs"):
        bm.fit(SPEC, inverse_sine(500), method="map", random_seed=1, **options)


def test_the_optimizer_follows_the_model_and_the_length_of_the_table(monkeypatch):
    trees = bm.gates.Softmax("~ x", predictor=bm.predictors.SoftTree())
    smooth = bm.mixture_of_experts("y ~ x", gate=trees, experts=2)
    linear = bm.mixture_of_experts("y ~ x", experts=2)
    features = bm.mixture_of_experts("y ~ x", gate=bm.gates.Gaussian("~ x"), experts=2)
    table = inverse_sine(300)
    network = bm.mixture_density("y ~ x", 2, (4,))
    assert MAP().by_batches(network, network.design(table))
    assert not MAP(optimizer="lbfgs").by_batches(network, network.design(table))
    assert not MAP().by_batches(SPEC, SPEC.design(table))
    assert not MAP().by_batches(smooth, smooth.design(table))
    monkeypatch.setattr("bayes_moe.inference.map.MOST_ROWS", 200)
    assert MAP().by_batches(smooth, smooth.design(table))
    assert not MAP().by_batches(linear, linear.design(table))
    assert MAP(optimizer="adam").by_batches(linear, linear.design(table))
    assert not MAP().by_batches(features, features.design(table))
    with pytest.raises(bm.SpecError, match="models features"):
        MAP(optimizer="adam").by_batches(features, features.design(table))


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("optimizer", "adams", "Did you mean 'adam'"),
        ("batch_size", 0, "whole number >= 1"),
        ("epochs", 1.5, "whole number >= 1"),
        ("patience", 0, "whole number >= 1"),
        ("learning_rate", 0, "between 0 and 1"),
        ("validation", 1.0, "between 0 and 1"),
    ],
)
def test_settings_are_checked(setting, value, message):
    with pytest.raises(bm.SpecError, match=message):
        bm.fit(SPEC, inverse_sine(50), method="map", **{setting: value})


def test_epochs_are_fewer_where_they_are_long():
    assert [Schedule().passes(n) for n in (900, 90_000, 900_000)] == [858, 120, 25]
    assert Schedule(epochs=3).passes(900_000) == 3
    assert [Schedule().waits(epochs) for epochs in (5, 100)] == [3, 20]
    assert Schedule(patience=1).waits(100) == 1
    shares = np.array([0.0, 0.5, 1.0])
    rates = Schedule(learning_rate=0.2).rates(900, shares)
    np.testing.assert_allclose(rates, [0.2, 0.1, 0.0], atol=1e-15)
    large = Schedule(batch_size=4000).rates(10**6, shares)
    np.testing.assert_allclose(large, 2 * Schedule().rates(10**6, shares))


def test_where_nothing_is_gained_half_of_what_is_left_is_passed_over():
    surface = GraphLogDensity(internal_graph(SPEC, inverse_sine(500)))
    x = somewhere(surface)
    stream = Stream(surface, np.arange(50, 500), 100, np.random.default_rng(1))
    schedule = Schedule(epochs=20, patience=2, batch_size=100)
    told = []
    done = _run_epochs(_Task(stream, lambda _: 0.0, schedule, 450), 1.0, x, told.append)
    assert told == list(range(1, 8))  # 2 of 20, 2 of 9, 2 of 4, and the last
    assert done.steps == 4 * len(told)
    assert done.x is x
    assert done.settled


def test_batches_grow_with_the_table():
    assert [Schedule().batch(n) for n in (50, 500, 50_000, 10**6)] == [50, 64, 500, 1000]
    assert [Schedule(short=128).batch(n) for n in (200, 600, 12_000)] == [64, 100, 128]
    assert Schedule(batch_size=64).batch(10**6) == 64


@pytest.mark.slow
def test_a_million_rows():
    """In five minutes and four gigabytes, with default settings."""
    code = """
        import numpy as np, time, resource, bayes_moe as bm
        rng = np.random.default_rng(0)
        n = 10**6
        y, z = rng.uniform(0, 1, n), rng.normal(size=n)
        x = y + 0.3 * np.sin(2 * np.pi * y) + rng.uniform(-0.1, 0.1, n) + 0.02 * z
        spec = bm.mixture_density("y ~ x + z", components=5, hidden=(16, 16))
        began = time.monotonic()
        fit = bm.fit(spec, {"x": x, "y": y, "z": z}, method="map", random_seed=1)
        assert fit.idata["fit"].attrs["optimizer"] == "adam"
        assert float(fit.idata["fit"]["validation_log_density"]) > 1.17
        print(time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, kilobytes = map(float, done.stdout.split())
    assert kilobytes < 4 * 2**20
    assert seconds < 300

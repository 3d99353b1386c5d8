"""Engines: which one runs, and that all of them sample the same posterior."""

import os
import subprocess
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_all_start_methods, get_context
from types import SimpleNamespace

import arviz_stats as azs
import numpy as np
import pandas as pd
import pytest
from pytensor.compile.mode import Mode
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.traversal import ancestors

import bayes_moe as bm
from bayes_moe.core import errors
from bayes_moe.graph.build import build_design
from bayes_moe.inference.nuts import NUTS
from bayes_moe.kernels import families as kernels
from bayes_moe.sampling import graph_samplers as graphs
from bayes_moe.sampling.chain_starts import GroupedStarts
from bayes_moe.sampling.engine import Tuning
from bayes_moe.sampling.nutpie_compiled import Direct
from tests.support.fits import tiny_fit
from tests.support.graphs import internal_graph

QUICK = Mode(linker="py", optimizer="fast_compile")
SHORT = {"draws": 150, "tune": 150, "chains": 2, "progressbar": False}
DEPTH = {"maxdepth_reached", "reached_max_treedepth"}
few_draws = pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")


def table(rows, scale):
    rng = np.random.default_rng(rows)
    x, n = rng.normal(2 * scale, scale, rows), rng.integers(2, 12, rows)
    return pd.DataFrame(
        {
            "x": x,
            "z": rng.uniform(-1, scale, rows),
            "n": n,
            "y": np.minimum(np.arange(rows) % 4, n),
        }
    )


def plain(family, **more):
    return bm.mixture_of_experts("y ~ x", gate="~ z", family=family, **{"experts": 2} | more)


SPECS = {
    "normal": plain("normal", experts=3, sigma="~ z"),
    "one expert": bm.mixture_of_experts("y ~ x", experts=1, family="studentt"),
    "binomial": plain("binomial", trials="n"),
    "priors": plain(
        "poisson",
        priors={
            "mu_coef": bm.Prior("StudentT", nu=4, mu=0, sigma=[1.0, 2.0]),
            "gate_coef": bm.Prior("Normal", mu=0, sigma=2),
        },
    ),
    "two kinds": bm.MixtureOfExperts(
        bm.gates.Softmax("~ 1"),
        [bm.Expert("y ~ x", sigma="~ z"), bm.Expert("y ~ 1", "studentt"), bm.Expert("y ~ x")],
    ),
    "tree": bm.mixture_of_experts(
        "y ~ x",
        experts=3,
        gate=bm.gates.Tree([[0, 1], 2], formula="~ z", formulas={"0": "~ x"}),
    ),
    "sticks": bm.mixture_of_experts("y ~ x", experts=3, gate=bm.gates.StickBreaking("~ z")),
}


# --- the choice ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "engine"),
    [
        ({}, Direct()),
        ({"backend": "numba", "adaptation": "diag"}, Direct()),
        ({"likelihood": "symbolic"}, graphs.Nutpie("symbolic", "numba")),
        ({"backend": "jax"}, graphs.Nutpie("fused", "jax")),
        ({"backend": "jax", "likelihood": "symbolic"}, graphs.Nutpie("symbolic", "jax")),
        ({"nuts_sampler": "pymc"}, graphs.PyMC("fused")),
        ({"nuts_sampler": "pymc", "backend": "numba"}, graphs.PyMC("fused")),
        ({"nuts_sampler": "pymc", "likelihood": "symbolic"}, graphs.PyMC("symbolic")),
        ({"nuts_sampler": "numpyro"}, graphs.Jax("fused", "numpyro")),
        ({"nuts_sampler": "blackjax", "backend": "jax"}, graphs.Jax("fused", "blackjax")),
        (
            {"nuts_sampler": "blackjax", "likelihood": "symbolic"},
            graphs.Jax("symbolic", "blackjax"),
        ),
    ],
    ids=lambda x: str(x) if isinstance(x, dict) else type(x).__name__,
)
def test_settings_choose_the_engine(monkeypatch, tone_spec, settings, engine):
    monkeypatch.setattr(errors, "find_spec", lambda package: package)  # all are installed
    found = NUTS(**settings)._engine(tone_spec)
    assert type(found) is type(engine)
    assert vars(found) == vars(engine)


def test_a_family_without_a_kernel_is_sampled_on_the_graph(monkeypatch, tone_spec):
    monkeypatch.setattr(kernels, "has_kernel", lambda family: False)
    assert NUTS()._engine(tone_spec) == graphs.Nutpie("fused", "numba")


@pytest.mark.parametrize(
    ("near_normal", "settings", "tuning"),
    [
        (True, {}, Tuning(200, 0.8)),
        (False, {}, Tuning(1000, 0.9)),
        (True, {"likelihood": "symbolic"}, Tuning(1000, 0.9)),
        (True, {"nuts_sampler": "pymc"}, Tuning(1000, 0.9)),
    ],
)
def test_tuning_is_short_in_coordinates_of_a_normal_approximation(near_normal, settings, tuning):
    starts = SimpleNamespace(near_normal=near_normal)
    assert NUTS(**settings)._engine(plain("normal")).tuning(starts) == tuning


def test_the_mass_matrix_of_effects_of_groups_is_diagonal():
    assert Direct().tuning(GroupedStarts.__new__(GroupedStarts)) == Tuning(1000, 0.9, "diag")


class Recorder(Direct):
    """Engine that only says which settings it got."""

    def run(self, task):
        raise InterruptedError((task.tune, task.target_accept))


@pytest.mark.parametrize(
    ("settings", "used"),
    [
        ({}, (200, 0.8)),
        ({"tune": 70}, (70, 0.8)),
        ({"target_accept": 0.95}, (200, 0.95)),
    ],
)
def test_given_settings_replace_the_models_own(monkeypatch, tone, tone_spec, settings, used):
    monkeypatch.setattr(NUTS, "_engine", lambda self, spec: Recorder())
    with pytest.raises(InterruptedError) as caught:
        bm.fit(tone_spec, tone, random_seed=1, **settings)
    assert caught.value.args == (used,)


@pytest.mark.parametrize("name", list(SPECS))
def test_models_with_linear_predictors_need_no_graph(name):
    assert type(NUTS()._engine(SPECS[name])) is Direct


def test_networks_need_no_graph():
    assert type(NUTS()._engine(bm.mixture_density("y ~ x"))) is Direct
    gate = bm.gates.Softmax("~ x", predictor=bm.predictors.HSGP(m=5))
    assert type(NUTS()._engine(bm.mixture_of_experts("y ~ x", gate=gate))) is graphs.Nutpie


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nuts_sampler": "pymc", "backend": "jax"}, "'pymc', `backend` must be 'numba'; it is"),
        ({"nuts_sampler": "numpyro", "backend": "numba"}, "`backend` must be 'jax'; it is 'numba'"),
        ({"nuts_sampler": "blackjax", "backend": "numba"}, "'blackjax', `backend` must be 'jax'"),
        ({"backend": "torch"}, "'nutpie', `backend` must be 'numba' or 'jax'; it is 'torch'"),
        (
            {"nuts_sampler": "pymc", "adaptation": "low_rank"},
            "'pymc', `adaptation` must be 'diag'; it is 'low_rank'",
        ),
        ({"adaptation": "full"}, "`adaptation` must be 'low_rank' or 'diag'; it is 'full'"),
        ({"nuts_sampler": "numpiro"}, "Unknown nuts_sampler 'numpiro'. Did you mean 'numpyro'"),
        ({"nuts_sampler": None}, "Unknown nuts_sampler None"),
        ({"likelihood": "fuse"}, "Unknown likelihood 'fuse'. Did you mean 'fused'"),
    ],
    ids=str,
)
def test_settings_that_do_not_go_together_are_named(settings, message):
    with pytest.raises(bm.SpecError, match=message):
        NUTS(**settings)


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({"backend": "jax"}, "jax"),
        ({"nuts_sampler": "numpyro"}, "jax"),
        ({"nuts_sampler": "numpyro"}, "numpyro"),
        ({"nuts_sampler": "blackjax"}, "blackjax"),
    ],
)
def test_a_missing_package_comes_with_the_line_that_installs_it(
    monkeypatch, tone_spec, tone, settings, missing
):
    def found(package):
        return None if package == missing else package

    monkeypatch.setattr(errors, "find_spec", found)
    with pytest.raises(ImportError, match=rf"needs {missing}: pip install 'bayes_moe\[jax\]'"):
        bm.fit(tone_spec, tone, **settings)


# --- one posterior -------------------------------------------------------------------------------


def means_agree(fit, reference):
    """Posterior means are those of a longer run, up to five Monte Carlo errors of both."""
    names = list(fit.spec.variables)
    own, its = (f.idata["posterior"].to_dataset()[names] for f in (fit, reference))
    errors = [azs.mcse(draws) for draws in (own, its)]
    for name in names:
        gap = own[name].mean(("chain", "draw")) - its[name].mean(("chain", "draw"))
        mcse = np.hypot(*(e[name].values for e in errors))
        sd = its[name].std(("chain", "draw")).values
        assert np.all(np.abs(gap.values) < 5 * mcse + 0.02 * sd), name


def has_statistics(fit, chains=2, draws=150):
    stats = fit.idata["sample_stats"].to_dataset()
    assert stats["diverging"].shape == (chains, draws)
    assert stats["diverging"].dtype == bool
    (depth,) = DEPTH & {*stats.data_vars}
    assert stats[depth].shape == (chains, draws)
    assert stats[depth].dtype == bool
    for name in ("start_mode", "end_mode"):
        assert stats[name].dims == ("chain",)
        assert set(stats[name].values) <= {-1, *fit.idata["modes"]["mode"].values}
    assert set(stats["start_mode"].values) <= {*fit.idata["modes"]["mode"].values}
    assert np.isfinite(stats["energy"].values).all()
    assert "divergences" in bm.diagnose(fit).table.to_string()


@few_draws
@pytest.mark.parametrize(
    "settings",
    [{"nuts_sampler": "numpyro"}, {"nuts_sampler": "blackjax"}, {"backend": "jax"}],
    ids=str,
)
def test_jax_samples_the_same_posterior(tone_spec, tone, tone_fit, settings):
    for package in ("jax", settings.get("nuts_sampler", "jax")):
        pytest.importorskip(package)
    fit = bm.fit(tone_spec, tone, random_seed=2, **SHORT, **settings)
    means_agree(fit, tone_fit)
    has_statistics(fit)
    assert set(fit.idata["log_likelihood"].dims) == {"chain", "draw", "obs_id"}


def test_compiling_for_jax_warns_of_nothing(monkeypatch):
    """What JAX leaves out of PyTensor's graph is nothing that a user could act on."""
    pytest.importorskip("jax")
    monkeypatch.setattr(graphs, "_COMPILED", {})
    spec = SPECS["two kinds"]
    graph = build_design(spec, spec.design(table(40, 1.0)), "fused", replaceable=True)
    graphs.Nutpie("fused", "jax")._compiled(graph, False)
    assert len(graphs._COMPILED) == 1


@pytest.mark.slow
@few_draws
def test_jax_samples_experts_of_different_kinds():
    pytest.importorskip("jax")
    tiny = SHORT | {"draws": 30, "tune": 30, "backend": "jax"}
    assert bm.fit(SPECS["two kinds"], table(40, 1.0), random_seed=1, **tiny).complete


@few_draws
def test_the_direct_engine_s_statistics(tone_spec, tone, tone_fit):
    fit = bm.fit(tone_spec, tone, random_seed=2, **SHORT)
    means_agree(fit, tone_fit)
    has_statistics(fit)


def compilations(monkeypatch):
    """Count calls of nutpie's compiler, from an empty store."""
    import nutpie

    calls, compile_model = [], nutpie.compile_pymc_model

    def counted(model, **more):
        calls.append(model)
        return compile_model(model, **more)

    monkeypatch.setattr(nutpie, "compile_pymc_model", counted)
    monkeypatch.setattr(graphs, "_COMPILED", {})
    return calls


@few_draws
@pytest.mark.parametrize("backend", [pytest.param("numba", marks=pytest.mark.slow), "jax"])
def test_a_graph_is_compiled_once_for_all_data(monkeypatch, tone_spec, tone, backend):
    pytest.importorskip(backend)
    calls = compilations(monkeypatch)
    settings = SHORT | {"likelihood": "symbolic", "backend": backend, "draws": 300}
    first = bm.fit(tone_spec, tone, random_seed=1, **settings)
    assert len(calls) == 1
    # Other rows, another number of them, and another scale: all default priors are others.
    other = tone.iloc[::2].assign(tuned=3 * tone["tuned"] + 1)
    second = bm.fit(tone_spec, other, random_seed=1, **settings)
    assert len(calls) == 1
    means_agree(second, bm.fit(tone_spec, other, random_seed=2, **SHORT | {"draws": 1000}))
    again = bm.fit(tone_spec, tone, random_seed=1, **settings)
    assert len(calls) == 1
    for name in tone_spec.variables:  # nothing of the other data is left behind
        np.testing.assert_array_equal(
            again.idata["posterior"][name].values, first.idata["posterior"][name].values
        )


@pytest.mark.parametrize("name", list(SPECS))
def test_other_data_make_the_graph_that_of_other_data(name):
    """All numbers that depend on the data are shared variables: none is left in the graph."""
    spec, found = SPECS[name], []
    one, other = (
        build_design(spec, spec.design(table(*size)), "symbolic", replaceable=True)
        for size in ((40, 1.0), (25, 9.0))
    )
    assert one.structure == other.structure
    point = {n: np.full(np.shape(v), 0.3) for n, v in one.model.initial_point().items()}
    outputs = [one.model.logp(), *one.model.replace_rvs_by_values(one.model.deterministics)]
    shared = {v.name: v for v in ancestors(outputs) if isinstance(v, SharedVariable)}
    evaluate = one.model.compile_fn(outputs, mode=QUICK, on_unused_input="ignore")
    for numbers in [graph.data(shared) for graph in (other, one)]:
        for key, value in numbers.items():
            shared[key].set_value(value)
        found.append(evaluate(point))
    for graph, values in zip((other, one), found, strict=True):
        model = internal_graph(spec, graph.design, "symbolic").model
        outputs = [model.logp(), *model.replace_rvs_by_values(model.deterministics)]
        expected = model.compile_fn(outputs, mode=QUICK, on_unused_input="ignore")(point)
        for own, its in zip(values, expected, strict=True):
            np.testing.assert_allclose(own, its, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "change",
    [
        {"gate": "~ 1"},
        {"sigma": "~ stretchratio"},
        {"family": "studentt"},
        {"experts": 3},
        {"priors": {"sigma": bm.Prior("HalfNormal", sigma=1)}},
    ],
    ids=str,
)
def test_another_structure_is_compiled_anew(tone_spec, tone, change):
    described = {"gate": "~ stretchratio", "experts": 2} | change
    other = bm.mixture_of_experts("tuned ~ stretchratio", **described)
    assert bm.build(other, tone).structure != bm.build(tone_spec, tone).structure


def test_other_names_of_categories_are_another_structure(tone):
    """A compiled model keeps the coordinates it was compiled with."""
    spec = bm.mixture_of_experts("tuned ~ g", gate="~ 1", experts=2)
    tables = [tone.assign(g=np.tile(list(names), 75)) for names in ("ab", "yz")]
    assert len({bm.build(spec, table).structure for table in tables}) == 2


def test_other_numbers_are_the_same_structure(tone):
    def structure(table, sigma):
        priors = {"sigma": bm.Prior("HalfNormal", sigma=sigma)}
        spec = bm.mixture_of_experts("tuned ~ stretchratio", experts=2, priors=priors)
        return bm.build(spec, table).structure

    assert structure(tone, 1.0) == structure(7 * tone.iloc[:70], 2.5)


class Compiled:
    """Stands for a compiled graph."""

    _shared_data = ()

    def with_data(self):
        return self


def test_the_store_of_compiled_graphs_is_bounded(monkeypatch, tone_spec, tone):
    import nutpie

    monkeypatch.setattr(nutpie, "compile_pymc_model", lambda *_, **__: Compiled())
    monkeypatch.setattr(graphs, "_COMPILED", {})
    monkeypatch.setattr(graphs, "KEPT", 2)
    other = bm.mixture_of_experts("tuned ~ stretchratio", experts=2)
    one, two = (bm.build(spec, tone) for spec in (tone_spec, other))
    engine = graphs.Nutpie("symbolic", "numba")
    first = engine._compiled(one, False)
    assert engine._compiled(one, False) is first
    engine._compiled(two, False)
    graphs.Nutpie("fused", "numba")._compiled(one, False)
    assert len(graphs._COMPILED) == 2
    assert engine._compiled(one, False) is not first


# --- the direct engine ---------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["tone", "tree", "sticks"])
def direct_fit(request):
    """A fit by the direct engine."""
    if request.param == "tone":
        return request.getfixturevalue("tone_fit")
    short = {"draws": 50, "tune": 50, "chains": 2, "cores": 1, "progressbar": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bm.ConvergenceWarning)
        noise = np.random.default_rng(5).normal(size=80)  # no expert fits rows exactly
        data = table(80, 1.0).assign(y=lambda t: np.abs(t["x"] - 2) + noise)
        return bm.fit(SPECS[request.param], data, random_seed=1, **short)


def test_reported_draws_are_the_graph_s(direct_fit):
    """The model's deterministics of the raw draws are the reported draws."""
    tree = direct_fit.idata
    posterior = tree["posterior"].to_dataset()
    posterior = posterior.merge(tree["unconstrained_posterior"].to_dataset())
    graph = internal_graph(direct_fit.spec, direct_fit.design)
    free = [v.name for v in graph.model.free_RVs]
    reported = list(direct_fit.spec.variables)
    outputs = graph.model.replace_rvs_by_values([graph.model[name] for name in reported])
    evaluate = graph.model.compile_fn(outputs, mode=QUICK, on_unused_input="ignore")
    for draw in (0, 29, 49):
        one = posterior.isel(chain=draw % 2, draw=draw)
        values = {n: one[n].transpose(*graph.model.named_vars_to_dims[n]).values for n in reported}
        expected = graph.free_values(values)
        for name in free:
            own = one[name].transpose(*graph.model.named_vars_to_dims[name]).values
            np.testing.assert_allclose(own, expected[name], rtol=1e-9, atol=1e-9, err_msg=name)
        found = evaluate(graph.unconstrained(values))
        for name, value in zip(reported, found, strict=True):
            np.testing.assert_allclose(value, values[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_the_log_density_of_draws_is_the_graph_s(direct_fit):
    """Nutpie reports it up to nothing: priors, normalising constants, Jacobians and all."""
    raw = bm.relabel(direct_fit, "none")
    posterior = raw.idata["posterior"].to_dataset()
    graph = bm.build(raw.spec, raw.design)
    logp = graph.model.compile_logp(mode=QUICK)
    for draw in (0, 29, 49):
        one = posterior.isel(chain=1, draw=draw)
        values = {
            n: one[n].transpose(*graph.model.named_vars_to_dims[n]).values
            for n in raw.spec.variables
        }
        stored = raw.idata["sample_stats"]["logp"].isel(chain=1, draw=draw)
        assert float(logp(graph.unconstrained(values))) == pytest.approx(float(stored), rel=1e-9)


WITHOUT_GRAPH = """
import sys, warnings
import bayes_moe as bm
spec = bm.mixture_of_experts("tuned ~ stretchratio", experts=2)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", bm.ConvergenceWarning)
    fit = bm.fit(
        spec, bm.load_dataset("tone"), random_seed=1, draws=20, tune=20, chains=2, progressbar=False
    )
bm.predict(fit).mean()
print(float(fit.idata["posterior"]["mu_coef"].sum()))
print(*(m for m in ("pymc", "pytensor") if m in sys.modules))
"""


def run(**environment):
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_GRAPH],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.splitlines()


def test_sampling_needs_no_graph(tone):
    spec = bm.mixture_of_experts("tuned ~ stretchratio", experts=2)
    total, *imported = run()
    assert float(total) == tiny_fit(spec, tone)
    assert imported in ([], [""])


def test_sampling_needs_no_place_to_write(tone):
    blocked = "/dev/null/x"
    total, *_ = run(HOME=blocked, NUMBA_CACHE_DIR=blocked)
    assert np.isfinite(float(total))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork.* was called:RuntimeWarning")  # by JAX, if imported
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_child_processes_sample(tone_spec, tone, method):
    if method not in get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    expected = tiny_fit(tone_spec, tone)
    with ProcessPoolExecutor(2, mp_context=get_context(method)) as pool:
        found = list(pool.map(tiny_fit, [tone_spec] * 2, [tone] * 2, timeout=120))
    assert found == [expected] * 2

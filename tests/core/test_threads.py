"""Pools of threads: order, bounds, errors, and modules that load at their first use."""

import json
import subprocess
import sys
import threading
import time

import pytest

from bayes_moe.core.threads import in_threads
from tests.support import source

POOL = "bayes_moe.core.threads"

PROCESS = """
import importlib.machinery, importlib.util, json, sys, threading, time, warnings
import numpy as np, pandas as pd
import bayes_moe as bm
from bayes_moe.em import objective
from bayes_moe.model import evaluation
from bayes_moe.prediction import chunked_mixture

warnings.simplefilter("ignore")
evaluation.CHUNK_ELEMENTS = 2**10
objective.CHUNK_ELEMENTS = 2**14
chunked_mixture.cpu_count = lambda: 4
loaded_by = []


class Slow:
    def create_module(self, spec):
        return None

    def exec_module(self, module):
        loaded_by.append(threading.current_thread().name)
        time.sleep(0.2)
        module.Array = type("Array", (), {})


rng = np.random.default_rng(0)
x = rng.uniform(-1, 1, 2000)
table = pd.DataFrame({"x": x, "y": np.where(x > 0, x, 3 - x) + rng.normal(0, 0.2, x.size)})
spec = bm.mixture_of_experts("y ~ x", experts=2)
fit = bm.fit(spec, table[:100], "laplace", draws=50, random_seed=1)
rows = bm.predict(fit, table[:40])
CALLS = {
    "modes": rows.modes,
    "hdr": rows.hdr,
    "interval": rows.interval,
    "quantile": lambda: rows.quantile([0.1, 0.7]),
    "mean": rows.mean,
    "cdf": lambda: rows.cdf(1.0),
    "log_density": lambda: bm.log_density(fit, table[:40]),
    "responsibilities": lambda: bm.responsibilities(fit, table[:40]),
    "EM": lambda: bm.fit(spec, table, "em", cores=2, restarts=2, max_iter=5, random_seed=1),
}
results = {}
for name, call in CALLS.items():
    module_spec = importlib.machinery.ModuleSpec("jax", importlib.util.LazyLoader(Slow()))
    module = importlib.util.module_from_spec(module_spec)
    sys.modules["jax"] = module
    module_spec.loader.exec_module(module)
    assert type(module) is importlib.util._LazyModule
    loaded_by.clear()
    try:
        call()
        error = ""
    except Exception as raised:
        error = repr(raised)
    results[name] = [list(loaded_by), error]
print(json.dumps(results))
"""
CALLS = (
    "modes",
    "hdr",
    "interval",
    "quantile",
    "mean",
    "cdf",
    "log_density",
    "responsibilities",
    "EM",
)


@pytest.fixture(scope="module")
def outcomes():
    """The threads that loaded a slow module in each call, and its error; SciPy asks in `modes`."""
    run = subprocess.run(
        [sys.executable, "-c", PROCESS],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("call", CALLS)
def test_modules_that_wait_are_loaded_before_a_pool_starts(outcomes, call):
    """A stand-in for JAX, which ArviZ leaves to load at its first use."""
    assert outcomes[call] == [["MainThread"], ""]


def test_pools_are_made_in_one_place():
    makers = {
        name
        for name, module in source.modules().items()
        if any(
            word in module.text
            for word in ("ThreadPool", "ProcessPool", "import concurrent", "multiprocessing")
        )
    }
    assert makers == {POOL}


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_results_are_in_order_and_items_are_made_as_needed(workers, count):
    made = []

    def items():
        for j in range(count):
            made.append(j)
            yield j

    def later(j):
        time.sleep(0.002 * (j % 3))
        return j**2

    results = []
    for result in in_threads(later, items(), workers):
        results.append(result)
        assert len(made) <= len(results) + max(workers, 1)
    assert results == [j**2 for j in range(count)]


def test_threads_work_at_once():
    meeting = threading.Barrier(3, timeout=20)
    assert len(list(in_threads(lambda _: meeting.wait(), range(3), 3))) == 3


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_of_an_item_is_raised(workers):
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda j: 1 / (j - 4), range(9), workers))

"""Pools of threads: order, bounds, errors, modules that load at first use; limits of BLAS."""

import json
import subprocess
import sys
import threading
import time

import pytest
from threadpoolctl import ThreadpoolController, threadpool_info, threadpool_limits

import bayes_moe as bm
from bayes_moe.core.threads import LARGE, in_threads, one_blas_thread
from bayes_moe.em.objective import Objective
from tests.support import source

POOL = "bayes_moe.core.threads"

PROCESS = """
import importlib.machinery, importlib.util, json, sys, threading, time, warnings
import numpy as np, pandas as pd
import bayes_moe as bm
from bayes_moe.em import objective
from bayes_moe.model import evaluation

warnings.simplefilter("ignore")
evaluation.CHUNK_ELEMENTS, evaluation.SHARED_ELEMENTS = 2**10, 0
objective.CHUNK_ELEMENTS, objective.SHARED_ROWS = 2**12, 0
evaluation.cpu_count = lambda: 4
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


def blas_threads():
    """Thread limits of the loaded BLAS libraries."""
    return {
        library["filepath"]: library["num_threads"]
        for library in threadpool_info()
        if library["user_api"] == "blas"
    }


@pytest.fixture(params=["in a block", "for good"])
def users_limit(request):
    """BLAS libraries under limits of the user's, not the same for all."""
    before = blas_threads()
    limits = {path: 2 + j % 2 for j, path in enumerate(before)}
    if request.param == "in a block":
        with threadpool_limits(limits):
            yield limits
        return
    in_thread(lambda: threadpool_limits(limits))  # of a thread that has ended
    yield limits
    in_thread(lambda: threadpool_limits(before))
    assert blas_threads() == before


def in_thread(action):
    """Run an action in a thread of its own, and wait for its end."""
    thread = threading.Thread(target=action)
    thread.start()
    thread.join()


def test_blas_has_one_thread_and_then_as_many_as_before(users_limit):
    with one_blas_thread():
        assert set(blas_threads().values()) == {1}
        with one_blas_thread():
            assert set(blas_threads().values()) == {1}
        assert set(blas_threads().values()) == {1}
    assert blas_threads() == users_limit
    with pytest.raises(ZeroDivisionError), one_blas_thread():
        raise ZeroDivisionError
    assert blas_threads() == users_limit


def test_large_matrices_keep_threads_of_blas(users_limit):
    with one_blas_thread(LARGE):
        assert blas_threads() == users_limit
        with one_blas_thread(LARGE - 1):
            assert set(blas_threads().values()) == {1}
        assert blas_threads() == users_limit


@pytest.mark.parametrize("users_limit", ["for good"], indirect=True)
def test_limits_of_blas_are_shared_by_threads(users_limit):
    """Holders that overlap, in threads that all live: the last one to end restores the limits."""
    turns, seen = [threading.Event() for _ in range(7)], []

    def hold(begin, end):
        turns[begin].wait(20)
        with one_blas_thread():
            seen.append(set(blas_threads().values()))
            turns[begin + 1].set()
            turns[end].wait(20)
        seen.append(set(blas_threads().values()))
        turns[end + 1].set()
        turns[-1].wait(20)

    threads = [threading.Thread(target=hold, args=pair) for pair in ((0, 2), (1, 4), (3, 5))]
    for thread in threads:
        thread.start()
    turns[0].set()
    turns[6].wait(20)
    assert seen == [{1}] * 5 + [set(users_limit.values())]
    for thread in threads:
        thread.join()
    assert blas_threads() == users_limit
    in_thread(lambda: threadpool_limits(5))  # any thread may set limits again
    assert set(blas_threads().values()) == {5}
    in_thread(lambda: threadpool_limits(users_limit))


def test_limits_that_another_thread_holds_stay(users_limit):
    inside, ended = threading.Event(), threading.Event()

    def user():
        with threadpool_limits(4):
            inside.set()
            ended.wait(20)

    thread = threading.Thread(target=user)
    thread.start()
    inside.wait(20)
    found = blas_threads()
    with one_blas_thread():
        pass
    assert blas_threads() == found
    ended.set()
    thread.join()
    assert blas_threads() == users_limit


@pytest.mark.parametrize("users_limit", ["for good"], indirect=True)
def test_many_users_at_once_leave_limits_as_they_were(users_limit):
    seen = set()

    def use(_):
        for _ in range(50):
            with one_blas_thread():
                seen.update(blas_threads().values())

    threads = [threading.Thread(target=use, args=(j,)) for j in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {1}
    assert blas_threads() == users_limit


def test_blas_has_one_thread_in_pools(users_limit):
    assert list(in_threads(lambda _: set(blas_threads().values()), range(3), 2)) == [{1}] * 3
    assert blas_threads() == users_limit
    unfinished = in_threads(lambda _: None, range(9), 2)
    next(unfinished)
    assert set(blas_threads().values()) == {1}
    unfinished.close()
    assert blas_threads() == users_limit


def test_libraries_loaded_later_are_limited(users_limit, monkeypatch):
    """A library that the first search did not find, and a module that is imported after it."""
    with one_blas_thread():
        pass
    from bayes_moe.core.threads import _BLAS

    monkeypatch.setattr(_BLAS, "_libraries", ThreadpoolController().select(user_api="none"))
    monkeypatch.setattr(_BLAS, "_modules", len(sys.modules))
    with one_blas_thread():
        assert blas_threads() == users_limit
    monkeypatch.setitem(sys.modules, "imported_later", None)
    with one_blas_thread():
        assert set(blas_threads().values()) == {1}
    assert blas_threads() == users_limit


def test_em_has_one_thread_of_blas(users_limit, tone, tone_spec, monkeypatch):
    seen, value = set(), Objective.value

    def spied(self, theta):
        seen.update(blas_threads().values())
        return value(self, theta)

    monkeypatch.setattr(Objective, "value", spied)
    bm.fit(tone_spec, tone, "em", restarts=10, random_seed=1)
    assert seen == {1}
    assert blas_threads() == users_limit

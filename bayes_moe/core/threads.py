"""Threads: the only place where the package makes a pool of them, or limits those of BLAS."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, islice
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import LibController, ThreadpoolController

ARRAY_LIBRARIES = ("jax", "torch", "cupy", "dask.array")
"""Libraries whose arrays SciPy asks for, if they are imported."""

LARGE = 500
"""Rows of a matrix from which on threads of BLAS gain more than they cost: a symmetric
eigendecomposition of 500 rows takes two thirds of the time on two threads, many of 57 rows take
three times as long, and many times as long if other processes are busy."""


def in_threads[Item, Result](
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """Results of a function, in the order of its arguments, computed by several threads.

    Arguments are made in the calling thread, at most ``workers + 1`` of them ahead of the results.
    Of a single worker or argument the calling thread computes all. While several threads work, BLAS
    has one thread in each.
    """
    rest = iter(items)
    first = list(islice(rest, 2))
    if workers < 2 or len(first) < 2:
        yield from map(function, chain(first, rest))
        return
    _load_array_libraries()
    with one_blas_thread(), ThreadPoolExecutor(workers) as pool:
        pending: list[Future[Result]] = []
        for item in chain(first, rest):
            pending.append(pool.submit(function, item))
            if len(pending) > workers:
                yield pending.pop(0).result()
        for future in pending:
            yield future.result()


def _load_array_libraries() -> None:
    """Load array libraries that wait for their first use.

    ArviZ leaves JAX so. Two threads that load such a module at once get it half loaded (``module
    'jax' has no attribute 'Array'``, before Python 3.12.3). Loading JAX takes half a second.
    """
    for name in ARRAY_LIBRARIES:
        if name in sys.modules:
            getattr(sys.modules[name], "__all__", None)  # any attribute loads it


@contextmanager
def one_blas_thread(size: int = 0) -> Iterator[None]:
    """Hold BLAS to one thread, unless work on matrices of ``size`` rows gains from more.

    The limits are those of the process. The first of several holders, nested or in different
    threads, sets them, and the last one restores what was there before.
    """
    if size >= LARGE:
        yield
        return
    _BLAS.hold()
    try:
        yield
    finally:
        _BLAS.release()


class _BlasLimit:
    """Limit of one thread on all BLAS libraries of the process while it has holders."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._holders = 0
        self._before: list[tuple[LibController, int]] = []
        self._libraries: ThreadpoolController | None = None
        self._modules = 0

    def hold(self) -> None:
        """Add a holder; the first one sets the limits."""
        with self._lock:
            if self._holders == 0:
                self._before = []
                for library in self._loaded().lib_controllers:
                    threads = library.num_threads
                    if threads not in (1, None):
                        library.set_num_threads(1)
                        # It is not set where another thread of the user's holds its own limit.
                        if library.num_threads == 1:
                            self._before.append((library, threads))
            self._holders += 1

    def release(self) -> None:
        """Remove a holder; the last one restores the limits."""
        with self._lock:
            self._holders -= 1
            if self._holders == 0 and self._before:
                for library, threads in self._before:
                    # Otherwise only the thread that set a limit may change it, if it still lives.
                    if hasattr(library, "clear_controlling_thread"):
                        library.clear_controlling_thread(force=True)
                    library.set_num_threads(threads)
                # Any thread may set limits again, unless this one is in a block with limits.
                with self._loaded().limit(limits=None):
                    pass

    def _loaded(self) -> ThreadpoolController:
        """Loaded BLAS libraries: searched for again only after further modules were imported."""
        if self._libraries is None or len(sys.modules) != self._modules:
            from threadpoolctl import ThreadpoolController

            self._libraries = ThreadpoolController().select(user_api="blas")
            self._modules = len(sys.modules)
        return self._libraries


_BLAS = _BlasLimit()

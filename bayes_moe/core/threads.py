"""Work shared by threads: the only place where the package makes a pool of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice

ARRAY_LIBRARIES = ("jax", "torch", "cupy", "dask.array")
"""Libraries whose arrays SciPy asks for, if they are imported."""


def in_threads[Item, Result](
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """Results of a function, in the order of its arguments, computed by several threads.

    Arguments are made in the calling thread, at most ``workers + 1`` of them ahead of the results.
    Of a single worker or argument the calling thread computes all.
    """
    rest = iter(items)
    first = list(islice(rest, 2))
    if workers < 2 or len(first) < 2:
        yield from map(function, chain(first, rest))
        return
    _load_array_libraries()
    with ThreadPoolExecutor(workers) as pool:
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
    'jax' has no attribute 'Array'``, before Python 3.12.3).
    """
    for name in ARRAY_LIBRARIES:
        if name in sys.modules:
            getattr(sys.modules[name], "__all__", None)  # any attribute loads it

"""Time and memory of the package, beside other programs: ``python -m benchmarks``.

Everything is measured on one thread: these are read when NumPy and numba are first imported, and
child processes (R too) inherit them. Workers of :mod:`benchmarks.versions` have default threads.
"""

import os

THREADS = tuple(f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA"))
DEFAULT_THREADS = "BENCHMARKS_WITH_DEFAULT_THREADS"
"""Environment variable of processes whose threads are left as they are by default."""

if DEFAULT_THREADS not in os.environ:
    os.environ.update(dict.fromkeys(THREADS, "1"))

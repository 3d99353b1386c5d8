"""Time and memory of the package, beside other programs: ``python -m benchmarks``.

Everything is measured on one thread: these are read when NumPy and numba are first imported, and
child processes (R too) inherit them.
"""

import os

for _name in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"

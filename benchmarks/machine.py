"""Description of machine and versions, without names of hosts or paths."""

import os
import platform
from importlib.metadata import version

from benchmarks import peers

PACKAGES = ("bayes_moe", "numpy", "scipy", "pandas", "numba", "pymc")


def words() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{platform.machine()}, {cores} cores, {memory:.0f} GiB of memory, {platform.system()}"


def versions() -> str:
    ours = {"Python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    return ", ".join(f"{name} {number}" for name, number in (ours | peers.versions()).items())

"""Clocks: seconds of a call, two calls taken in turn, whole processes."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parent.parent

Row = dict[str, object]


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def alternate[A, B](a: Callable[[], A], b: Callable[[], B], rounds: int) -> list[tuple[A, B]]:
    """What two calls give, taken in turn: a load on the machine falls on both."""
    return [(a(), b()) for _ in range(rounds)]


def in_turn(what: str, a: Callable[[], object], b: Callable[[], object], rounds: int) -> Row:
    """A row of the table: medians of two calls taken in turn, and the median of their ratios."""
    pairs = alternate(lambda: seconds(a), lambda: seconds(b), rounds)
    return {
        "what": what,
        "s": median(p[0] for p in pairs),
        "against": median(p[1] for p in pairs),
        "ratio": median(p[0] / p[1] for p in pairs),
    }


def process(code: str) -> Callable[[], object]:
    """A whole Python process that runs ``code``; what it prints is thrown away."""
    command = [sys.executable, "-c", code]
    return lambda: subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)

"""Seconds of a call, of two calls in turn, and of whole processes."""

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
    """Results of two calls in turn, so that other load on the machine affects both."""
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
    """Function that runs ``code`` in a Python process and discards its output."""
    command = [sys.executable, "-c", code]
    return lambda: subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)

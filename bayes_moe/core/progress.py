"""Progress of long work on the terminal or in a notebook; short work shows nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any

Progress = Callable[[int, int], None]


def silent(done: int, of: int) -> None:
    """Tell nobody of the progress."""


PATIENCE = 1.0
"""Seconds before anything is shown."""


@contextmanager
def progress(what: str, *, shown: bool) -> Iterator[Progress]:
    """Give a function to tell how much is done, and of how much."""
    began = time.monotonic()
    bars: list[Any] = []
    task: list[Any] = []

    def tell(done: int, of: int) -> None:
        if not shown or time.monotonic() - began < PATIENCE:
            return
        if not bars:
            from rich.console import Console
            from rich.progress import Progress as Bar

            console = Console(stderr=True)
            seen = console.is_terminal or console.is_jupyter
            bars.append(Bar(console=console, transient=True, disable=not seen))
            bars[0].start()
            task.append(bars[0].add_task(what, total=of))
        bars[0].update(task[0], completed=done, total=of)

    try:
        yield tell
    finally:
        for bar in bars:
            bar.stop()


@contextmanager
def announced(what: str, *, shown: bool) -> Iterator[None]:
    """Say on stderr what is going on, if it takes long."""
    timer = Timer(PATIENCE, lambda: print(what, file=sys.stderr))
    timer.daemon = True
    if shown:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()

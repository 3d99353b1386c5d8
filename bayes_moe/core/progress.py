"""Progress bars on the terminal or in a notebook, for work that takes longer than a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any

Progress = Callable[[int, int], None]
"""Function of the number of finished steps and of all steps."""


def silent(done: int, of: int) -> None:
    """No-op progress callback."""


PATIENCE = 1.0
"""Seconds before a bar or a message is shown."""


@contextmanager
def progress(what: str, *, shown: bool) -> Iterator[Progress]:
    """Context with a progress callback ``(done, of)`` that updates a bar called ``what``."""
    start = time.monotonic()
    bars: list[Any] = []
    task: list[Any] = []

    def update(done: int, of: int) -> None:
        if not shown or time.monotonic() - start < PATIENCE:
            return
        if not bars:
            from rich.console import Console
            from rich.progress import Progress as Bar

            console = Console(stderr=True)
            is_interactive = console.is_terminal or console.is_jupyter
            bars.append(Bar(console=console, transient=True, disable=not is_interactive))
            bars[0].start()
            task.append(bars[0].add_task(what, total=of))
        bars[0].update(task[0], completed=done, total=of)

    try:
        yield update
    finally:
        for bar in bars:
            bar.stop()


@contextmanager
def announced(what: str, *, shown: bool) -> Iterator[None]:
    """Context that prints ``what`` to stderr if its body takes longer than ``PATIENCE``."""
    timer = Timer(PATIENCE, lambda: print(what, file=sys.stderr))
    timer.daemon = True
    if shown:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()

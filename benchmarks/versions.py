"""Two versions of the package, each in a warm process of its own, asked in turn.

The environment variable ``BAYES_MOE_BEFORE`` names a checkout of the version to compare with, for
example a worktree of git. Both versions run the tasks of this checkout, with default threads.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import DEFAULT_THREADS, THREADS
from benchmarks.timing import ROOT, Row, seconds

BEFORE = "BAYES_MOE_BEFORE"
LONG, LONGER = 20.0, 60.0
"""Seconds of a round above which there are at most three rounds, and one."""
SERVE = (
    "import sys; sys.path.insert(0, {folder!r}); import bayes_moe; sys.path[0] = {root!r}\n"
    "from benchmarks.tasks import serve; serve()"
)
BUSY_LOOP = "import os\nwhile os.getppid() == {parent}: sum(range(100_000))"
NOTE = "Default settings and threads on both sides."

Answers = dict[str, list[dict[str, Any]]]
"""By name of a worker, what it answered in each round."""


def before() -> Path | None:
    """Checkout of the version before, if one is named."""
    named = os.environ.get(BEFORE)
    return Path(named).resolve() if named else None


def folders() -> dict[str, Path]:
    """Checkouts of the versions that are compared, by the names that tables have for them."""
    earlier = before()
    return {"now": ROOT} | ({"before": earlier} if earlier else {})


def environment(folder: Path, *, one_thread: bool = False) -> dict[str, str]:
    """Environment of a process that imports the version of a checkout."""
    rest = {name: value for name, value in os.environ.items() if name not in THREADS}
    held = dict.fromkeys(THREADS, "1") if one_thread else {}
    return rest | held | {DEFAULT_THREADS: "yes", "PYTHONPATH": str(folder)}


class Worker:
    """A process that imports a version of the package and does tasks one after another."""

    def __init__(self, folder: Path, *, one_thread: bool = False) -> None:
        code = SERVE.format(folder=str(folder), root=str(ROOT))
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            env=environment(folder, one_thread=one_thread),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, task: str, **arguments: Any) -> dict[str, Any]:
        """Answer of a function of :mod:`benchmarks.tasks`, and its seconds as ``s``."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps([task, arguments]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"The worker ended in the task {task!r}: see its error above.")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def asking(self, task: str, **arguments: Any) -> Callable[[int], dict[str, Any]]:
        """Function of the number of a round that asks for a task, with the number as its seed."""
        return lambda number: self.ask(task, **{"seed": number} | arguments)

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


@contextmanager
def workers(*, one_thread: bool = False) -> Iterator[dict[str, Worker]]:
    """A worker for each version."""
    with ExitStack() as stack:
        started = {}
        for name, folder in folders().items():
            started[name] = Worker(folder, one_thread=one_thread)
            stack.callback(started[name].close)
        yield started


def rounds_in_turn(asked: dict[str, Callable[[int], dict[str, Any]]], rounds: int) -> Answers:
    """Answers of several calls of the round's number, round after round; fewer of long rounds."""
    answers: Answers = {name: [] for name in asked}
    done = 0
    while done < rounds:
        done += 1
        taken = seconds(partial(_round, asked, done, answers))
        rounds = min(rounds, 1 if taken > LONGER else 3 if taken > LONG else rounds)
    return answers


def _round(asked: dict[str, Callable[[int], dict[str, Any]]], number: int, into: Answers) -> None:
    for name, call in asked.items():
        into[name].append(call(number))


def compared(what: str, answers: Answers) -> Row:
    """A row: median seconds of both versions, and the median of the ratios of a round."""
    taken = {name: [answer["s"] for answer in found] for name, found in answers.items()}
    row: Row = {"what": what, "before s": float("nan"), "now s": median(taken["now"])}
    row["before / now"] = float("nan")
    if "before" in taken:
        row["before s"] = median(taken["before"])
        pairs = zip(taken["before"], taken["now"], strict=True)
        row["before / now"] = median(a / b for a, b in pairs)
    return row | {"rounds": len(taken["now"])}


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Context in which other processes keep so many processors busy."""
    command = [sys.executable, "-S", "-c", BUSY_LOOP.format(parent=os.getpid())]
    started = [subprocess.Popen(command) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def noted(text: str) -> str:
    """The text of a section, and a note where no version to compare with is named."""
    return text if before() else f"{text}\n\nNo version before is named by `{BEFORE}`."

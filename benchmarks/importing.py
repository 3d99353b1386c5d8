"""Seconds of importing, and of a process before its first fit."""

from benchmarks.page import Section
from benchmarks.timing import in_turn, process

DESIGN = (
    "import bayes_moe as bm; "
    "bm.mixture_of_experts('tuned ~ stretchratio').design(bm.load_dataset('tone'))"
)
PAIRS = {
    "import bayes_moe, against an empty process": ("import bayes_moe", "pass"),
    "describe and design, against bare imports": (
        DESIGN,
        "import pandas, formulaic, scipy.special",
    ),
}


def importing(rounds: int) -> list[Section]:
    rows = [in_turn(what, process(a), process(b), rounds) for what, (a, b) in PAIRS.items()]
    return [Section("Import", "Whole processes, taken in turn.", rows)]

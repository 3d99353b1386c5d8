"""Run the benchmarks and print their tables; each ratio comes from runs taken in turn.

Themes that compare with an earlier version read its checkout from ``BAYES_MOE_BEFORE``, and tables
that do not ship with the package are looked for in ``BAYES_MOE_REFERENCE``.
"""

import argparse
import os

from benchmarks import page
from benchmarks.against import restarts, same_start
from benchmarks.before import first, reading, search, threads
from benchmarks.calls import calls
from benchmarks.density import density
from benchmarks.em import em
from benchmarks.gradient import gradient
from benchmarks.importing import importing
from benchmarks.nuts import nuts
from benchmarks.prediction import predicting
from benchmarks.settings import settings
from benchmarks.trees import trees

THEMES = {
    "import": importing,
    "predict": predicting,
    "gradient": gradient,
    "nuts": nuts,
    "settings": settings,
    "calls": calls,
    "first": first,
    "reading": reading,
    "threads": threads,
    "search": search,
    "em": em,
    "trees": trees,
    "density": density,
    "flexmix": same_start,
    "restarts": restarts,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=list(THEMES))
    parser.add_argument(
        "--write", action="store_true", help="put the tables into docs/benchmarks.md"
    )
    chosen = parser.parse_args()
    load = os.getloadavg()[0]
    for name in [chosen.only] if chosen.only else THEMES:
        for section in THEMES[name](chosen.rounds):
            print(page.terminal(section), flush=True)
            if chosen.write:
                page.put(section, chosen.rounds, load)


if __name__ == "__main__":
    main()

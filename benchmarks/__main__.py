"""Run the benchmarks and print their tables; each ratio comes from runs taken in turn."""

import argparse
import os

from benchmarks import page
from benchmarks.against import restarts, same_start
from benchmarks.em import em
from benchmarks.gradient import gradient
from benchmarks.importing import importing
from benchmarks.prediction import predicting

THEMES = {
    "import": importing,
    "predict": predicting,
    "gradient": gradient,
    "em": em,
    "flexmix": same_start,
    "restarts": restarts,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=list(THEMES))
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    chosen = parser.parse_args()
    if chosen.write and chosen.only:
        parser.error("--write writes the whole page: leave out --only")
    load = os.getloadavg()[0]
    sections = []
    for name in [chosen.only] if chosen.only else THEMES:
        for section in THEMES[name](chosen.rounds):
            print(page.terminal(section), flush=True)
            sections.append(section)
    if chosen.write:
        page.write(sections, chosen.rounds, load)


if __name__ == "__main__":
    main()

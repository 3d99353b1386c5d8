"""One EM fit in a separate process: ``python -m benchmarks.scale <rows> <way>`` prints JSON."""

import json
import resource
import sys

from benchmarks import cases
from benchmarks.against import WAYS


def peak() -> float:
    """The process's peak of resident memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    way = WAYS[sys.argv[2]]
    way(cases.simulated(1_000))
    case = cases.simulated(int(sys.argv[1]))
    before = peak()
    fit = way(case)
    said = {"s": fit.seconds, "iterations": fit.iterations, "before": before, "peak": peak()}
    print(json.dumps(said))


if __name__ == "__main__":
    main()

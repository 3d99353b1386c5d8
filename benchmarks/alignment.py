"""Word alignment of the Greek New Testament and an English one, with links made by hand.

Run as ``python -m benchmarks.alignment FOLDER``, the folder of the unpacked wheel of PyPI's
``bible-alignments`` 0.4.2 (texts: SBL Greek New Testament, Berean Standard Bible; links: Clear
Bible, CC BY). It prints processor seconds and error rates; none of the data is in the repository.
"""

import csv
import json
import re
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import bayes_moe as bm

SETTINGS: dict[str, Any] = {"iterations": 15, "tolerance": 1e-5, "progressbar": False}

Links = list[list[tuple[int, int]]]


def read(folder: Path) -> tuple[list[list[str]], list[list[str]], Links]:
    """Lemmas of Greek verses, words of English ones, and the links of words within verses."""
    greek: dict[str, list[str]] = defaultdict(list)
    english: dict[str, list[str]] = defaultdict(list)
    at: dict[str, tuple[str, int]] = {}
    for row in _rows(folder / "data/sources/SBLGNT.tsv"):
        verse = row["id"][1:9]
        at[row["id"]] = verse, len(greek[verse])
        greek[verse].append(row["lemma"])
    for row in _rows(folder / "data/eng/targets/BSB/nt_BSB.tsv"):
        verse = row["source_verse"]
        if not row["exclude"] and re.search(r"\w", row["text"]):
            at[row["id"]] = verse, len(english[verse])
            english[verse].append(row["text"].lower())
    links: dict[str, set[tuple[int, int]]] = defaultdict(set)
    text = (folder / "data/eng/alignments/BSB/SBLGNT-BSB-manual.json").read_text(encoding="utf-8")
    for record in json.loads(text)["records"]:
        for source in record["source"]:
            for target in record["target"]:
                if source in at and target in at and at[source][0] == at[target][0]:
                    links[at[source][0]].add((at[source][1], at[target][1]))
    verses = [verse for verse in greek if english[verse] and links[verse]]
    return (
        [greek[verse] for verse in verses],
        [english[verse] for verse in verses],
        [sorted(links[verse]) for verse in verses],
    )


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))


def seconds(function: Any, *args: Any, **settings: Any) -> tuple[Any, float]:
    """Result of a function, and the processor time that it took."""
    start = time.process_time()
    found = function(*args, **settings)
    return found, time.process_time() - start


def main(folder: str) -> None:
    """Print a line for each model and method."""
    greek, english, gold = read(Path(folder))
    print(f"{len(greek):,} verses, {sum(map(len, greek)):,} and {sum(map(len, english)):,} words")
    for method in ("em", "variational"):
        for model in ("ibm1", "ibm2", "diagonal"):
            fit, took = seconds(bm.text.alignment, greek, english, model, method=method, **SETTINGS)
            back = bm.text.alignment(english, greek, model, method=method, **SETTINGS)
            found = fit.alignments()
            both = bm.text.symmetrised(found, back.alignments())
            rates = [bm.text.alignment_error_rate(links, gold) for links in (found, both)]
            print(
                f"{method:12} {model:9} {took:5.1f} s, {len(fit.trace)} iterations; error rate "
                f"{rates[0]:.3f}, of both directions {rates[1]:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1])

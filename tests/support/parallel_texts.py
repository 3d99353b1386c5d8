"""Small parallel texts with known alignments."""

import json
from pathlib import Path

import numpy as np

NLTK = json.loads(
    (Path(__file__).parents[1] / "data" / "word_alignment.json").read_text(encoding="utf-8")
)
"""nltk's tables of its own example; its note says how they were made."""


def planted(pairs=400, words=40, seed=0, noise=0.1):
    """Sentences of a made-up language, their translation in nearly the same order, and the links.

    Word ``s7`` becomes ``t7`` with probability ``1 - noise``, else any word of the target language;
    a twentieth of the target words are ``of``, from no source word.
    """
    rng = np.random.default_rng(seed)
    source, target, links = [], [], []
    for _ in range(pairs):
        ids = rng.choice(words, rng.integers(4, 10), p=_frequencies(words))
        order = np.argsort(np.arange(len(ids)) + rng.normal(0, 0.6, len(ids)), kind="stable")
        out, made = [], []
        for i in order:
            if rng.random() < 0.05:
                out.append("of")
            made.append((int(i), len(out)))
            is_other = rng.random() < noise
            out.append(f"t{rng.integers(words) if is_other else ids[i]}")
        source.append([f"s{i}" for i in ids])
        target.append(out)
        links.append(made)
    return source, target, links


def _frequencies(words):
    weights = 1 / (5 + np.arange(words))
    return weights / weights.sum()

"""Fitted language models in one file: the fit, the counts, and the vocabulary; no pickle."""

from __future__ import annotations

import json
import tempfile
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from bayes_moe.core.errors import FitFileError, SpecError
from bayes_moe.results import storage
from bayes_moe.results.strict_json import parse
from bayes_moe.text.context_table import Scorer
from bayes_moe.text.corpus import END, UNK, Vocabulary, check_level
from bayes_moe.text.fitted_language import FittedLanguageModel
from bayes_moe.text.ngrams import Counts, Level
from bayes_moe.text.smoothing import Ngram
from bayes_moe.text.whole_files import DAMAGE, replacing

FORMAT = "bayes_moe language model"
FIT, COUNTS, HEADER = "fit.nc", "counts.npz", "model.json"
"""Members of the file, which is a ZIP archive."""
ARRAYS = ("keys", "counts", "preceding")


def save(model: FittedLanguageModel, target: Path) -> Path:
    """Write a fitted language model to a file, which is returned."""
    levels = model.scorer.counts.levels
    header = {
        "format": FORMAT,
        "version": 1,
        "level": model.vocabulary.level,
        "lowercase": model.vocabulary.lowercase,
        "tokens": list(model.vocabulary.tokens),
        "contexts": [level.contexts for level in levels],
        "experts": [expert.to_dict() for expert in model.scorer.experts],
    }
    arrays = BytesIO()
    named = {f"{name}{k}": getattr(lv, name) for k, lv in enumerate(levels) for name in ARRAYS}
    np.savez_compressed(arrays, allow_pickle=False, **named)
    with tempfile.TemporaryDirectory() as folder:
        fit = storage.save(model.fit, Path(folder) / FIT)
        with replacing(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            archive.writestr(HEADER, json.dumps(header))
            archive.writestr(COUNTS, arrays.getvalue())
            archive.write(fit, FIT)
    return target


def load(path: Path) -> FittedLanguageModel:
    """Load a language model that :func:`save` wrote.

    Raises
    ------
    FitFileError
        For a file that is none, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
            header = parse(archive.read(HEADER).decode("utf-8"))
            vocabulary = _vocabulary(header)
            with np.load(BytesIO(archive.read(COUNTS)), allow_pickle=False) as arrays:
                counts = _counts(header["contexts"], arrays, vocabulary.size)
            experts = [Ngram(**record) for record in header["experts"]]
            fit = storage.load(archive.extract(FIT, folder))
        _check_experts(experts, counts, fit)
    except (*DAMAGE, SpecError) as error:
        raise FitFileError(
            f"{str(path)!r} is no file of bm.text.save, or damaged: {error}"
        ) from error
    return FittedLanguageModel(vocabulary, Scorer(counts, experts), fit)


def _vocabulary(header: Any) -> Vocabulary:
    """Vocabulary of a file's header."""
    if not isinstance(header, dict) or header.get("format") != FORMAT or header["version"] != 1:
        raise ValueError("the header is of another format or version")
    tokens = tuple(header["tokens"])
    check_level(header["level"])
    if tokens[:2] != (END, UNK) or not all(isinstance(token, str) for token in tokens):
        raise ValueError("the tokens are no vocabulary")
    return Vocabulary(header["level"], header["lowercase"] is True, tokens)


def _counts(contexts: list[int], arrays: Any, size: int) -> Counts:
    """Counts of a file's arrays, as far as look-ups need them to be right."""
    levels, below = [], 1
    for k, count in enumerate(contexts):
        keys, counts, preceding = (arrays[f"{name}{k}"] for name in ARRAYS)
        whole = all(x.dtype.kind == "i" and x.ndim == 1 for x in (keys, counts, preceding))
        if not whole or not len(keys) == len(counts) == len(preceding) or count != below:
            raise ValueError(f"the counts of order {k + 1} do not belong together")
        inside = len(keys) and keys[0] >= 0 and keys[-1] < count * size
        if not inside or np.any(np.diff(keys) <= 0) or min(counts.min(), preceding.min()) < 0:
            raise ValueError(f"the counts of order {k + 1} are out of range")
        levels.append(Level(keys, counts, preceding, count, size))
        below = len(keys)
    if not levels:
        raise ValueError("there are no counts")
    return Counts(tuple(levels))


def _check_experts(experts: list[Ngram], counts: Counts, fit: Any) -> None:
    """Raise :class:`ValueError` unless the experts are those of the fit, of orders counted."""
    names = [expert.name for expert in experts]
    if names != [str(label) for label in fit.spec.expert_labels]:
        raise ValueError("the experts are not those of the fit")
    if max(expert.order for expert in experts) > counts.order:
        raise ValueError("an expert has a higher order than the counts")

"""Word alignments in files: arrays and JSON in one NumPy archive, without pickle."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from bayes_moe.core.checks import (
    check_between,
    check_number,
    check_one_of,
    check_positive,
    check_whole,
    is_number,
)
from bayes_moe.core.errors import FitFileError
from bayes_moe.results.strict_json import parse
from bayes_moe.text.alignment_em import Run, Settings
from bayes_moe.text.cooccurrence import WordPairs, grouped
from bayes_moe.text.fitted_alignment import MODELS
from bayes_moe.text.parallel_text import ParallelText, SentencePairs, Tokenizer, Vocabulary
from bayes_moe.text.position_gates import DiagonalGate, PositionGate, TableGate, UniformGate
from bayes_moe.text.translation import TranslationTable
from bayes_moe.text.whole_files import DAMAGE, replacing

FORMAT, VERSION = "bayes_moe word alignment", 1
MEMBER = "record.npy"
"""The member with the JSON, which files of language models do not have."""

Parts = tuple[str, Settings, ParallelText, Run]
"""What an alignment is made of."""


def save(target: Path, model: str, settings: Settings, text: ParallelText, run: Run) -> Path:
    """Write an alignment to a file, which is returned."""
    table = run.table
    gate, arrays = _stored_gate(run.gate)
    record = {
        "format": FORMAT,
        "version": VERSION,
        "model": model,
        "settings": asdict(settings),
        "source": text.source.words,
        "target": text.target.words,
        "tokenizer": text.tokenizer is not None,
        "log_likelihood": run.log_likelihood,
        "settled": run.settled,
        "gate": gate,
    }
    arrays |= {
        "record": np.frombuffer(json.dumps(record).encode(), dtype=np.uint8),
        "trace": run.trace,
        "starts": table.pairs.starts,
        "pairs": table.pairs.target,
        "counts": table.counts,
    }
    for name, side in (("source", text.pairs.source), ("target", text.pairs.target)):
        arrays[f"{name}_words"] = np.concatenate(side).astype(np.int32)
        arrays[f"{name}_lengths"] = np.array([len(s) for s in side], dtype=np.int32)
    with replacing(target) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, allow_pickle=False, **arrays)
    return target


def load(path: Path, tokenizer: Tokenizer | None) -> Parts:
    """Read an alignment that :func:`save` has written.

    Raises
    ------
    FitFileError
        For a file of something else or a damaged one, and one that was made with a tokenizer, if
        none is given.
    """
    try:
        record, arrays = _read(path)
        model, settings = record["model"], _settings(record)
        text = _text(record, arrays, tokenizer)
        run = _run(record, arrays, settings, text)
        needs_tokenizer = _flag(record, "tokenizer")
    except DAMAGE as error:
        raise FitFileError(
            f"{str(path)!r} is no word alignment saved by this version, or damaged: {error}"
        ) from error
    if needs_tokenizer and tokenizer is None:
        raise FitFileError(
            f"The alignment in {str(path)!r} was made with a tokenizer, which no file keeps: "
            "give it as `tokenizer`."
        )
    return model, settings, text, run


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            # A member that is read whole is held to its checksum before it is understood.
            data = BytesIO(archive.read(name))
            arrays[name.removesuffix(".npy")] = np.lib.format.read_array(data, allow_pickle=False)
    record = parse(arrays["record"].tobytes().decode("utf-8"))
    if record["format"] != FORMAT or record["version"] != VERSION:
        raise ValueError("it is of another format or version")
    return record, arrays


def _check(holds: Any, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _flag(record: dict[str, Any], name: str) -> bool:
    value = record[name]
    _check(isinstance(value, bool), f"{name!r} is neither true nor false")
    return bool(value)


def _array(arrays: dict[str, np.ndarray], name: str, kind: str) -> np.ndarray:
    """Array of one dimension, of finite numbers or whole ones."""
    array = arrays[name]
    _check(array.ndim == 1 and array.dtype.kind == kind, f"{name!r} has another type or dimension")
    if kind == "i":
        return array.astype(np.int64)
    _check(np.isfinite(array).all(), f"{name!r} has values that are not finite")
    return array.astype(np.float64)


def _settings(record: dict[str, Any]) -> Settings:
    settings = Settings(**record["settings"])
    check_one_of("model of alignment", record["model"], MODELS)
    _flag(record["settings"], "variational")
    check_positive("concentration", settings.concentration)
    _check(settings.variational or settings.concentration >= 1, "EM has a concentration below 1")
    check_whole("start_iterations", settings.start_iterations, 0)
    check_whole("iterations", settings.iterations, 1)
    check_number("tolerance", settings.tolerance)
    _check(settings.tolerance >= 0, "the tolerance is negative")
    return settings


def _text(
    record: dict[str, Any], arrays: dict[str, np.ndarray], tokenizer: Tokenizer | None
) -> ParallelText:
    vocabularies, sides = [], []
    for name, first in (("source", 1), ("target", 0)):
        words = record[name]
        are_texts = isinstance(words, list) and all(isinstance(word, str) for word in words)
        _check(are_texts and len(set(words)) == len(words), f"{name!r} is no vocabulary")
        numbers = _array(arrays, f"{name}_words", "i")
        lengths = _array(arrays, f"{name}_lengths", "i")
        # Each length is below the number of words before their sum can overflow.
        fit = len(lengths) and lengths.min() >= 1 and lengths.max() <= len(numbers)
        _check(fit and lengths.sum() == len(numbers), f"{name!r} has sentences of other lengths")
        # All words are in use, and NULL is source word 0.
        in_use = np.unique(numbers)
        known = np.arange(first, len(words) + first)
        _check(np.array_equal(in_use, known), f"{name!r} has words out of the vocabulary")
        vocabularies.append(Vocabulary(tuple(words)))
        sides.append(np.split(numbers, np.cumsum(lengths)[:-1]))
    _check(len(sides[0]) == len(sides[1]), "a sentence has no counterpart")
    source, target = vocabularies
    return ParallelText(source, target, SentencePairs(*sides), tokenizer)


def _run(
    record: dict[str, Any], arrays: dict[str, np.ndarray], settings: Settings, text: ParallelText
) -> Run:
    trace = _array(arrays, "trace", "f")
    _check(len(trace), "'trace' is empty")
    check_number("log_likelihood", record["log_likelihood"])
    pairs = _pairs(arrays, text)
    counts = _array(arrays, "counts", "f")
    _check(len(counts) == pairs.size and counts.min() >= 0, "'counts' are no counts of pairs")
    tokens = sum(len(sentence) for sentence in text.pairs.target)
    _check(np.isclose(counts.sum(), tokens, rtol=1e-6), "'counts' are not of these texts")
    table = TranslationTable(pairs, counts, settings.concentration, settings.variational)
    gate = _gate(record["model"], record["gate"], arrays, text.pairs)
    return Run(table, gate, trace, record["log_likelihood"], _flag(record, "settled"))


def _pairs(arrays: dict[str, np.ndarray], text: ParallelText) -> WordPairs:
    """Word pairs: each source word, NULL too, occurs with a target word, or with more."""
    starts, target = _array(arrays, "starts", "i"), _array(arrays, "pairs", "i")
    fit = len(starts) == text.source.size + 2 and starts[0] == 0 and starts[-1] == len(target)
    _check(fit and (starts[1:] > starts[:-1]).all(), "'starts' are no rows of pairs")
    within = target.min() >= 0 and target.max() < text.target.size
    rises = target[1:] > target[:-1]
    rises[starts[1:-1] - 1] = True
    _check(within and rises.all(), "'pairs' are no sorted target words")
    return WordPairs(starts, target, text.target.size)


def _stored_gate(gate: PositionGate) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Gate as JSON and arrays."""
    if isinstance(gate, TableGate):
        arrays = {
            "source_lengths_seen": gate.shapes.source,
            "target_lengths_seen": gate.shapes.target,
            "positions": gate.values,
        }
        return {"null": gate.null, "concentration": gate.concentration}, arrays
    if isinstance(gate, DiagonalGate | UniformGate):
        return asdict(gate), {}
    raise TypeError(f"No file holds a {type(gate).__name__}.")


def _gate(
    model: str, record: dict[str, Any], arrays: dict[str, np.ndarray], pairs: SentencePairs
) -> PositionGate:
    null = record["null"]
    if model == "diagonal":
        _flag(record, "fixed_null")
        check_number("strength", record["strength"])
        check_between("null", null, 0, 1)
        return DiagonalGate(**record)
    _check(null is None or (is_number(null) and 0 <= null < 1), "the probability of NULL is none")
    if model == "ibm1":
        return UniformGate(**record)
    check_positive("concentration", record["concentration"])
    _check(record["concentration"] >= 1, "the gate has a concentration below 1")
    seen = [_array(arrays, f"{name}_lengths_seen", "i") for name in ("source", "target")]
    shapes, _ = grouped(pairs)
    same = np.array_equal(seen[0], shapes.source) and np.array_equal(seen[1], shapes.target)
    _check(same, "the lengths of the gate are not those of the texts")
    values = _array(arrays, "positions", "f")
    fit = len(values) == shapes.starts[-1] and values.min() >= 0
    _check(fit, "'positions' are no probabilities of these lengths")
    sums = np.add.reduceat(values, shapes.row_starts)
    _check(np.allclose(sums, 1, atol=1e-6), "'positions' do not sum to one")
    return TableGate(**record, shapes=shapes, values=values)

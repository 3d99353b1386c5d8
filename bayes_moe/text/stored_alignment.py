"""Word alignments in files: arrays and JSON in one NumPy archive, without pickle."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from bayes_moe.core.errors import FitFileError
from bayes_moe.text.alignment_em import Run, Settings
from bayes_moe.text.cooccurrence import Shapes, WordPairs
from bayes_moe.text.parallel_text import ParallelText, SentencePairs, Tokenizer, Vocabulary
from bayes_moe.text.position_gates import DiagonalGate, PositionGate, TableGate, UniformGate
from bayes_moe.text.translation import TranslationTable
from bayes_moe.text.whole_files import replacing

FORMAT, VERSION = "bayes_moe word alignment", 1
MEMBER = "record.npy"
"""The JSON, by which the file is told from others."""

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
        np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]
    return target


def load(path: Path, tokenizer: Tokenizer | None) -> Parts:
    """Read an alignment that :func:`save` has written.

    Raises
    ------
    FitFileError
        For a file of something else, and one that was made with a tokenizer, if none is given.
    """
    record, arrays = _read(path)
    if record["tokenizer"] and tokenizer is None:
        raise FitFileError(
            f"The alignment in {str(path)!r} was made with a tokenizer, which no file keeps: "
            "give it as `tokenizer`."
        )
    source, target = (Vocabulary(tuple(record[name])) for name in ("source", "target"))
    sides = [
        np.split(
            arrays[f"{name}_words"].astype(np.int64), np.cumsum(arrays[f"{name}_lengths"])[:-1]
        )
        for name in ("source", "target")
    ]
    settings = Settings(**record["settings"])
    pairs = WordPairs(arrays["starts"], arrays["pairs"], target.size)
    table = TranslationTable(pairs, arrays["counts"], settings.concentration, settings.variational)
    gate = _gate(record["gate"], arrays)
    run = Run(table, gate, arrays["trace"], record["log_likelihood"], record["settled"])
    return (
        record["model"],
        settings,
        ParallelText(source, target, SentencePairs(*sides), tokenizer),
        run,
    )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        record = json.loads(arrays["record"].tobytes())
        known = record["format"] == FORMAT and record["version"] == VERSION
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile):
        known = False
    if not known:
        raise FitFileError(f"{str(path)!r} is no word alignment saved by this version.")
    return record, arrays


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


def _gate(record: dict[str, Any], arrays: dict[str, np.ndarray]) -> PositionGate:
    if "strength" in record:
        return DiagonalGate(**record)
    if "concentration" not in record:
        return UniformGate(**record)
    shapes = Shapes(arrays["source_lengths_seen"], arrays["target_lengths_seen"])
    return TableGate(**record, shapes=shapes, values=arrays["positions"])

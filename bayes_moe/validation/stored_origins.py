"""Finished origins of a backtest in a file, from which an interrupted one goes on."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bayes_moe.core.errors import SpecError

FORMAT, VERSION = "bayes_moe backtest", 1

Figures = dict[str, Any]
"""Arrays of one origin as nested lists, by name."""


@dataclass
class StoredOrigins:
    """Figures of finished origins by their number; written to ``path`` after each, if there is one.

    ``marks`` are digests of what the figures depend on: the model, the table, the arguments.
    """

    path: Path | None
    marks: dict[str, str]
    seed: int
    finished: dict[int, Figures] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Any, marks: dict[str, str], seed: int | None) -> StoredOrigins:
        """Finished origins of a file, or none if there is no file yet.

        The seed of a file is taken where none is given.

        Raises
        ------
        FileNotFoundError
            If there is no such folder.
        SpecError
            For a file of something else, or of a backtest of another model, table or arguments.
        """
        from bayes_moe.core import seeds

        if path is None:
            return cls(None, marks, seeds.resolve(seed))
        target = Path(path)
        if not target.parent.is_dir():
            raise FileNotFoundError(f"There is no folder {str(target.parent)!r} to save in.")
        if not target.exists():
            return cls(target, marks, seeds.resolve(seed))
        stored = _read(target)
        other = [what for what, mark in marks.items() if stored["marks"].get(what) != mark]
        if seed is not None and seed != stored["seed"]:
            other.append("random_seed")
        if other:
            raise SpecError(
                f"{str(target)!r} holds a backtest with another {' and another '.join(other)}: "
                "name another file, or remove this one to begin anew."
            )
        finished = {int(number): figures for number, figures in stored["origins"].items()}
        return cls(target, marks, int(stored["seed"]), finished)

    def add(self, number: int, figures: dict[str, np.ndarray]) -> None:
        """Keep the figures of an origin, and write all to the file."""
        self.finished[number] = {name: values.tolist() for name, values in figures.items()}
        if self.path is None:
            return
        record = {
            "format": FORMAT,
            "version": VERSION,
            "marks": self.marks,
            "seed": self.seed,
            "origins": self.finished,
        }
        # The file is complete at any moment, also where the run is ended while it writes.
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        temporary.write_text(json.dumps(record), encoding="utf-8")
        os.replace(temporary, self.path)


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        known = stored["format"] == FORMAT and {"marks", "seed", "origins"} <= {*stored}
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    if not known or stored["version"] != VERSION:
        raise SpecError(
            f"{str(path)!r} is no file of a backtest by this version: name another file, or remove "
            "it to begin anew."
        )
    result: dict[str, Any] = stored
    return result


def digest(value: Any) -> str:
    """Digest of a JSON-ready value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def table_digest(table: Any) -> str:
    """Digest of the columns and values of a pandas table, without its index."""
    import pandas as pd

    whole = hashlib.sha256()
    for name in table:
        whole.update(f"{name}:{table[name].dtype}".encode())
        whole.update(pd.util.hash_pandas_object(table[name], index=False).to_numpy().tobytes())
    return whole.hexdigest()

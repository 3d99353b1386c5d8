"""Files that are complete at any moment, and what reading a damaged one raises."""

from __future__ import annotations

import os
import secrets
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError

DAMAGE = (
    zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, TypeError, LookupError,
    AttributeError, RuntimeError, OverflowError, MemoryError, SyntaxError, TokenError,
)  # fmt: skip
"""What reading a damaged archive raises, or parts that do not fit; an array's header is read as
Python."""


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Path of a temporary file in the target's folder, which takes its place if all went well.

    After an error the temporary file is removed, and the target is as it was.
    """
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        yield temporary
        with temporary.open("rb") as stored:
            os.fsync(stored.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

"""Words in texts of any script: patterns that keep combining marks inside them."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

BLOCKS = (range(0x300, 0x20000), range(0xE0100, 0xE01F0))
"""Code points among which all combining marks are (Unicode categories Mn, Mc, Me)."""
JOINERS = "\u200c\u200d"
"""Zero-width characters by which letters inside a word are joined, or are not."""


@lru_cache
def marks() -> str:
    r"""Combining marks and joiners, as the inside of a character class.

    Python's ``\w`` is without them, so that it ends at every vowel sign of, say, Hindi.
    """
    ranges: list[list[int]] = []
    for code in (code for block in BLOCKS for code in block):
        if unicodedata.category(chr(code))[0] != "M":
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges) + JOINERS


@lru_cache
def word_pattern(inner: str) -> re.Pattern[str]:
    """Pattern of a word, or of one other character that is no space, each with its marks.

    A word is a run of letters, digits, underscores and marks that begins with no mark; ``inner``
    are characters that may be inside it, as the inside of a character class.
    """
    # Runs of \w alone are matched fast; the class of marks is tried at their ends only.
    run = rf"\w+(?:[{marks()}]+\w*)*"
    return re.compile(rf"{run}(?:[{inner}]{run})*|[^\w\s][{marks()}]*")

"""The loops of a family's kernel over the rows of a chunk, for one expert.

A kernel is one function of numbers,

``(t, u, base, eta_1, ..., eta_P) -> (log f, d log f / d eta_1, ..., d log f / d eta_P)``,

(with up to ``MORE`` further functions of the responses before the predictors)
with ``t``, ``u`` and ``base`` of :meth:`bayes_moe.families.Family.data` and ``eta_p`` the linear
predictors of the family's slots. A kernel must be free of branches (``a if c else b`` compiles to
a select) and call only :mod:`bayes_moe.kernels.elementary` and :mod:`bayes_moe.kernels.special`,
or the loop over rows does not vectorise. Where all predictors but the first are the same for every
row, the compiler hoists what depends on them out of the loop.

Loops are written as text for the kernel's number of predictors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from numba import int64
from numba.extending import register_jitable

from bayes_moe.kernels.compile import REORDERED, VERSION, c_function, doubles

WIDTH = 256
"""Rows of a chunk: its arrays fit into the processor's first-level cache."""
PACK = 16
"""Loops run over whole packs of rows; the last pack is filled up with copies of a row."""
LARGEST = 27
"""Largest number of predictors of a kernel: those of six responses that are normal together."""
MORE = 4
"""Largest number of functions of the responses that a kernel reads, beyond two."""

T, U, BASE, VALUE, REST = 0, WIDTH, 2 * WIDTH, 3 * WIDTH, 4 * WIDTH
ETA = REST + MORE * WIDTH
SCORE = ETA + WIDTH
STEP = 2 * WIDTH
"""Numbers from a predictor to the next: each score is beside its predictor."""
SCRATCH = ETA + LARGEST * STEP
"""Numbers in the scratch space of one expert; constant offsets, so that loops vectorise."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """The kernel of a family: its function of numbers, number of predictors, and source text.

    ``more`` is the number of further functions of the responses.
    """

    row: Callable[..., tuple[float, ...]]
    parameters: int
    text: str
    more: int = 0

    @cached_property
    def address(self) -> int:
        """Address of the compiled function ``(scratch, shared, packs) -> 0``."""
        return int(c_function(int64(int64, int64, int64), over_rows(self)).address)

    def compiled(self, text: str) -> Any:
        """The function ``rows`` of a text in which ``row`` is the kernel, for compiled code."""
        namespace: dict[str, Any] = {"row": self.row}
        exec(text, namespace)
        return register_jitable(fastmath=REORDERED)(namespace["rows"])


def over_rows(kernel: Kernel) -> Callable[[int, int, int], int]:
    """The loop of a kernel over the rows of a scratch space, not yet compiled.

    Its arguments are the address of the space, whether all predictors but the first are the same
    for every row, and the number of packs.
    """
    rows = kernel.compiled(_scratch_text(kernel.parameters, kernel.more))
    text, version = kernel.text, VERSION

    def loop(scratch: int, shared: int, packs: int) -> int:
        text, version  # noqa: B018  (a kept function belongs to one version of the sources)
        rows(doubles(scratch, SCRATCH), packs * PACK, shared)
        return 0

    return loop


def densities(kernel: Kernel) -> Any:
    """Function ``(to, t, u, base, first, rest, step, shared)`` that fills in log densities of rows.

    ``first`` is the first predictor of the rows; the next ones start at every ``step`` numbers of
    ``rest``, and are one number each if ``shared``.
    """
    return kernel.compiled(_density_text(kernel.parameters))


def _scratch_text(parameters: int, more: int) -> str:
    """Source of ``rows(s, n, shared)``, which fills in values and scores in a scratch space."""
    others = range(1, parameters)
    rest = (REST + j * WIDTH for j in range(more))
    read = ", ".join(f"s[{start} + i]" for start in (T, U, BASE, *rest, ETA))
    own = [f"s[{ETA + q * STEP} + i]" for q in others]
    to = ", ".join([f"s[{VALUE} + i]", *(f"s[{SCORE + q * STEP} + i]" for q in range(parameters))])
    lines = [f"b{q} = s[{ETA + q * STEP}]" for q in others]
    return _both(
        "s, n, shared",
        lines,
        f"{to} = row({', '.join([read, *(f'b{q}' for q in others)])})",
        [],
        f"{to} = row({', '.join([read, *own])})",
    )


def _density_text(parameters: int) -> str:
    """Source of the function of :func:`densities`."""
    others = range(1, parameters)
    read = "t[i], u[i], base[i], first[i]"
    return _both(
        "to, t, u, base, first, rest, step, shared",
        ["n = to.size", *(f"b{q} = rest[{q - 1} * step]" for q in others)],
        f"to[i] = row({', '.join([read, *(f'b{q}' for q in others)])})[0]",
        ["n = to.size", *(f"b{q} = rest[{q - 1} * step : {q - 1} * step + n]" for q in others)],
        f"to[i] = row({', '.join([read, *(f'b{q}[i]' for q in others)])})[0]",
    )


def _both(arguments: str, shared: list[str], shared_row: str, own: list[str], own_row: str) -> str:
    """Source of ``rows``: a loop with shared predictors, and one with those of each row."""
    parts = [f"def rows({arguments}):"]
    for condition, before, row in (("if shared:", shared, shared_row), ("else:", own, own_row)):
        parts += [f"    {condition}", *(f"        {line}" for line in before)]
        parts += ["        for i in range(n):", f"            {row}"]
    return "\n".join([*parts, ""])

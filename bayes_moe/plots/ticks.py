"""Tick labels of categories that do not overlap, and whole numbers on axes of counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from textwrap import wrap
from typing import Any, Literal

from bayes_moe.data.reference_grid import Grid
from bayes_moe.plots.canvas import Canvas

WRAPPED = (24, 18, 14, 10)  # letters in a line
LINES = 3
TURNED = 24  # letters of a vertical label
TURNED_WRAPPED = (16, 22)  # letters in a line of a vertical label of two lines
SHORTENED = (16, 12, 9, 7, 5, 4, 3, 2, 1)  # letters of a label that cannot be turned
FEW = 7  # letters of a label that cannot be turned, where not all categories have one
ELLIPSIS = 5  # least letters of a shortened label that has one
SMALL_SIZES = (7.5, 5.5)
GAP = 0.04  # inches between two labels
STEPS = [1, 2, 5, 10]

Ticks = tuple[list[str], dict[str, Any]]
"""Labels, and matplotlib's keyword arguments of their texts."""


def fit_categories(canvas: Canvas, labels: Sequence[str]) -> None:
    """Write categories so that their labels do not overlap: wrapped, turned, shortened or fewer."""
    # Other backends turn their labels themselves.
    if canvas.backend == "matplotlib":
        axes = canvas.collection.viz["plot"].item()
        _choose(axes, labels, _turning(labels), canvas, relayout=True)


def fit_short_categories(axes: Any, labels: Sequence[str], canvas: Canvas) -> None:
    """Write categories so that their labels do not overlap, in one line below small axes."""
    _choose(axes, labels, _shortening(labels), canvas, relayout=False)


def shortened_labels(labels: Sequence[str], letters: int) -> list[str]:
    """Return labels of at most so many letters: the starts, or starts and ends, that differ.

    If neither do, they are what follows the letters that all labels begin with.
    """
    for ending in (0, letters // 2):
        short = [_cut(label, letters, ending) for label in labels]
        if len({*short}) == len({*labels}):
            return short
    differ = [len({*letters}) > 1 for letters in zip(*labels, strict=False)]
    same = [*differ, True].index(True)
    return [_cut(label[same:], letters, 0) for label in labels]


def feature_ticks(canvas: Canvas, grid: Grid) -> None:
    """Fit the labels of categories into the axis of a feature, or put whole numbers on it."""
    if grid.levels:
        fit_categories(canvas, [str(level) for level in grid.levels])
    elif grid.whole:
        whole_ticks(canvas, "x", (grid.x[0], grid.x[-1]))


def whole_ticks(canvas: Canvas, axis: str, limits: tuple[float, float]) -> None:
    """Put ticks of an axis at whole numbers only, if it is long enough to have two."""
    if limits[1] - limits[0] < 2:
        return
    target = canvas.collection.viz["plot"].item()
    if canvas.backend == "matplotlib":
        whole_locator(target, axis)
    elif canvas.backend == "plotly":
        from matplotlib.ticker import MaxNLocator

        ticks = MaxNLocator(6, integer=True, steps=STEPS).tick_values(*limits)
        settings = {"tick0": 0, "dtick": max(1, int(ticks[1] - ticks[0]))}
        (target.update_xaxes if axis == "x" else target.update_yaxes)(**settings)


def whole_locator(axes: Any, axis: str, most: int | Literal["auto"] = "auto") -> None:
    """Put ticks of matplotlib axes at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    locator = MaxNLocator(most, integer=True, steps=STEPS)
    getattr(axes, f"{axis}axis").set_major_locator(locator)


def _choose(
    axes: Any, labels: Sequence[str], looks: Iterator[Ticks], canvas: Canvas, relayout: bool
) -> None:
    """Write the first of several sets of tick labels in which none overlap, or the last."""
    positions = range(len(labels))
    if relayout:
        axes.figure.draw_without_rendering()
    for texts, look in looks:
        axes.set_xticks(positions, [canvas.text(text) for text in texts], **look)
        if _overlap(axes):
            continue
        # The layout changes with the labels.
        if relayout:
            axes.figure.draw_without_rendering()
        if not _overlap(axes):
            return


def _turning(labels: Sequence[str]) -> Iterator[Ticks]:
    """Yield tick labels, each set narrower than the last."""
    yield list(labels), {"rotation": 0}
    for letters in WRAPPED:
        yield from _wrapped(labels, letters, LINES, 0)
    for letters in TURNED_WRAPPED:
        yield from _wrapped(labels, letters, 2, 90)
    turned = shortened_labels(labels, TURNED)
    yield turned, {"rotation": 90}
    yield from _fewer(turned, {"rotation": 90})


def _wrapped(labels: Sequence[str], letters: int, most: int, rotation: float) -> Iterator[Ticks]:
    """Yield tick labels of several lines, if that is at most so many."""
    lines = [wrap(label, letters, break_long_words=False) or [""] for label in labels]
    fits = max(len(line) for parts in lines for line in parts) <= TURNED
    if fits and max(len(parts) for parts in lines) <= most:
        yield ["\n".join(parts) for parts in lines], {"rotation": rotation}


def _shortening(labels: Sequence[str]) -> Iterator[Ticks]:
    """Yield tick labels in one line, each set narrower than the last."""
    yield list(labels), {}
    for letters in SHORTENED:
        short = shortened_labels(labels, letters)
        if len({*short}) == len({*labels}):
            yield short, {}
    yield from _fewer(shortened_labels(labels, FEW), {})


def _fewer(labels: Sequence[str], look: dict[str, Any]) -> Iterator[Ticks]:
    """Yield smaller labels, then fewer: every second, every third, ..."""
    for size in SMALL_SIZES:
        yield list(labels), look | {"fontsize": size}
    step = 1
    while step < len(labels):
        step += 1 + step // 4
        kept = [label if j % step == 0 else "" for j, label in enumerate(labels)]
        yield kept, look | {"fontsize": SMALL_SIZES[-1]}


def _overlap(axes: Any) -> bool:
    """Whether two tick labels of a horizontal axis overlap, or almost do."""
    renderer = axes.figure.canvas.get_renderer()
    boxes = [t.get_window_extent(renderer) for t in axes.get_xticklabels() if t.get_text()]
    gap = GAP * axes.figure.dpi
    return any(b.x0 < a.x1 + gap for a, b in pairwise(boxes))


def _cut(text: str, letters: int, ending: int) -> str:
    """Return a text, cut to so many letters, of which the last ``ending`` are its end."""
    if len(text) <= letters:
        return text
    mark = "…" if letters >= ELLIPSIS else ""
    start = text[: letters - ending - len(mark)].rstrip()
    return f"{start}{mark}{text[len(text) - ending :].lstrip()}"

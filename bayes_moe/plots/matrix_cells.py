"""Cells of a matrix in a picture: shaded, and with numbers written into them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bayes_moe.plots.canvas import Look

Place = tuple[int, ...]


def shade_cells(
    target: Any, shape: tuple[int, ...], shades: Mapping[Place, Look], look: Look
) -> np.ndarray:
    """Fill cells (row, column), each with a look of its own, and return the artists by cell."""
    from arviz_plots.plot_collection import backend_from_object

    draw = backend_from_object(target).fill_between_y
    artists = np.empty(shape, dtype=object)
    for (i, j), shade in shades.items():
        edges = np.array([j - 0.5, j + 0.5])
        ends = (np.full(2, i - 0.5), np.full(2, i + 0.5))
        artists[i, j] = draw(edges, *ends, target, **(shade | look))
    return artists


def write_cells(
    target: Any, shape: tuple[int, ...], texts: Mapping[Place, str], look: Look
) -> np.ndarray:
    """Write texts into the middle of cells (row, column), and return the artists by cell."""
    from arviz_plots.plot_collection import backend_from_object

    write = backend_from_object(target).text
    centred: Look = {"vertical_align": "center", "horizontal_align": "center"}
    artists = np.empty(shape, dtype=object)
    for (i, j), text in texts.items():
        artists[i, j] = write(j, i, text, target, **(centred | look))
    return artists

"""A text for notebooks, its tokens coloured by the expert that is responsible for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.core import html
from bayes_moe.text.corpus import CHAR, END

if TYPE_CHECKING:
    import pandas as pd

COLOURS = (
    (31, 119, 180),
    (255, 127, 14),
    (44, 160, 44),
    (214, 39, 40),
    (148, 103, 189),
    (140, 86, 75),
    (227, 119, 194),
    (127, 127, 127),
    (188, 189, 34),
    (23, 190, 207),
)
"""Red, green and blue of experts: those of the pictures, C0, C1, ... of matplotlib; then again."""
STRONGEST = 0.6
"""Opacity of a token that is surely one expert's: text stays legible on light and dark pages."""
MOST = 4000
"""Most tokens that are shown."""


def colour(expert: int, opacity: float) -> str:
    """CSS colour of an expert, which a page's own background shows through."""
    red, green, blue = COLOURS[expert % len(COLOURS)]
    return f"rgba({red},{green},{blue},{opacity:.2f})"


@dataclass(frozen=True, eq=False, repr=False)
class TokenView:
    """A text whose tokens are coloured; notebooks show it by itself.

    The colour is that of the expert with the largest responsibility, the stronger the surer; above
    a token its probability and the responsibilities are shown while the pointer is there.

    Attributes
    ----------
    table : pandas.DataFrame
        Tokens with their probabilities and responsibilities, as of
        :meth:`FittedLanguageModel.responsibilities`.
    level : {"char", "word"}
        Whether tokens are joined without spaces.
    """

    table: pd.DataFrame
    level: str

    def __repr__(self) -> str:
        shares = self._shares.mean(axis=0)
        shown = ", ".join(f"{k} {s:.0%}" for k, s in zip(self._labels, shares, strict=True))
        return f"TokenView of {len(self.table)} tokens: {shown}"

    @property
    def _labels(self) -> list[str]:
        return list(self.table.columns[2:])

    @property
    def _shares(self) -> np.ndarray:
        return self.table[self._labels].to_numpy()

    def _repr_html_(self) -> str:
        """HTML of the legend and the text."""
        few = self.table.iloc[:MOST]
        shares = self._shares[: len(few)]
        best = shares.argmax(axis=1)
        spans = [
            self._token(token, p, own, k)
            for token, p, own, k in zip(few["token"], few["probability"], shares, best, strict=True)
        ]
        space = "" if self.level == CHAR else " "
        body = (
            f'<div style="font-family:monospace;line-height:1.7;white-space:pre-wrap">'
            f"{space.join(spans)}</div>"
        )
        left_out = len(self.table) - len(few)
        rest = html.paragraph(f"... and {left_out:,} tokens more.") if left_out else ""
        title = "Tokens by responsible expert"
        return html.view(title, self._legend(best), body, rest)

    def _legend(self, best: np.ndarray) -> str:
        """The experts in their colours, with their mean responsibility."""
        parts = [
            f'<span style="background:{colour(k, STRONGEST)};padding:1px 6px;margin-right:6px;'
            f'border-radius:3px">{html.escape(label)} {share:.0%}</span>'
            for k, (label, share) in enumerate(
                zip(self._labels, self._shares.mean(axis=0), strict=True)
            )
        ]
        return f'<div style="margin:6px 0">{"".join(parts)}</div>'

    def _token(self, token: str, p: float, shares: np.ndarray, k: int) -> str:
        """One token."""
        count = len(shares)
        sure = 1.0 if count == 1 else (shares[k] - 1 / count) / (1 - 1 / count)
        each = ", ".join(f"{n} {s:.2f}" for n, s in zip(self._labels, shares, strict=True))
        shown = "⏎\n" if token == "\n" else token
        dim = ";opacity:.6" if token == END else ""
        return (
            f'<span style="background:{colour(k, STRONGEST * sure)}{dim}" '
            f'title="{html.escape(f"p = {p:.3g}; {each}")}">{html.escape(shown)}</span>'
        )

"""The table of modes: a data frame that prints the chance of a new mode below itself."""

from __future__ import annotations

import pandas as pd

from bayes_moe.core import html, names


class ModeTable(pd.DataFrame):
    """Modes of a fit; see :func:`bayes_moe.modes`. What is made from it is a plain data frame."""

    def __repr__(self) -> str:
        return "\n".join([super().__repr__(), *self._chance])

    def _repr_html_(self) -> str | None:
        table = super()._repr_html_()  # type: ignore[misc]
        return table if table is None else table + "".join(map(html.paragraph, self._chance))

    @property
    def _chance(self) -> list[str]:
        """A sentence on the chance of a new mode; none where it is unknown."""
        if names.NEW_MODE_CHANCE not in self.attrs:
            return []
        chance, finished = self.attrs[names.NEW_MODE_CHANCE], self.attrs[names.FINISHED]
        return [
            f"Chance that one more start ends in a new mode: {chance:.0%} (of {finished} starts "
            f"that ran to the end, {round(chance * finished)} are alone in a mode)."
        ]

"""Small public data sets that ship with the package, each with its source."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from bayes_moe.errors import DataError, unknown

if TYPE_CHECKING:
    import pandas as pd

SOURCES = {
    "tone": (
        "Cohen, E. A. (1980). Inharmonic tone perception. PhD thesis, Stanford University. "
        "150 rows: a musician tunes an adjustable tone to the octave above a stretched "
        "fundamental. Columns: stretchratio (ratio of the overtones to the fundamental), "
        "tuned (ratio of the adjusted tone to the fundamental)."
    ),
}


def load_dataset(name: str) -> pd.DataFrame:
    """Load one of the data sets that ship with the package.

    Parameters
    ----------
    name : str
        ``"tone"``: Cohen's (1980) tone perception experiment, 150 rows.

    Returns
    -------
    pandas.DataFrame
        The table; ``.attrs["source"]`` cites where it comes from.

    Raises
    ------
    DataError
        If there is no data set of that name.
    """
    import pandas as pd

    if not isinstance(name, str) or name not in SOURCES:
        raise DataError(unknown("data set", name, SOURCES))
    path = resources.files("bayes_moe") / "data" / f"{name}.csv"
    with path.open(encoding="utf-8") as handle:
        table = pd.read_csv(handle)
    table.attrs["source"] = SOURCES[name]
    return table

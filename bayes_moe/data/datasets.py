"""Public data sets that ship with the package, each with its source."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from bayes_moe.core.errors import DataError, unknown

if TYPE_CHECKING:
    import pandas as pd

SOURCES = {
    "tone": (
        "Cohen, E. A. (1980). Inharmonic tone perception. PhD thesis, Stanford University. "
        "150 rows: a musician tunes an adjustable tone to the octave above a stretched "
        "fundamental. Columns: stretchratio (ratio of the overtones to the fundamental), "
        "tuned (ratio of the adjusted tone to the fundamental)."
    ),
    "mcycle": (
        "Silverman, B. W. (1985). Some aspects of the spline smoothing approach to non-parametric "
        "regression curve fitting. Journal of the Royal Statistical Society B, 47(1), 1-52; "
        "measured by Schmidt, G., Mattern, R., & Schueler, F. (1981). "
        "133 rows: the head of a test object in simulated motorcycle crashes. "
        "Columns: times (milliseconds after impact), accel (acceleration of the head, in g)."
    ),
    "lidar": (
        "Sigrist, M. W. (1994). Air monitoring by spectroscopic techniques. Wiley; as in Ruppert, "
        "D., Wand, M. P., & Carroll, R. J. (2003). Semiparametric regression. Cambridge "
        "University Press. "
        "221 rows: light of two lasers, reflected by the air; mercury absorbs that of one. "
        "Columns: range (metres that the light travelled before it was reflected back), logratio "
        "(log of the ratio of the light received from the two lasers)."
    ),
}


def load_dataset(name: str) -> pd.DataFrame:
    """Load one of the data sets that ship with the package.

    Parameters
    ----------
    name : str
        ``"tone"``: Cohen's (1980) tone perception experiment, 150 rows.
        ``"mcycle"``: acceleration of the head in simulated motorcycle crashes, 133 rows
        (Silverman 1985, of measurements by Schmidt, Mattern and Schueler 1981).
        ``"lidar"``: light that mercury in the air absorbs, by distance, 221 rows (Sigrist 1994;
        Ruppert, Wand and Carroll 2003).

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
    path = resources.files("bayes_moe") / "data" / "csv" / f"{name}.csv"
    with path.open(encoding="utf-8") as handle:
        table = pd.read_csv(handle)
    table.attrs["source"] = SOURCES[name]
    return table

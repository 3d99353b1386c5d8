"""Points at which a predictive density is evaluated, so that none of its maxima is missed."""

from __future__ import annotations

import numpy as np

from bayes_moe.model.mixture import Mixture

REACH = 2.0
"""Distance from a location, in scales, up to which a density can be concave."""

FINE_STEP, COARSE_STEP = 0.125, 0.25
"""Most distance of points, in scales, for one draw and for several."""

MOST_CELLS = 60
"""Most different pairs of location and scale, up to a step, about which points are placed."""

LEAST_WEIGHT = 1e-12
FAR_GROWTH = 4.0
FAR_POINTS = 24


def search_points(mixture: Mixture) -> np.ndarray:
    """Return increasing points (point, obs) that find every maximum, padded with NaN."""
    samples = len(mixture.log_weights)
    step = FINE_STEP if samples == 1 else COARSE_STEP
    location, width = mixture.moments("location"), mixture.moments("scale")
    flat = (-1, location.shape[-1])
    used = (mixture.weights > LEAST_WEIGHT).reshape(flat)
    centre, unit = _cells(location.reshape(flat), width.reshape(flat), used, step)
    count = int(np.ceil(REACH / step)) * 2  # a unit may be half a step
    near = centre + unit * np.arange(-count, count + 1)[:, None, None]
    middle = np.median(location, axis=0), np.median(width, axis=0)  # (expert, obs)
    growth = REACH * FAR_GROWTH ** np.arange(FAR_POINTS)[:, None, None]
    far = [middle[0] - growth * middle[1], middle[0] + growth * middle[1]]
    measure = mixture.measure
    far += [end + (middle[0] - end) / growth for end, _ in mixture.measure.ends]
    points = np.concatenate([part.reshape(flat) for part in (near, *far)])
    if not np.isfinite(measure.upper - measure.lower):
        # Far points beyond the last expert's are of no use, but for a density that is highest at
        # both ends of an interval, as that of angles.
        top = np.where(used, (location + FAR_GROWTH * width).reshape(flat), -np.inf).max(axis=0)
        bottom = np.where(used, (location - FAR_GROWTH * width).reshape(flat), np.inf).min(axis=0)
        points = np.where((points <= top) & (points >= bottom), points, np.nan)
    if measure.discrete:
        points = np.floor(points)
        points = np.where((points >= measure.lower) & (points <= measure.upper), points, np.nan)
    else:
        beside = np.repeat(measure.beside_edges[:, None], points.shape[1], axis=1)
        points = np.concatenate([points, beside])
        points = np.where((points > measure.lower) & (points < measure.upper), points, np.nan)
    return _distinct(points)


def _cells(
    location: np.ndarray, width: np.ndarray, used: np.ndarray, step: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return locations and units (cell, obs), each pair once, of locations and widths (n, obs).

    The unit is the greatest power of two times ``step`` that is at most ``step`` widths.
    """
    unit = step * np.exp2(np.floor(np.log2(width)))
    with np.errstate(over="ignore", invalid="ignore"):
        centre = np.round(location / unit) * unit
    centre = np.where(used & np.isfinite(centre), centre, np.nan)
    order = np.lexsort((unit, centre), axis=0)
    centre, unit = np.take_along_axis(centre, order, 0), np.take_along_axis(unit, order, 0)
    repeated = (centre[1:] == centre[:-1]) & (unit[1:] == unit[:-1])
    centre[1:][repeated] = np.nan
    kept = np.argsort(np.isnan(centre), axis=0, kind="stable")
    most = max(int((~np.isnan(centre)).sum(axis=0).max(initial=0)), 1)
    kept = kept[:most]
    if most > MOST_CELLS:
        kept = kept[np.linspace(0, most - 1, MOST_CELLS).astype(int)]
    return np.take_along_axis(centre, kept, 0), np.take_along_axis(unit, kept, 0)


def _distinct(points: np.ndarray) -> np.ndarray:
    """Return the different numbers of each column in increasing order, then NaN."""
    points = np.sort(points, axis=0)
    points[1:][points[1:] == points[:-1]] = np.nan
    points = np.sort(points, axis=0)
    return points[: max(int((~np.isnan(points)).sum(axis=0).max(initial=0)), 1)]

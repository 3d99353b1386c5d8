"""Scores of predicted classes: log loss, Brier, accuracy, calibration, and which are confused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.core.checks import as_numbers, is_number, is_whole
from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.data.class_labels import Levels
from bayes_moe.prediction.chunked_mixture import mixtures_on
from bayes_moe.prediction.class_quantities import (
    class_labels,
    log_class_probabilities,
    probability_inside,
)
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import pandas as pd


MOST_BINS = 10_000


@dataclass(frozen=True)
class ScoredRows:
    """Predictive probabilities of rows whose classes are known.

    ``log_probabilities`` is (obs, class), ``codes`` (obs,) and ``labels`` (class,).
    """

    log_probabilities: np.ndarray
    codes: np.ndarray
    labels: Levels

    @property
    def probabilities(self) -> np.ndarray:
        """Predictive probabilities (obs, class)."""
        return np.exp(self.log_probabilities)

    @property
    def observed(self) -> np.ndarray:
        """One for each row's own class, else zero (obs, class)."""
        return np.eye(len(self.labels))[self.codes]

    @property
    def predicted(self) -> np.ndarray:
        """Codes (obs,) of the most probable classes."""
        return self.log_probabilities.argmax(axis=1)


def class_scores(fit: Fit, rows: Any = None, *, bins: int | Iterable[float] = 10) -> pd.DataFrame:
    r"""Return scores of the predicted classes of rows whose classes are known.

    With ``p_ic`` the predictive probability of class ``c`` for row ``i``, the mean over the
    posterior draws, and ``y_i`` its class:

    * ``log_loss``, the mean of ``-log p_i,y_i``, in nats;
    * ``brier``, the mean of ``sum_c (p_ic - 1[y_i = c])^2``, between 0 and 2: of two classes it is
      twice the mean of ``(p_i - y_i)^2``, which others report;
    * ``accuracy``, the share of rows whose most probable class is their own;
    * ``calibration_error``, the expected calibration error: rows are divided into bins by their
      largest probability, and the absolute difference of its mean and the accuracy in a bin is
      averaged over the rows.

    Parameters
    ----------
    fit : Fit
        A fit whose response is a class.
    rows : table, optional
        Rows with features and response, best others than those fitted; None means the fitted rows,
        whose scores are too good.
    bins : int or sequence of float
        Number of equally wide bins of the calibration error, or their edges from 0 to 1.

    Returns
    -------
    pandas.DataFrame
        By score: ``value``, and ``se``, the standard error of the mean over rows (NaN for the
        calibration error).

    Raises
    ------
    DataError
        For classes that the fit does not have, and rows that cannot be predicted.
    SpecError
        For a fit whose response is no class, and bins that cannot be.

    References
    ----------
    Brier, G. W. (1950). Verification of forecasts expressed in terms of probability. Monthly
    Weather Review, 78(1), 1-3.

    Guo, C., Pleiss, G., Sun, Y., & Weinberger, K. Q. (2017). On calibration of modern neural
    networks. ICML.
    """
    import pandas as pd

    edges, scored = bin_edges(bins), scored_rows(fit, rows)
    hit = (scored.predicted == scored.codes).astype(float)
    loss = -np.take_along_axis(scored.log_probabilities, scored.codes[:, None], axis=1)[:, 0]
    by_row = {
        "log_loss": loss,
        "brier": ((scored.probabilities - scored.observed) ** 2).sum(axis=1),
        "accuracy": hit,
    }
    n = len(hit)
    values = {name: each.mean() for name, each in by_row.items()}
    errors = {
        name: each.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan for name, each in by_row.items()
    }
    confidence = scored.probabilities.max(axis=1)
    sums = binned(confidence, edges, confidence - hit)
    values["calibration_error"] = np.abs(sums).sum() / n
    return pd.DataFrame({"value": values, "se": errors}, index=list(values))


def confusion_matrix(fit: Fit, rows: Any = None) -> pd.DataFrame:
    """Return how many rows of each class are predicted to be of each class.

    Parameters
    ----------
    fit : Fit
        A fit whose response is a class.
    rows : table, optional
        Rows with features and response; None means the fitted rows.

    Returns
    -------
    pandas.DataFrame
        Counts: a line for each observed class, a column for each predicted one, the most probable.
    """
    import pandas as pd

    scored = scored_rows(fit, rows)
    count = len(scored.labels)
    cells = np.bincount(scored.codes * count + scored.predicted, minlength=count * count)
    lines = pd.Index(scored.labels, name="observed")
    columns = pd.Index(scored.labels, name="predicted")
    return pd.DataFrame(cells.reshape(count, count), lines, columns)


def reliability(
    fit: Fit,
    rows: Any = None,
    *,
    bins: int | Iterable[float] = 10,
    ci_prob: float | None = None,
    classes: Iterable[Any] | None = None,
) -> pd.DataFrame:
    """Return how often classes occur where their predictive probability is within a bin.

    Parameters
    ----------
    fit : Fit
        A fit whose response is a class.
    rows : table, optional
        Rows with features and response, best others than those fitted; None means the fitted rows.
    bins : int or sequence of float
        Number of equally wide bins, or their edges from 0 to 1.
    ci_prob : float, optional
        Probability of the intervals; by default ArviZ's ``rcParams["stats.ci_prob"]``.
    classes : sequence of label, optional
        The classes; by default all, of two only the second.

    Returns
    -------
    pandas.DataFrame
        A line for each class and bin with rows:
        ``class``, ``low`` and ``high`` of the bin, ``rows`` in it, ``predicted``, their mean
        probability, ``observed``, their share of the class, and ``lower`` and ``upper`` of the
        equal-tailed Jeffreys interval of that share, which is closed at 0 and 1 where no or all
        rows are of the class.

    References
    ----------
    Brown, L. D., Cai, T. T., & DasGupta, A. (2001). Interval estimation for a binomial proportion.
    Statistical Science, 16(2), 101-133.
    """
    import pandas as pd

    edges, inside = bin_edges(bins), probability_inside(ci_prob)
    scored = scored_rows(fit, rows)
    tables = []
    for code in _chosen(scored.labels, classes):
        p, own = scored.probabilities[:, code], scored.observed[:, code]
        count, total, hits = (binned(p, edges, v) for v in (np.ones_like(p), p, own))
        used = count > 0
        count, hits = count[used], hits[used]
        lower, upper = proportion_interval(hits, count, inside)
        columns = {
            "class": [scored.labels[code]] * len(count),
            "low": edges[:-1][used],
            "high": edges[1:][used],
            "rows": count.astype(int),
            "predicted": total[used] / count,
            "observed": hits / count,
            "lower": lower,
            "upper": upper,
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def _chosen(labels: Levels, classes: Iterable[Any] | None) -> list[int]:
    """Codes of the classes that a user names; by default all, of two the second."""
    if classes is None:
        return [1] if len(labels) == 2 else list(range(len(labels)))
    wanted = [classes] if isinstance(classes, str) else list(classes)
    for label in wanted:
        if label not in labels:
            raise SpecError(unknown("class", label, labels))
    if not wanted:
        raise SpecError("`classes` must name at least one class.")
    return [labels.index(label) for label in dict.fromkeys(wanted)]


def scored_rows(fit: Fit, rows: Any = None) -> ScoredRows:
    """Predictive probabilities of rows whose classes are known; None means the fitted rows."""
    labels = class_labels(fit)
    mixtures = mixtures_on(fit, rows, with_response=True, given_effects=True)
    if not mixtures.rows.size:
        raise SpecError("The table has no rows: there is nothing to score.")
    values = mixtures.map(
        lambda m, _: (
            (
                NUMERIC.logsumexp(log_class_probabilities(m, len(labels)), axis=0)
                - np.log(len(m.log_weights))
            ).T
        )
    )
    return ScoredRows(values, mixtures.rows.observed.astype(int), labels)


def bin_edges(bins: Any) -> np.ndarray:
    """Edges (bin + 1,) of bins of probabilities.

    Raises
    ------
    SpecError
        Unless they are a number of bins from 1, or increase from 0 to 1.
    """
    if is_whole(bins) and 1 <= bins <= MOST_BINS:
        return np.linspace(0, 1, int(bins) + 1)
    edges = np.array([]) if is_number(bins) else as_numbers("bins", bins)
    is_row = edges.ndim == 1 and len(edges) > 1
    if not is_row or edges[0] != 0 or edges[-1] != 1 or not (np.diff(edges) > 0).all():
        raise SpecError(
            f"`bins` must be a number of bins from 1 to {MOST_BINS}, or edges that increase from 0 "
            f"to 1; it is {bins!r:.100}."
        )
    return edges


def binned(p: np.ndarray, edges: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sums (bin,) of values (obs,) whose ``p`` lies in a bin, its lower edge included."""
    which = np.digitize(p, edges[1:-1])
    return np.bincount(which, values, minlength=len(edges) - 1)


def proportion_interval(
    hits: np.ndarray, count: np.ndarray, inside: float
) -> tuple[np.ndarray, np.ndarray]:
    """Ends (bin,) of the Jeffreys interval of a proportion, closed at 0 and 1."""
    tail = (1 - inside) / 2
    a, b = hits + 0.5, count - hits + 0.5
    lower = np.where(hits == 0, 0.0, special.betaincinv(a, b, tail))
    upper = np.where(hits == count, 1.0, special.betaincinv(a, b, 1 - tail))
    return lower, upper

"""Rows that an expert is most responsible for, with their texts and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_whole
from bayes_moe.core.errors import DataError
from bayes_moe.model.allocation import observed_responsibilities
from bayes_moe.prediction.chunked_mixture import mixtures_on
from bayes_moe.prediction.class_quantities import as_array, class_labels, has_classes
from bayes_moe.prediction.predict import predict
from bayes_moe.prediction.predictive import Predictive
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import pandas as pd


def example_rows(fit: Fit, texts: Sequence[Any], n: int = 3, rows: Any = None) -> pd.DataFrame:
    r"""Return the rows with the highest posterior probability of each expert.

    The weight of row ``i`` is the mean over the draws of
    ``w_k(x_i) f_k(y_i | x_i) / sum_j w_j(x_i) f_j(y_i | x_i)``: the gate's weight updated by the
    response (:func:`bayes_moe.responsibilities`).

    Parameters
    ----------
    fit : Fit
        A fit of one response.
    texts : sequence
        The texts, one a row, or anything else to show of the rows.
    n : int
        Rows of each expert.
    rows : table, optional
        Rows with features and response that the texts belong to; None means the fitted rows.

    Returns
    -------
    pandas.DataFrame
        By ``expert``, the highest weight first: ``row`` (position from 0), ``weight``, the
        ``response``, the ``prediction`` of all experts together, ``expert_prediction`` of the
        expert alone, and the ``text``. Predictions are predictive means; of two classes the
        probability of the second, and of more classes the most probable one.

    Raises
    ------
    DataError
        If there are not as many texts as rows.
    SpecError
        If ``n`` is no positive whole number, or the fit has several responses.
    """
    import pandas as pd

    check_whole("n", n, 1)
    fit.one_response("bm.text.example_rows")
    mixtures = mixtures_on(fit, rows, with_response=True)
    weight = mixtures.summarise(observed_responsibilities, draws=False)
    by_expert = weight.transpose(names.EXPERT, ...).values
    texts = list(texts)
    if len(texts) != by_expert.shape[1]:
        raise DataError(
            f"There are {len(texts)} texts and {by_expert.shape[1]} rows: give one text a row, in "
            "the same order (of fitted rows, without those that were left out for missing values)."
        )
    response = np.asarray(mixtures.rows.observed)
    if has_classes(fit):
        response = as_array(class_labels(fit))[response.astype(int)]
    together, alone = _predictions(fit, rows)
    parts = []
    for k, expert in enumerate(weight[names.EXPERT].values):
        top = np.argsort(-by_expert[k], kind="stable")[:n]
        columns = {
            "expert": expert,
            "row": top,
            "weight": by_expert[k, top],
            "response": response[top],
            "prediction": together[top],
            "expert_prediction": alone[k, top],
            "text": [texts[i] for i in top],
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def _predictions(fit: Fit, rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """Predictions (obs,) of all experts together, and (expert, obs) of each alone."""
    shown = cast("Predictive", predict(fit, rows))  # the fit has one response
    if not has_classes(fit):
        means = shown.expert_means().transpose(names.EXPERT, ...)
        return shown.mean().values, means.values
    labels = as_array(class_labels(fit))
    together = shown.probabilities().transpose(..., names.CLASS).values
    alone = shown.expert_probabilities().transpose(names.EXPERT, ..., names.CLASS).values
    if len(labels) == 2:
        return together[..., 1], alone[..., 1]
    return labels[together.argmax(axis=-1)], labels[alone.argmax(axis=-1)]

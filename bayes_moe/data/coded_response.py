"""The response of a table with codes: of classes in place of their labels, of a status of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.data.censored_response import Limits
from bayes_moe.data.class_labels import Levels, ResponseRule, codes
from bayes_moe.data.design_checks import check_response
from bayes_moe.data.responses import response_parts

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class CodedResponse:
    """A response and the columns that it is made of; of classes the column holds their codes.

    ``sums`` are stems of formulas that may have the response in them, ``limits`` what is known of
    a censored or truncated response.
    """

    term: str
    columns: pd.DataFrame
    levels: Levels | None = None
    sums: tuple[str, ...] = ()
    limits: Limits | None = None

    def check(self, formulas: Mapping[str, str], columns: pd.DataFrame) -> None:
        """Raise :class:`SpecError` for a response that is a function of the features."""
        features = {s: f for s, f in formulas.items() if s not in self.sums}
        check_response(self.term, features, columns)

    @classmethod
    def read(
        cls, columns: pd.DataFrame, obs_id: np.ndarray, rule: ResponseRule, limits: Limits | None
    ) -> CodedResponse:
        """Response of a table, with the classes that are in its rows ``obs_id`` (obs,)."""
        if limits is not None:
            return cls(rule.response, limits.coded(columns, obs_id), limits=limits)
        column = rule.label_column(columns) if rule.response else None
        if column is None:
            sums = rule.counts if len(response_parts(rule.response)) > 1 else ()
            return cls(rule.response, columns, sums=sums)
        labels = columns[column]
        levels = rule.levels(column, labels, obs_id)
        coded = columns.assign(**{column: codes(column, labels, levels, obs_id)})
        return cls(rule.response, coded, levels)

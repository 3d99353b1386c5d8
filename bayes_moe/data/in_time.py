"""What a design knows of time: terms that look back, the step of time, and the rows lost to lags."""

from __future__ import annotations

from bayes_moe.data.past_rows import PastRows
from bayes_moe.data.time_steps import Step
from bayes_moe.data.time_terms import TimeTerm


class InTime:
    """Rows in time, of a design that has ``past``."""

    past: PastRows

    @property
    def time_terms(self) -> tuple[TimeTerm, ...]:
        """Terms that look at rows before, such as ``lag(y, 1)``."""
        return self.past.terms

    @property
    def step(self) -> Step | None:
        """Regular step of time that all series have; None if there is none."""
        line = self.past.timeline
        return None if line is None else line.step

    @property
    def n_lost(self) -> int:
        """First rows of series that are left out, since they have too few rows before."""
        return sum(self.past.lost.values())

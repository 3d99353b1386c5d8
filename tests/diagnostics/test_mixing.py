"""R-hat and effective sample sizes of many quantities at once, against ArviZ."""

import numpy as np
import pytest
from arviz_stats.base import array_stats

from bayes_moe.diagnostics.mixing import TAIL, mixing


def series(kind: str, chains: int, draws: int) -> np.ndarray:
    """A quantity (chain, draw)."""
    rng = np.random.default_rng([chains, draws])
    noise = rng.standard_normal((chains, draws))
    if kind == "independent":
        return noise
    if kind in ("slow", "alternating"):
        values, kept = noise.copy(), 0.95 if kind == "slow" else -0.7
        for t in range(1, draws):
            values[:, t] += kept * values[:, t - 1]
        return values
    if kind == "trend":
        return noise + np.linspace(0, 5, draws)
    if kind == "counts":
        return rng.poisson(0.7, (chains, draws)).astype(float)
    if kind == "apart":
        return noise + 3.0 * np.arange(chains)[:, None]
    if kind == "wide":
        return noise * (1.0 + np.arange(chains))[:, None]
    if kind == "long tails":
        return rng.standard_cauchy((chains, draws))
    assert kind == "constant"
    return np.full((chains, draws), 2.5)


KINDS = [
    *("independent", "slow", "alternating", "trend", "counts"),
    *("apart", "wide", "long tails", "constant"),
]


@pytest.mark.filterwarnings("ignore:(invalid|divide by zero):RuntimeWarning")
@pytest.mark.parametrize("draws", [4, 5, 6, 7, 8, 9, 11, 50, 201, 600])
@pytest.mark.parametrize("chains", [1, 2, 4])
def test_figures_are_those_of_arviz(chains: int, draws: int) -> None:
    values = np.stack([series(kind, chains, draws) for kind in KINDS])
    found = mixing(values)
    axes = {"chain_axis": 0, "draw_axis": 1}
    expected = {
        "rhat": [array_stats.rhat(v, **axes) for v in values],
        "ess_bulk": [array_stats.ess(v, method="bulk", **axes) for v in values],
        "ess_tail": [
            array_stats.ess(v, method="tail", prob=(TAIL, 1 - TAIL), **axes) for v in values
        ],
    }
    for name, figures in expected.items():
        np.testing.assert_allclose(getattr(found, name), figures, rtol=1e-9, err_msg=name)


def test_quantities_with_gaps_are_unknown_and_the_others_are_not() -> None:
    values = np.random.default_rng(1).standard_normal((3, 4, 100))
    whole = mixing(values)
    values[1, 2, 7] = np.nan
    found = mixing(values)
    for name in ("rhat", "ess_bulk", "ess_tail"):
        figures = getattr(found, name)
        assert np.isnan(figures[1]), name
        np.testing.assert_array_equal(figures[[0, 2]], getattr(whole, name)[[0, 2]])


def test_three_draws_say_nothing() -> None:
    found = mixing(np.random.default_rng(1).standard_normal((2, 4, 3)))
    assert np.isnan([found.rhat, found.ess_bulk, found.ess_tail]).all()

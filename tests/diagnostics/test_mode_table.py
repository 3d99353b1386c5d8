"""The table of modes as printed, and the chance of a new mode in files and in diagnoses."""

import warnings

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.core import names
from bayes_moe.diagnostics.mode import LARGE_CHANCE, optimum
from bayes_moe.results.fit_checks import check_tree


@pytest.fixture(scope="module")
def fit(tone):
    spec = bm.mixture_of_experts("tuned ~ stretchratio", experts=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bm.ConvergenceWarning)
        return bm.fit(spec, tone, method="em", restarts=9, moves=2, random_seed=1)


def expected(fit):
    """The share of starts alone in a mode that is not singular, from the table itself."""
    table = bm.modes(fit)
    return ((table["hits"] == 1) & ~table["singular"]).sum() / table["hits"].sum()


def test_the_chance_is_printed_and_kept(fit, tmp_path):
    table = bm.modes(fit)
    chance = expected(fit)
    assert 0 < chance < 1
    assert table.attrs == {"new_mode_chance": chance, "finished": 9}
    sentence = f"{chance:.0%} (of 9 starts that ran to the end, {round(9 * chance)} are alone"
    assert sentence in repr(table)
    assert sentence in table._repr_html_()
    assert type(table[["hits"]]) is pd.DataFrame
    assert bm.diagnose(fit).table.loc["chance of a new mode", "value"] == f"{chance:.0%}"
    back = bm.load(bm.save(fit, tmp_path / "fit.nc"))
    assert repr(bm.modes(back)) == repr(table)


def test_a_fit_of_an_earlier_version_has_no_chance(fit):
    tree = fit.idata.copy()
    for name in ("finished", "new_mode_chance"):
        del tree[names.MODES].attrs[name]
    check_tree(tree, fit.spec, fit.design)
    earlier = type(fit)(fit.spec, fit.design, tree)
    assert "Chance" not in repr(bm.modes(earlier))
    assert optimum(tree).finished == 9
    assert "chance of a new mode" not in bm.diagnose(earlier).table.index


@pytest.mark.parametrize(
    ("name", "value"),
    [("new_mode_chance", 1.5), ("new_mode_chance", "half"), ("finished", 0), ("finished", np.nan)],
)
def test_figures_that_cannot_be_are_refused(fit, name, value):
    tree = fit.idata.copy()
    tree[names.MODES].attrs[name] = value
    with pytest.raises(ValueError, match=name):
        check_tree(tree, fit.spec, fit.design)


def test_one_start_says_nothing_of_others(tone, tone_spec):
    fit = bm.fit(tone_spec, tone, method="em", restarts=1, random_seed=1)
    assert bm.modes(fit)["hits"].tolist() == [1]
    assert "new_mode_chance" not in bm.modes(fit).attrs


@pytest.mark.parametrize("chance", [0.1, LARGE_CHANCE, 0.9])
@pytest.mark.parametrize("hits", [0, 1, 5])
def test_a_large_chance_is_named(fit, hits, chance):
    tree = fit.idata.copy(deep=True)
    tree[names.MODES].attrs["new_mode_chance"] = chance
    tree[names.MODES][names.HITS][tree[names.MODES].attrs[names.BEST]] = hits
    problems = " ".join(optimum(tree).problems)
    assert ("a new mode is" in problems) == (chance >= LARGE_CHANCE)
    assert ("Raise restarts" in problems) == (chance >= LARGE_CHANCE or hits < 2)
    assert ("a move did" in problems) == (hits == 0)

"""Arguments that cannot be: one class of error, which names the argument."""

import numpy as np
import pytest

import bayes_moe as bm
from tests.support.fits import fake_fit, parallel_lines

WRONG = [
    ("quantile", (-1,), {}, "`p`"),
    ("quantile", (0,), {}, "`p`"),
    ("quantile", (1.0,), {}, "`p`"),
    ("quantile", (np.nan,), {}, "`p`"),
    ("quantile", ([],), {}, "`p`"),
    ("quantile", ([0.1, 2.0],), {}, "`p`"),
    ("quantile", ([[0.1]],), {}, "`p`"),
    ("quantile", ("0.5",), {}, "`p`"),
    ("quantile", (None,), {}, "`p`"),
    ("quantile", (True,), {}, "`p`"),
    ("interval", (1.5,), {}, "`ci_prob`"),
    ("interval", (90,), {}, "`ci_prob`"),
    ("interval", ("a",), {}, "`ci_prob`"),
    ("interval", ([0.5, 0.9],), {}, "`ci_prob`"),
    ("hdr", (0,), {}, "`prob`"),
    ("hdr", (90,), {}, "`prob`"),
    ("hdr", ("a",), {}, "`prob`"),
    *[
        (method, (bad,), {}, "`y`")
        for method in ("pdf", "logpdf", "cdf")
        for bad in ("a", ["a", "b"], [1.0, 2.0], [[1.0]], None, object(), [[1.0], [2.0, 3.0]])
    ],
    ("cdf", ([[1.0, 2.0]],), {"grid": True}, "`y`"),
    ("sample", (-1,), {}, "`size`"),
    ("sample", (0,), {}, "`size`"),
    ("sample", (2.5,), {}, "`size`"),
    ("sample", ("3",), {}, "`size`"),
    ("sample", (), {"random_seed": -1}, "`random_seed`"),
    ("modes", (), {"most": 0}, "`most`"),
    ("modes", (), {"prominence": -0.1}, "`prominence`"),
    ("modes", (), {"min_probability": 1}, "`min_probability`"),
]


@pytest.fixture(scope="module")
def predictive():
    spec, table, truth = parallel_lines(2, n=30)
    return bm.predict(fake_fit(spec, table, truth, chains=1, draws=3))


@pytest.mark.parametrize(("method", "args", "settings", "named"), WRONG)
def test_wrong_arguments_are_named(predictive, method, args, settings, named):
    with pytest.raises(bm.SpecError, match=named):
        getattr(predictive, method)(*args, **settings)


def test_the_view_of_a_notebook_has_the_first_rows(predictive):
    view = predictive._repr_html_()
    assert view.count("<tr>") == 6
    assert "Predictive of &#x27;y&#x27; for 30 rows" in view
    assert f"{predictive.mean().values[0]:.4g}" in view
    assert f"{predictive.interval(0.9).values[4, 1]:.4g}" in view

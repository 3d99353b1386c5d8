"""Modes of the predictive density, against densities whose modes are known."""

import numpy as np
import pytest
from scipy import stats

import bayes_moe as bm

WEIGHTS = {2: [0.6, 0.4], 3: [0.5, 0.3, 0.2]}


def fit_of(family="normal", locations=(-2.0, 0.0, 3.0), sd=0.3, n=400, **own):
    rng = np.random.default_rng(0)
    which = rng.choice(len(locations), n, p=WEIGHTS[len(locations)])
    centre = np.array(locations)[which]
    y = rng.poisson(centre) if family == "poisson" else centre + sd * rng.standard_normal(n)
    spec = bm.mixture_of_experts("y ~ 1", gate="~ 1", experts=len(locations), family=family, **own)
    return bm.fit(spec, {"y": y}, "em", random_seed=1), y


def test_modes_are_the_components_that_stand_apart():
    fit, _ = fit_of()
    rows = {"x": [0.0, 1.0]}
    found = bm.predict(fit, rows).modes(most=4)
    assert found["n_modes"].values.tolist() == [3, 3]
    posterior = fit.idata["posterior"]
    centres = posterior["mu_coef"].values[0, 0, :, 0]
    weights = bm.predict(fit, rows).weights().values[0]
    order = np.argsort(-weights)
    np.testing.assert_allclose(found["location"].values[0, :3], centres[order], atol=0.01)
    np.testing.assert_allclose(found["probability"].values[0, :3], weights[order], atol=0.01)
    assert np.isnan(found["location"].values[:, 3]).all()
    density = bm.predict(fit, rows).pdf(found["location"].values[:, 0]).values
    np.testing.assert_allclose(found["density"].values[:, 0], density, rtol=1e-3)


def test_a_shoulder_is_no_mode():
    fit, _ = fit_of(locations=(0.0, 0.6), sd=0.4)
    found = bm.predict(fit, {"x": [0.0]}).modes()
    assert found["n_modes"].item() == 1
    assert found["probability"].values[0, 0] == pytest.approx(1)


def test_modes_of_whole_numbers():
    fit, _ = fit_of("poisson", locations=(2.0, 40.0))
    found = bm.predict(fit, {"x": [0.0]}).modes(most=2)
    mu = np.exp(fit.idata["posterior"]["mu_coef"].values[0, 0, :, 0])
    tops = [int(np.argmax(stats.poisson.pmf(np.arange(100), m))) for m in mu]
    assert sorted(found["location"].values[0]) == sorted(tops)
    assert found["probability"].values.sum() == pytest.approx(1)


@pytest.mark.parametrize("settings", [{"most": 0}, {"prominence": 2.0}, {"prominence": True}])
def test_settings_that_cannot_be(settings):
    fit, _ = fit_of(locations=(0.0, 3.0))
    with pytest.raises(bm.SpecError):
        bm.predict(fit, {"x": [0.0]}).modes(**settings)

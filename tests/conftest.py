"""Fits that several tests read, made once a session."""

import os

# Most graphs of tests are evaluated a few times: where no mode is named they run in Python, which
# is ready in tenths of a second. The package's own compiling, and nutpie's, name their modes.
os.environ.setdefault("PYTENSOR_FLAGS", "linker=py,optimizer=fast_compile")

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm

pytest.register_assert_rewrite("tests.support")


@pytest.fixture(scope="session")
def tone():
    return bm.load_dataset("tone")


@pytest.fixture(scope="session")
def tone_spec():
    return bm.mixture_of_experts("tuned ~ stretchratio", gate="~ stretchratio", experts=2)


@pytest.fixture(scope="session")
def tone_fit(tone_spec, tone):
    """The README's fit: four chains by nutpie with default settings."""
    return bm.fit(tone_spec, tone, random_seed=1, progressbar=False)


@pytest.fixture(scope="session")
def planted():
    """Two crossing lines with unequal noise: spec, table to fit, table to predict, parameters.

    The table to fit is long, so that what is left of the error is that of 1000 new rows.
    """
    rng = np.random.default_rng(11)
    spec = bm.mixture_of_experts("y ~ x", experts=2, sigma="~ x")
    truth = {
        "gate_coef": np.array([[0.0, -1.0], [0.0, 1.0]]),
        "mu_coef": np.array([[0.0, -1.0], [1.0, 1.5]]),
        "sigma_coef": np.array([[-1.0, 0.2], [-0.5, -0.2]]),
    }
    train = pd.DataFrame({"x": rng.uniform(-2, 2, 3000)})
    test = pd.DataFrame({"x": rng.uniform(-2, 2, 1000)})
    return (
        spec,
        bm.simulate(spec, train, truth, random_seed=1),
        bm.simulate(spec, test, truth, random_seed=2),
        truth,
    )

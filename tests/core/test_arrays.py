"""One namespace of functions over NumPy and PyTensor."""

import numpy as np
import pytest

from bayes_moe.core.arrays import NUMERIC, symbolic


@pytest.mark.parametrize("name", ["softplus", "tanh", "sigmoid"])
def test_both_namespaces_agree_far_out(name):
    x = np.array([-800.0, -30.0, -1e-9, 0.0, 0.7, 30.0, 800.0])
    theirs = getattr(symbolic(), name)(x).eval(mode="FAST_COMPILE")
    np.testing.assert_allclose(getattr(NUMERIC, name)(x), theirs, rtol=1e-14)

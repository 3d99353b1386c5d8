"""L-BFGS and Newton steps on a log density."""

import numpy as np
import pytest

from bayes_moe.optimize.lbfgs import LBFGSResult, newton_polish


class Quadratic:
    """Log density ``-|scale (x - mode)|^2 / 2 + height``, as a surface of few methods."""

    def __init__(self, scale, height=0.0, sign=-1.0):
        self.scale, self.height, self.sign = np.asarray(scale), height, sign
        self.mode = np.full(len(self.scale), 1 / 3)

    def affordable(self, size):
        return True

    def __call__(self, x):
        z = self.scale * (x - self.mode)
        return self.height + 0.5 * self.sign * float(z @ z), self.sign * self.scale * z

    def covariance(self, x):
        return np.diag(1 / self.scale**2) if self.sign < 0 else None


def run_from(x):
    return LBFGSResult(np.asarray(x), 0.0, np.inf, 3, False, False, [0.0])


@pytest.mark.parametrize("scale", [1.0, 1e4, 1e7, 1e9])
def test_a_mode_is_one_whatever_the_scale_of_its_coordinates(scale):
    """The gradient there is a rounding error of the coordinate, times its squared scale."""
    surface = Quadratic([scale, 1.0])
    polished = newton_polish(surface, run_from([1.0, 0.0]))
    np.testing.assert_allclose(polished.x, surface.mode, rtol=1e-12)
    assert polished.converged


def test_a_point_that_is_no_maximum_has_not_converged():
    assert not newton_polish(Quadratic([1.0, 2.0], sign=1.0), run_from([1.0, 0.0])).converged
    assert not newton_polish(Quadratic([1.0]), run_from([1.0]), newton_steps=0).converged


def test_a_step_that_would_gain_has_not_converged():
    """One Newton step that is too long: the value falls."""

    class Steep(Quadratic):
        def covariance(self, x):
            return 5 * super().covariance(x)

    assert not newton_polish(Steep([1.0, 2.0]), run_from([1.0, 0.0])).converged

"""The point mass: a family without parameters."""

import numpy as np
import pytest

import bayes_moe as bm
from bayes_moe import families
from bayes_moe.core.arrays import NUMERIC, symbolic
from bayes_moe.families.point_mass import PointMass

Y = np.array([-1.0, 0.0, 2.5, 3.0])
PARAMS = {"at": np.full((2, 1), 2.5)}


def test_its_distribution():
    family = PointMass(2.5)
    expected = np.where(Y == 2.5, 0.0, -np.inf) * np.ones((2, 1))
    np.testing.assert_array_equal(family.log_density(Y, PARAMS, NUMERIC), expected)
    tensor = family.log_density(Y, PARAMS, symbolic()).eval(mode="FAST_COMPILE")
    np.testing.assert_array_equal(np.broadcast_to(tensor, expected.shape), expected)
    np.testing.assert_array_equal(family.cdf(Y, PARAMS), (Y >= 2.5) * np.ones((2, 1)))
    np.testing.assert_array_equal(family.sf(Y, PARAMS), (Y < 2.5) * np.ones((2, 1)))
    assert family.mean(PARAMS).tolist() == family.location(PARAMS).tolist() == [[2.5], [2.5]]
    assert not family.variance(PARAMS).any()
    assert (family.random(PARAMS, np.random.default_rng(0), (3, 2, 4)) == 2.5).all()
    assert np.isfinite(family.scale(PARAMS)).all()
    assert (family.scale(PARAMS) > 0).all()


def test_it_has_no_parameters_and_a_score_of_zero():
    family = PointMass(2.5)
    assert family.parameters == ()
    found = family.derivatives(Y, PARAMS)
    assert not np.any(found.score)
    assert not np.any(found.second)
    assert family.named(family.etas(PARAMS, NUMERIC), {}, NUMERIC) == {"at": 2.5}


def test_its_description():
    assert families.by_name("pointmass") == PointMass(0) == PointMass(-0.0)
    assert families.made(PointMass(3).to_dict()) == PointMass(3.0)
    assert PointMass().to_dict() == "pointmass"
    for wrong in (np.nan, np.inf, "0", True):
        with pytest.raises(bm.SpecError, match="`at`"):
            PointMass(wrong)


@pytest.mark.parametrize("formula", ["y", "y ~ 1", "y ~ 0", "y~1 "])
def test_formulas_without_features(formula):
    assert bm.Expert(formula, "pointmass") == bm.Expert("y ~ 1", PointMass())


def test_what_a_family_without_parameters_does_not_take():
    with pytest.raises(bm.SpecError, match=r"has no parameters.*'y ~ 1'.*gate"):
        bm.Expert("y ~ x", "pointmass")
    with pytest.raises(bm.SpecError, match="needs no predictor"):
        bm.Expert("y", "pointmass", predictor="spline")
    with pytest.raises(bm.SpecError, match="sigma"):
        bm.Expert("y", "pointmass", sigma="~ x")

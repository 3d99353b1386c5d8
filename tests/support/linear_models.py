"""Models whose predictors are all linear, of every family, and one table for all of them."""

import numpy as np
import pandas as pd

import bayes_moe as bm
from bayes_moe.gates import Gaussian, Softmax, StickBreaking, Tree
from tests.support.examples import FAMILIES

ROWS = 60


def table():
    """Two features, numbers of trials, and a response of every family, by its name."""
    rng = np.random.default_rng(0)
    x, z = rng.normal(5, 2, ROWS), rng.uniform(-1, 3, ROWS)
    y = np.where(z > 1, 1 + x, 8 - x) + rng.normal(0, 0.7, ROWS)
    n = rng.integers(2, 12, ROWS)
    count = rng.poisson(np.exp(0.2 * x))
    real = 30 + 4 * y
    responses = {name: example.response(real, count, n) for name, example in FAMILIES.items()}
    return pd.DataFrame({"x": x, "z": z, "n": n, **responses})


def plain(family, **more):
    """The model of a family whose response bears its name."""
    formula = more.pop("formula", f"{family} ~ x")
    return bm.mixture_of_experts(formula, family=family, **{"gate": "~ z", **more})


P = bm.Prior
MODELS = {
    f"{family}-{k}": plain(family, experts=k, **example.options)
    for family, example in FAMILIES.items()
    for k in (1, 2, 4)
} | {
    "sigma formula": plain("normal", experts=3, sigma="~ z"),
    "all formulas": plain("studentt", sigma="~ x", nu="~ z"),
    "constant gate": plain("normal", experts=3, gate="~ 1"),
    "no intercept": plain("normal", formula="normal ~ 0 + x + z", gate="~ 0 + z"),
    "no centring": plain("normal", center=False),
    "two kinds": bm.MixtureOfExperts(
        bm.gates.Softmax("~ x"),
        [
            bm.Expert("normal ~ x", name="line", sigma="~ z"),
            bm.Expert("normal ~ x + z", "studentt", name="curve"),
            bm.Expert("normal ~ x", name="line", sigma="~ z"),
        ],
    ),
    "normal gate prior": plain(
        "normal",
        experts=3,
        priors={
            "gate_coef": P("Normal", mu=[0.5, 0.1], sigma=1.5),
            "sigma": P("Gamma", alpha=2, beta=1),
        },
    ),
    "heavy priors": plain(
        "studentt",
        priors={
            "gate_coef": P("StudentT", nu=4, sigma=[1.0, 2.0]),
            "mu_coef": P("Cauchy", alpha=[30, 1], beta=[20, 5]),
            "sigma": P("HalfNormal", sigma=5),
            "nu": P("InverseGamma", alpha=2, beta=8),
        },
    ),
    "binary tree": plain("normal", experts=4, gate=Tree(branching=(2, 2), formula="~ z")),
    "deep tree of counts": plain("poisson", experts=6, gate=Tree([[0, [1, 2, 3]], [4, 5]])),
    "tree with own formulas": plain(
        "normal",
        experts=4,
        sigma="~ z",
        gate=Tree([[0, 1], [2, 3]], formula="~ z", formulas={"1": "~ x + z", "root": "~ 1"}),
    ),
    "tree of two kinds": bm.MixtureOfExperts(
        Tree([[0, 1], 2], formula="~ x"),
        [
            bm.Expert("normal ~ x", name="line", sigma="~ z"),
            bm.Expert("normal ~ x + z", "studentt", name="curve"),
            bm.Expert("normal ~ x", name="line", sigma="~ z"),
        ],
    ),
    "tree with a normal prior": plain(
        "normal",
        experts=3,
        gate=Tree([0, [1, 2]], formula="~ z", shrink=0.5),
        priors={"gate_coef": P("Normal", mu=[0.5, 0.1], sigma=1.5)},
    ),
    "sticks": plain("normal", experts=5, gate=StickBreaking("~ z")),
    "gaussian gate": plain("normal", experts=3, gate=Gaussian("~ x + z"), sigma="~ z"),
    "gaussian gate, two kinds": bm.MixtureOfExperts(
        Gaussian("~ z + x", covariance="diag"),
        [
            bm.Expert("normal ~ x", name="line", sigma="~ z"),
            bm.Expert("normal ~ x + z", "studentt", name="curve"),
            bm.Expert("normal ~ x", name="line", sigma="~ z"),
        ],
    ),
    "gaussian gate of counts": plain("poisson", experts=2, gate=Gaussian("~ log(x + 9)")),
    "a warm gate": plain("normal", experts=3, gate=Softmax("~ z", temperature=2.5)),
    "two responses": plain(
        "mvnormal", formula="cbind(normal, I(studentt + 5 * z * z)) ~ x", experts=2
    ),
    "three responses, own formulas": plain(
        "mvnormal",
        formula="cbind(normal, I(studentt + 5 * z * z), log(n)) ~ x",
        experts=3,
        mu_log_n="~ z",
        sigma_normal="~ z",
        rho_normal_log_n="~ x",
    ),
    "responses of two kinds": bm.MixtureOfExperts(
        Gaussian("~ z"),
        [
            bm.Expert("cbind(normal, log(n)) ~ x", "mvnormal", name="line"),
            bm.Expert("cbind(normal, log(n)) ~ 1", bm.families.MvNormal(lkj=2.0), name="level"),
        ],
    ),
    "offset of counts": plain("poisson", formula="poisson ~ x + offset(log(n))"),
    "offsets of constants": plain(
        "normal", formula="normal ~ 1 + offset(3 * x) + offset(z)", sigma="~ 1 + offset(0.3 * z)"
    ),
    "offset without intercept": plain("normal", formula="normal ~ 0 + x + offset(30 + z)"),
    "offsets of a gate": plain("normal", experts=3, gate="~ z + offset(x - 5, z, 0)", sigma="~ z"),
    "offsets of a warm gate": plain(
        "normal", gate=Softmax("~ 1 + offset(0.3 * x, z)", temperature=2.5)
    ),
    "offset of sticks": plain("gamma", experts=3, gate=StickBreaking("~ x + offset(0.5 * z)")),
    "offsets of a tree": plain(
        "normal",
        experts=4,
        gate=Tree(
            [[0, 1], [2, 3]],
            formula="~ z + offset(x / 5, z, 0, 0)",
            formulas={"1": "~ 1 + offset(0.2 * x, -0.1 * z)"},
        ),
    ),
    "offset of one of two responses": plain(
        "mvnormal",
        formula="cbind(normal, I(studentt + 5 * z * z)) ~ x",
        mu_normal="~ x + offset(2 * z)",
    ),
    "a kinked prior": plain("poisson", priors={"mu_coef": P("Laplace", mu=[1, 0], b=[2, 0.3])}),
}


def points(moving, count=3):
    """Points at which all experts matter."""
    theta = 0.4 * np.random.default_rng(1).standard_normal((count, moving.size))
    for slot in moving.blocks:
        if slot.scaling is None:
            scale = np.log(np.std(moving.design.plain_response))
            theta[:, slot.where] += {"scale": scale, "power": 0.0}.get(slot.role, 1.5)
    return theta

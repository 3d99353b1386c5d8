"""Models with shared and fixed parameters and with priors of single entries, and their table."""

import numpy as np
import pandas as pd

import bayes_moe as bm

ROWS = 150
P = bm.Prior


def table():
    """Two lines with one slope and one spread, whose intercepts differ by 3, and counts."""
    rng = np.random.default_rng(5)
    x, lower = rng.normal(2, 1, ROWS), rng.random(ROWS) < 0.6
    y = np.where(lower, -1.5, 1.5) + 2 * x + 0.5 * rng.standard_normal(ROWS)
    count = rng.poisson(np.exp(0.3 * x + np.where(lower, 0.0, 1.0)))
    grade = np.array(list("abc"))[np.clip(count, 0, 2)]
    return pd.DataFrame({"x": x, "y": y, "count": count, "grade": grade})


def plain(**more):
    """Two experts on a gate without features, if nothing else is said."""
    return bm.mixture_of_experts(more.pop("formula", "y ~ x"), **{"gate": "~ 1", **more})


def two_kinds(**more):
    """A line and a curve of normal experts."""
    experts = [bm.Expert("y ~ x", name="line"), bm.Expert("y ~ x + I(x**2)", name="curve")]
    return bm.MixtureOfExperts(bm.gates.Softmax("~ x"), experts, **more)


MODELS = {
    "shared scale": plain(shared=("sigma",)),
    "shared slope": plain(shared=("mu_coef[x]",), gate="~ x"),
    "shared scale and slope": plain(shared=("sigma", "mu_coef[x]"), experts=3),
    "shared location": plain(shared=("mu_coef",), gate="~ x"),
    "shared scale formula": plain(sigma="~ x", shared=("sigma_coef[x]",)),
    "shared intercept": plain(shared=("mu_coef[Intercept]",), center=False),
    "fixed scale": plain(fixed={"sigma": 0.6}),
    "fixed scales": plain(fixed={"sigma": (0.4, 0.7)}),
    "fixed scale of one": plain(fixed={"sigma[1]": 0.4}, experts=3),
    "fixed slope": plain(fixed={"mu_coef[x]": 2.0}),
    "fixed slopes": plain(fixed={"mu_coef[x]": (1.9, 2.1)}),
    "fixed slope of one": plain(fixed={"mu_coef[0, x]": 0.0}),
    "fixed intercept of one": plain(fixed={"mu_coef[0, Intercept]": 1.0}),
    "fixed location of one": plain(fixed={"mu_coef[0]": (-1.5, 2.0)}),
    "fixed locations": plain(fixed={"mu_coef": ((-1.5, 2.0), (1.5, 2.0))}),
    "fixed weights": plain(fixed={"weights": (0.3, 0.7)}, shared=("sigma",)),
    "fixed gate slope": plain(fixed={"gate_coef[x]": 0.0}, gate="~ x"),
    "fixed gate slopes": plain(fixed={"gate_coef[x]": (0.5, -0.5)}, gate="~ x"),
    "fixed gate": plain(fixed={"gate_coef": ((0.5, -0.5), (0.0, 0.0))}, gate="~ x"),
    "weights of sticks": plain(
        fixed={"weights": (0.2, 0.3, 0.5)}, experts=3, gate=bm.gates.StickBreaking("~ 1")
    ),
    "weights of a tree": bm.hierarchical_mixture(
        "y ~ x", fixed={"weights": (0.1, 0.2, 0.3, 0.4)}, shared=("sigma",)
    ),
    "tree with a shared scale": bm.hierarchical_mixture("y ~ x", "~ x", shared=("sigma",)),
    "weights and spreads of features": plain(
        gate=bm.gates.Gaussian("~ x"), fixed={"weights": (0.4, 0.6)}, shared=("gate_x_sigma",)
    ),
    "fixed shape": plain(family="studentt", fixed={"nu": 4}, shared=("sigma",)),
    "counts with a shared slope": plain(
        formula="count ~ x", family="poisson", shared=("mu_coef[x]",)
    ),
    "classes with a shared slope": plain(
        formula="grade ~ x", family="categorical", levels=tuple("abc"), shared=("p_coef[x]",)
    ),
    "classes without a slope of one": plain(
        formula="grade ~ x", family="categorical", levels=tuple("abc"), fixed={"p_coef[1, x]": 0}
    ),
    "parts of classes": plain(
        formula="grade ~ x",
        family="categorical",
        levels=tuple("abc"),
        priors={
            "p_coef": P("Normal", sigma=2.0),
            "p_coef[b]": P("Normal", mu=[0.5, 0.0], sigma=1.5),
            "p_coef[b, 1, x]": P("StudentT", nu=4, mu=1.0, sigma=0.5),
        },
        shared=("p_coef[a, x]",),
        fixed={"p_coef[c, 0, x]": 0.5, "p_coef[c, 1]": 0.0},
    ),
    "one threshold": plain(
        formula="grade ~ x", family="orderedlogistic", levels=tuple("abc"), shared=("gap[b]",)
    ),
    "a held threshold": plain(
        formula="grade ~ x",
        family="orderedprobit",
        levels=tuple("abc"),
        fixed={"gap[b, 0]": 1.2},
        priors={"gap[b, 1]": P("Gamma", alpha=3, beta=2)},
    ),
    "prior of one scale": plain(priors={"sigma[1]": P("HalfNormal", sigma=0.3)}),
    "priors of parts": plain(
        priors={
            "mu_coef": P("Normal", mu=0, sigma=[9.0, 3.0]),
            "mu_coef[0]": P("Normal", mu=[-1.0, 2.0], sigma=1.0),
            "mu_coef[x]": P("StudentT", nu=4, mu=1.0, sigma=2.0),
            "mu_coef[1, x]": P("Normal", mu=2.0, sigma=0.1),
            "sigma": P("HalfNormal", sigma=1.0),
            "sigma[0]": P("LogNormal", mu=0.0, sigma=1.0),
        }
    ),
    "everything": plain(
        experts=3,
        fixed={"sigma[2]": 0.8, "weights": (0.25, 0.25, 0.5)},
        shared=("mu_coef[x]",),
        priors={
            "sigma[0]": P("Gamma", alpha=3, beta=4),
            "mu_coef[x]": P("Normal", mu=1, sigma=2),
        },
    ),
    "two kinds, one scale": two_kinds(shared=("sigma",)),
    "two kinds, one slope": two_kinds(shared=("mu_coef[x]", "sigma")),
    "two kinds, one fixed": two_kinds(fixed={"curve_mu_coef[x]": 2.0, "line_sigma": 0.5}),
}
"""Models by what is special about them."""

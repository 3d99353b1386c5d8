"""Names that other packages use, with this package's names for the same things."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SAME: dict[str, tuple[str, ...]] = {
    # families and distributions
    "gaussian": ("normal", "Normal"),
    "norm": ("normal", "Normal"),
    "t": ("studentt", "StudentT"),
    "student": ("studentt", "StudentT"),
    "student_t": ("studentt", "StudentT"),
    "logit": ("bernoulli", "softmax"),
    "binary": ("bernoulli",),
    "inverse_gaussian": ("inversegaussian",),
    "gennorm": ("generalisednormal",),
    "generalized_normal": ("generalisednormal",),
    "power_exponential": ("generalisednormal",),
    "skew_normal": ("skewnormal",),
    "skewnorm": ("skewnormal",),
    "invgamma": ("InverseGamma",),
    "negbinomial": ("negativebinomial",),
    "negbin": ("negativebinomial",),
    "nb": ("negativebinomial",),
    "nb2": ("negativebinomial",),
    "nbinom": ("negativebinomial",),
    "beta_binom": ("betabinomial",),
    "wald": ("inversegaussian",),
    "invgauss": ("inversegaussian",),
    "von_mises": ("vonmises",),
    "circular": ("vonmises",),
    "lnorm": ("lognormal",),
    "pareto": ("lomax",),
    "asymmetric_laplace": ("laplace",),
    "double_exponential": ("laplace",),
    "multiclass": ("categorical",),
    "nominal": ("categorical",),
    "ordinal": ("orderedlogistic",),
    "cumulative": ("orderedlogistic",),
    "ordered_logit": ("orderedlogistic",),
    "ordered_probit": ("orderedprobit",),
    "dirac": ("pointmass",),
    "dirac_delta": ("pointmass",),
    # parameters and arguments of distributions
    "mean": ("mu", "mu_coef"),
    "loc": ("mu", "alpha"),
    "location": ("mu",),
    "sd": ("sigma",),
    "std": ("sigma",),
    "stddev": ("sigma",),
    "scale": ("sigma", "beta", "b"),
    "dispersion": ("alpha", "sigma"),
    "df": ("nu",),
    "dof": ("nu",),
    "rate": ("lam", "beta"),
    "shape": ("alpha",),
    "n_trials": ("trials",),
    # arguments of recipes
    "k": ("experts", "components"),
    "n_experts": ("experts", "components"),
    "num_experts": ("experts", "components"),
    "components": ("experts",),
    "n_components": ("experts", "components"),
    "n_clusters": ("experts", "components"),
    "experts": ("components",),
    "concomitant": ("gate",),
    "gating": ("gate",),
    "prior_weights": ("gate",),
    "offset": ("exposure",),
    "layers": ("hidden",),
    "hidden_layers": ("hidden",),
    # methods and settings
    "mcmc": ("nuts",),
    "hmc": ("nuts",),
    "sample": ("nuts",),
    "mle": ("em",),
    "ml": ("em",),
    "vi": ("advi",),
    "variational": ("advi",),
    "optimize": ("map",),
    "seed": ("random_seed",),
    "rng": ("random_seed",),
    "random_state": ("random_seed",),
    "n_init": ("restarts",),
    "nrep": ("restarts",),
    "n_starts": ("restarts",),
    "nstart": ("restarts",),
    "iter": ("max_iter", "iterations", "draws"),
    "n_iter": ("max_iter", "iterations", "draws"),
    "num_iter": ("max_iter", "iterations", "draws"),
    "maxiter": ("max_iter", "iterations"),
    "iter_max": ("max_iter", "iterations"),
    "warmup": ("tune",),
    "burnin": ("tune",),
    "n_samples": ("draws",),
    "num_samples": ("draws",),
    "samples": ("draws",),
    "n_chains": ("chains",),
    "n_jobs": ("cores",),
    "verbose": ("progressbar",),
    "adapt_delta": ("target_accept",),
    "sampler": ("nuts_sampler",),
    "subset": ("data",),
    "na_action": ("missing",),
    "na.action": ("missing",),
    "omit": ("drop",),
    "na.omit": ("drop",),
    "ignore": ("drop",),
    "impute": ("model",),
    "fiml": ("model",),
    # gates, predictors, plots and groups
    "multinomial": ("softmax",),
    "multinom": ("softmax", "multinomial"),
    "multivariatenormal": ("mvnormal",),
    "multivariate_gaussian": ("mvnormal",),
    "mvn": ("mvnormal",),
    "gp": ("hsgp",),
    "nn": ("mlp",),
    "neural": ("mlp",),
    "gam": ("spline",),
    "smooth": ("spline",),
    "ci": ("ci_prob",),
    "hdi_prob": ("ci_prob",),
    "newdata": ("rows",),
    "conditions": ("at",),
    "ppc": ("posterior_predictive",),
}
"""Names here by a name elsewhere; the first that is valid is offered."""

ABSENT: dict[str, dict[str, str]] = {
    "family": {
        "cauchy": "it is 'studentt' with fixed={'nu': 1}",
        "dirichlet": "for one share a row use 'beta'",
        "tweedie": "for zeros and amounts use a 'pointmass' expert beside 'gamma' experts",
    }
}
"""What to use in place of things that are not here: kind -> name elsewhere -> text."""


def elsewhere(table: Mapping[str, Any], name: Any) -> Any | None:
    """Entry of a table of names elsewhere, however its words are joined; None if it has none."""
    joined = folded(name).replace("_", "")
    return next((v for known, v in table.items() if known.replace("_", "") == joined), None)


def folded(name: Any) -> str:
    """Name in lower case, with underscores for hyphens and spaces."""
    return str(name).strip().casefold().replace("-", "_").replace(" ", "_")

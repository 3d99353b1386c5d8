"""Interface of inference methods: a record of settings that runs on a model and a design."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from bayes_moe.core import registry
from bayes_moe.core.errors import SpecError, closest, unknown
from bayes_moe.data.design import Design
from bayes_moe.data.sparse_matrix import check_no_sparse
from bayes_moe.em.random_effects import has_random_effects
from bayes_moe.families import quoted
from bayes_moe.families.derivation import only_numeric
from bayes_moe.model.spec import MixtureOfExperts

if TYPE_CHECKING:
    import xarray as xr

UNCONSTRAINED_POSTERIOR = "posterior of unconstrained values"
"""Objective of the methods whose draws are about a mode of the sampler's density."""

FIT_ARGUMENTS = ("data", "log_likelihood", "method", "missing", "random_seed", "relabel")
"""Arguments of ``bm.fit`` and ``bm.refit`` beside a method's settings."""


class Method(ABC):
    """Settings of an inference method; running it gives draws in standard groups.

    ``name`` is what ``method=`` calls it and what its fits store; a subclass without a name is
    called by its class. ``integrates_missing`` says whether it takes ``missing="model"``, and
    ``takes_sparse`` whether columns may be sparse matrices.
    """

    name: ClassVar[str]
    integrates_missing: ClassVar[bool] = False
    takes_sparse: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in vars(cls):  # a name that is inherited would make refit run the parent
            cls.name = cls.__name__.lower()

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> Self:
        """Record of keyword arguments; an unknown name raises with the nearest valid one."""
        valid = [f.name for f in fields(cls)]  # type: ignore[arg-type]
        for name in settings:
            if name not in valid:
                raise SpecError(cls._unknown_setting(name, valid))
        return cls(**settings)

    @classmethod
    def _unknown_setting(cls, name: str, valid: list[str]) -> str:
        """Message about a name that is no setting of this method."""
        if name in FIT_ARGUMENTS:
            return (
                f"{name!r} cannot be changed by bm.refit, which repeats a fit: use "
                f"bm.fit(fit.spec, data, {name}=...)."
            )
        having = [
            method
            for method in registry.TABLE["method"]
            if name in (f.name for f in fields(registry.resolve("method", method)))
        ]
        if having:
            listed = ", ".join(f"method={method!r}" for method in having)
            return (
                f"Unknown setting of {cls.__name__} {name!r}: it is one of {listed}. Valid: "
                f"{', '.join(map(repr, sorted(valid)))}."
            )
        meant = closest(name, [*valid, *FIT_ARGUMENTS])
        if meant in FIT_ARGUMENTS:
            return unknown(
                f"argument of bm.fit or setting of {cls.__name__}", name, [*valid, *FIT_ARGUMENTS]
            )
        return unknown(f"setting of {cls.__name__}", name, valid)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings by name, without ``start``, which belongs to the data."""
        every = fields(self)  # type: ignore[arg-type]
        return {f.name: getattr(self, f.name) for f in every if f.name != "start"}

    @property
    def described(self) -> str:
        """Settings as JSON, so that a fit can be repeated."""
        try:
            return json.dumps(self.settings, default=lambda number: number.item())
        except (AttributeError, TypeError, ValueError) as error:
            raise SpecError(
                f"The settings of {type(self).__name__} must be plain values of a dataclass, which "
                f"are stored with the fit: {error}."
            ) from error

    def check(self, spec: MixtureOfExperts) -> None:
        """Raise :class:`SpecError` for a model that the method cannot fit."""
        if not spec.structure.has_gradient:
            raise SpecError(no_gradient(spec, f"method={self.name!r}"))

    def check_design(self, design: Design) -> None:
        """Raise :class:`SpecError` for columns that the method does not take."""
        if not self.takes_sparse:
            check_no_sparse(design.rows, f"method={self.name!r}")

    @abstractmethod
    def run(self, spec: MixtureOfExperts, design: Design, random_seed: int) -> xr.DataTree:
        """Tree with groups ``posterior`` and ``sample_stats``, and those of the method."""


def check_linear_beside_groups(spec: MixtureOfExperts, what: str) -> None:
    """Raise :class:`SpecError` for random effects in a model whose predictors are not all linear.

    Its joint mode, in which scale parameters are too small, would be no estimate.
    """
    if has_random_effects(spec) and not spec.structure.is_linear:
        raise SpecError(
            f"{what} integrates random effects out only where all predictors are linear and the "
            "gate is a product of softmaxes: use method='nuts'."
        )


def check_jax(spec: MixtureOfExperts, what: str) -> None:
    """Raise :class:`SpecError` for a model of which JAX lacks a part.

    These are tail probabilities of limits, and loops over series.
    """
    for site, predictor in spec.structure.sites:
        if predictor.compiled:
            raise SpecError(
                f"{what} runs on JAX, which lacks the compiled loops over series of {predictor!r} "
                f"of {site.stem!r}: use method='nuts' with its default sampler, 'map' or 'laplace'."
            )
    for block in spec.structure.blocks:
        if only_numeric(block.family.kernel_text):
            raise SpecError(
                f"{what} runs on JAX, which lacks the tail probabilities of the family "
                f"{quoted(block.family)} that the response {spec.response!r} needs: use "
                "method='nuts' with its default sampler, or 'em', 'map' or 'laplace'."
            )


def no_gradient(spec: MixtureOfExperts, what: str) -> str:
    """Error message for ``what`` needing a gradient that the model lacks."""
    site, predictor = next((site, p) for site, p in spec.structure.sites if not p.gradient)
    return (
        f"{what} needs a gradient, and {predictor!r} of {site.stem!r} has none: use method='nuts' "
        "with nuts_sampler='pymc', which is then the default and moves trees in steps of their own."
    )


def method_of(method: str | Method, settings: Mapping[str, Any]) -> Method:
    """A method, or the one of a name with these settings.

    Raises
    ------
    SpecError
        For an unknown name, unknown settings, and settings beside a method.
    """
    if not isinstance(method, Method):
        chosen: Method = registry.resolve("method", method).from_settings(dict(settings))
        return chosen
    if settings:
        raise SpecError(f"Give settings inside the method, not beside it: {', '.join(settings)}.")
    return method


def silent_method(method: Method) -> Method:
    """The method without a progress bar of its own, for many fits under one bar."""
    if any(field.name == "progressbar" for field in fields(method)):  # type: ignore[arg-type]
        return replace(method, progressbar=False)  # type: ignore[type-var]
    return method

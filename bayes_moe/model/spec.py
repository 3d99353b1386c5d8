"""MixtureOfExperts: a frozen description that checks itself, prints itself, round-trips JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from bayes_moe import families
from bayes_moe.core import names, registry
from bayes_moe.core.errors import DataError, SpecError, unknown
from bayes_moe.core.records import Record, plain
from bayes_moe.data.design import Design
from bayes_moe.data.formulas import check_right_hand_side
from bayes_moe.data.matrix import Rows
from bayes_moe.gates import Gate
from bayes_moe.gates.structure import Head
from bayes_moe.gates.symmetry import Symmetry, symmetry
from bayes_moe.model.blocks import Block, Component, blocks
from bayes_moe.model.expert import Expert
from bayes_moe.model.missing_rules import integrable
from bayes_moe.model.structure import DensityFactor, feature_factors
from bayes_moe.predictors import Predictor, Site
from bayes_moe.priors.prior import Prior


class MixtureOfExperts(Record):
    r"""A gate over experts: ``p(y | x) = sum_k w_k(x) f_k(y | x)``.

    Parameters
    ----------
    gate : Gate
        For example ``bm.gates.Softmax("~ z")``.
    experts : iterable of Expert
        At least one. Experts of the same kind are exchangeable and are put next to each other;
        all share one response.
    priors : mapping of str to Prior, optional
        By reported variable (``"gate_coef"``, ``"mu_coef"``, ``"sigma"``, ...), in the units of
        the data. Variables left out get the data-scaled defaults of :mod:`bayes_moe.priors.prior`.
    center : bool
        Whether intercept priors refer to the centre of the features (default) or to zero.

    Raises
    ------
    SpecError
        For experts with different responses, discrete and continuous experts in one model,
        unknown prior names, or priors of the wrong support.
    """

    __slots__ = ("center", "experts", "gate", "priors")

    gate: Gate
    experts: tuple[Expert, ...]
    priors: Mapping[str, Prior]
    center: bool

    def __init__(
        self,
        gate: Gate,
        experts: Iterable[Expert],
        priors: Mapping[str, Prior] | None = None,
        center: bool = True,
    ) -> None:
        if isinstance(experts, Expert) or not isinstance(experts, Iterable):
            raise SpecError(f"`experts` must be a list of Expert, got {experts!r}.")
        listed = tuple(experts)
        if not listed:
            raise SpecError("A mixture of experts needs at least one expert.")
        for what, kind in ((gate, Gate), *((e, Expert) for e in listed)):
            if not isinstance(what, kind):
                raise SpecError(f"Expected {kind.__name__}, got {what!r}.")
        responses = list(dict.fromkeys(e.response for e in listed))
        if len(responses) > 1:
            raise SpecError(f"Experts must share one response; got {', '.join(responses)}.")
        by_kind = {families.by_name(e.family).discrete: e.family for e in listed}
        if len(by_kind) > 1:
            raise SpecError(
                f"Experts must be all discrete or all continuous: the probabilities of "
                f"{by_kind[True]!r} cannot be compared with the density of {by_kind[False]!r}."
            )
        if not isinstance(center, bool):
            raise SpecError(f"`center` must be True or False; it is {center!r}.")
        if priors is not None and not isinstance(priors, Mapping):
            raise SpecError(f"`priors` must map names to Prior; it is {priors!r}.")
        gate.check(len(listed))
        order = tuple(k for block in blocks(listed) for k in block.positions)
        ordered = tuple(listed[k] for k in order)
        if order != tuple(range(len(order))):
            gate = gate.reordered(order)
        frozen = MappingProxyType(dict(priors or {}))
        self._set(gate=gate, experts=ordered, priors=frozen, center=center)
        for stem, formula in gate.formulas.items():
            if formula is not None:
                check_right_hand_side(f"The formula of {stem!r}", formula)
        self._check_gradient()
        self._check_names()
        self._check_trunks()
        self._check_priors()

    def __repr__(self) -> str:
        inner = ",\n  ".join(repr(e) for e in self.experts)
        priors = f",\n priors={dict(self.priors)!r}" if self.priors else ""
        center = "" if self.center else ",\n center=False"
        return f"MixtureOfExperts(gate={self.gate!r},\n experts=[\n  {inner}]{priors}{center})"

    @property
    def n_experts(self) -> int:
        """Number of experts."""
        return len(self.experts)

    @property
    def counted(self) -> str:
        """The number of experts in words: ``"1 expert"``, ``"2 experts"``."""
        return f"{self.n_experts} expert{'s' if self.n_experts > 1 else ''}"

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Groups of exchangeable experts, in the order of the experts."""
        return blocks(self.experts)

    @property
    def parts(self) -> tuple[DensityFactor, ...]:
        """Factors of the experts' densities: their own, then those of the gate's features."""
        own = (DensityFactor(block) for block in self.blocks)
        if self.n_experts == 1:
            return tuple(own)
        return (*own, *feature_factors(self.gate.feature_densities, self.n_experts))

    @property
    def response(self) -> str:
        """Left-hand side of the experts' formulas."""
        return self.experts[0].response

    @property
    def expert_labels(self) -> list[Any]:
        """Labels along the expert dimension: the experts' names, or 0, 1, ..."""
        given = [e.name for e in self.experts]
        if len({*given}) == len(given) and None not in given:
            return given
        if all(name is None for name in given):
            return list(range(len(given)))
        return [f"{name or 'expert'}[{k}]" for k, name in enumerate(given)]

    @property
    def formulas(self) -> dict[str, str]:
        """Right-hand sides by stem; a gate without one uses the first expert's."""
        fallback = self.experts[0].right_hand_side
        formulas = {stem: fallback if f is None else f for stem, f in self.gate.formulas.items()}
        for block in self.blocks:
            formulas |= block.formulas
        return formulas | self.known_formulas

    @property
    def known_formulas(self) -> dict[str, str]:
        """Formulas of what families know of each row (a number of trials), by stem."""
        knowns = (k for block in self.blocks for k in block.knowns)
        return {k.stem: k.formula for k in knowns if k.formula is not None}

    @property
    def discrete(self) -> bool:
        """Whether the response is a whole number."""
        return self.blocks[0].family.discrete

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the reported variables, all of them on the user's scale."""
        own = (name for part in self.parts for name in part.block.variables)
        return tuple(dict.fromkeys((*self.gate_variables, *own)))

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """Dimensions of the model's variables by name, internal coefficients included."""
        found = dict(self.gate.dims(self.n_experts))
        for h in self.gate.heads(self.n_experts):
            found |= h.predictor.internal_dims(h.placed(self._gate_prior(h))[0])
        for c in self.components:
            found |= c.dims | c.internal_dims
        return found

    @property
    def components(self) -> tuple[Component, ...]:
        """Family parameters of all blocks."""
        return tuple(c for part in self.parts for c in part.block.components)

    @property
    def placed(self) -> tuple[tuple[Site, Predictor], ...]:
        """All predictors of the model, the gate's first, and where they stand."""
        gate = ((h.place, h.predictor) for h in self.gate.heads(self.n_experts))
        own = ((c.place, c.predictor) for c in self.components if c.formula is not None)
        return (*gate, *own)

    @property
    def is_linear(self) -> bool:
        """Whether EM can treat the model.

        Its predictors are then sums of fixed features with normal coefficients, and its gate is a
        product of softmaxes.
        """
        gated = self.n_experts > 1 and self.gate.branching(self.n_experts) is None
        return not gated and all(p.is_linear for _, p in self.placed)

    @property
    def has_gradient(self) -> bool:
        """Whether the log density has a gradient by all parameters."""
        return all(p.gradient for _, p in self.placed)

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names of the reported variables that are quantities, as weights of networks are not."""
        none = {name for place, p in self.placed for name in p.unidentified(place)}
        return tuple(name for name in self.variables if name not in none)

    @property
    def positive(self) -> frozenset[str]:
        """Names of the reported variables that are positive."""
        own = (name for c in self.components for name in c.positive)
        gate = (name for place, p in self.placed for name in p.positive(place))
        return frozenset((*own, *gate))

    @property
    def derived_dims(self) -> dict[str, tuple[str, ...]]:
        """Dimensions of what the gate derives from its variables."""
        return self.gate.derived_dims(self.n_experts)

    @property
    def gate_variables(self) -> tuple[str, ...]:
        """Names of the gate's reported variables; one expert has no gate."""
        return tuple(self.gate.dims(self.n_experts))

    @property
    def symmetry(self) -> Symmetry:
        """Which experts may trade places."""
        kinds = {k: b for b, block in enumerate(self.blocks) for k in block.positions}
        return symmetry(
            self.gate.exchange_tree(self.n_experts), tuple(kinds[k] for k in sorted(kinds))
        )

    def permutation_index(self, orders: np.ndarray) -> dict[str, np.ndarray]:
        """Index (sample, place) along every dimension of experts or branches.

        Expert ``orders[sample, k]`` comes into place ``k``.
        """
        found = {names.EXPERT: orders, **self.gate.permutation_index(self.n_experts, orders)}
        for block in self.blocks:
            found[block.dim] = orders[:, list(block.positions)] - block.positions[0]
        return found

    @property
    def bases(self) -> dict[str, tuple[str, np.ndarray]]:
        """Of internal variables in a basis: the dimension of its rows, and the basis."""
        found = {}
        for h in self.gate.heads(self.n_experts):
            mixing, dim, _ = h.mixing(self._gate_prior(h))
            if mixing is not None and dim != h.dim:
                found[names.raw(h.stem)] = (h.dim, mixing)
        return found

    def _gate_prior(self, head: Head) -> Prior:
        """The user's prior of a predictor of the gate, or one with the default's support."""
        default = Prior("ZeroSumNormal", sigma=1.0)
        return self.priors.get(head.place.coef, default)

    def resolve_priors(self, design: Design) -> dict[str, Prior]:
        """Return the prior of every reported variable: the user's, else the default."""
        matrices, response = design.rows.matrices, design.response
        priors = self.gate.default_priors(self.n_experts, matrices, response)
        for part in self.parts:
            priors |= part.block.default_priors(matrices, part.response(design.rows))
        return priors | {k: p for k, p in self.priors.items() if k in priors}

    def design(self, data: Any, missing: str = "raise") -> Design:
        """See a table through this model's formulas, and check that it can be fitted.

        Raises
        ------
        DataError
            See :meth:`bayes_moe.data.design.Design.from_data`; also for fewer rows than experts and
            responses that a family cannot have.
        SpecError
            For ``missing="model"`` and a gate that does not model its features.
        """
        may_miss = integrable(self.gate, self.blocks, self.n_experts)
        if missing == "model" and not self.gate.feature_densities:
            raise SpecError(
                "missing='model' needs a gate that models its features, such as "
                "bm.gates.Gaussian('~ x'); with another gate use missing='drop'."
            )
        if missing == "model" and self.n_experts == 1:
            raise SpecError(
                "missing='model' needs a gate, and one expert has none: use missing='drop'."
            )
        design = Design.from_data(
            self.response,
            self.formulas,
            data,
            missing=missing,
            center=self.center,
            may_miss=may_miss,
        )
        if self.n_experts > design.rows.size:
            raise DataError(
                f"There are more experts ({self.n_experts}) than rows ({design.rows.size})."
            )
        rows = design.rows
        _check_modelled(self.gate, rows)
        for block in self.blocks:
            block.check_known(rows)
            known = block.known(rows.matrices)
            block.family.check_response(design.response, self.response, known, rows.obs_id)
        return design

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description."""
        return {
            "gate": plain(self.gate.to_dict()),
            "experts": [e.to_dict() for e in self.experts],
            "priors": {k: p.to_dict() for k, p in self.priors.items()},
            "center": self.center,
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> MixtureOfExperts:
        """Invert :meth:`to_dict`."""
        gate = dict(record["gate"])
        return cls(
            registry.resolve("gate", gate.pop("kind"))(**gate),
            [Expert(**e) for e in record["experts"]],
            {k: Prior.from_dict(p) for k, p in record["priors"].items()},
            record["center"],
        )

    def _check_names(self) -> None:
        taken = [b.name for b in self.blocks if b.name is not None]
        clash = [n for n in taken if n == names.GATE or taken.count(n) > 1]
        if clash:
            raise SpecError(
                f"Experts of different kinds need different names, none of them 'gate'; "
                f"{clash[0]!r} is taken."
            )
        shared = {name for place, p in self.placed for name in p.shared_variables(place)}
        own = (name for part in self.parts for name in part.block.variables)
        every = [n for n in (*self.gate_variables, *own) if n not in shared]
        twice = [n for n in every if every.count(n) > 1]
        if twice:
            raise SpecError(
                f"Two variables would be called {twice[0]!r}, one of the gate's and one of an "
                "expert's: give the expert another name."
            )

    def _check_gradient(self) -> None:
        for h in self.gate.heads(self.n_experts):
            if not h.predictor.gradient:
                raise SpecError(
                    f"{h.predictor!r} has no gradient: it predicts parameters of experts and "
                    "cannot stand in a gate. Give the gate 'linear', 'spline', 'hsgp' or 'mlp'."
                )

    def _check_trunks(self) -> None:
        seen: dict[str, tuple[Site, Predictor, str]] = {}
        formulas = self.formulas
        for place, predictor in self.placed:
            for name in sorted(predictor.shared_variables(place)):
                own = (place, predictor, formulas[place.stem].replace(" ", "").lstrip("~"))
                first = seen.setdefault(name, own)
                if first[1:] != own[1:]:
                    raise SpecError(
                        f"{first[0].stem!r} and {place.stem!r} share {name!r}: they need the same "
                        f"formula and predictor; they have {first[2]!r} with {first[1]!r} and "
                        f"{own[2]!r} with {predictor!r}."
                    )

    def _check_priors(self) -> None:
        positive = {name for c in self.components for name in c.positive}
        gate = {names.coef(stem) for stem in self.gate.formulas}
        of_gate = self.gate.supports(self.n_experts)
        for name, prior in self.priors.items():
            if name not in self.variables and not (self.n_experts == 1 and name in gate):
                raise SpecError(unknown("prior", name, self.variables))
            if not isinstance(prior, Prior):
                raise SpecError(f"The prior of {name!r} must be a Prior; it is {prior!r}.")
            supports = {"positive"} if name in positive else {"real"}
            if name in gate or name in of_gate:
                supports = of_gate.get(name, {"real", "zero-sum"})
            if prior.kind.support not in supports:
                raise SpecError(
                    f"The prior of {name!r} must have {' or '.join(sorted(supports))} support; "
                    f"{prior.distribution} has {prior.kind.support} support."
                )
            for place, predictor in self.placed:
                if place.coef == name:
                    predictor.check_prior(name, prior)
            vectors = [a for a, value in prior.arguments.items() if isinstance(value, tuple)]
            if name in positive and vectors:
                raise SpecError(
                    f"The prior of {name!r} is the same for all experts: its argument "
                    f"{vectors[0]!r} must be one number; it is {prior.arguments[vectors[0]]!r}."
                )


def _check_modelled(gate: Gate, rows: Rows) -> None:
    """Raise :class:`DataError` for features that have no density."""
    for m in gate.feature_densities:
        matrix = rows.matrices[m.stem]
        if len(matrix.terms) != len(gate.feature_densities):
            raise DataError(
                f"A Gaussian gate models columns of numbers; its features make the columns "
                f"{', '.join(matrix.terms)}. Leave categories out, or use a softmax gate."
            )
        values = matrix.values[:, m.column]
        if np.nanmax(values) == np.nanmin(values):
            raise DataError(
                f"The feature {m.term!r} of the Gaussian gate is the same in every row."
            )

"""MixtureOfExperts: a frozen description that checks itself, prints itself, round-trips JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from bayes_moe.core import html, registry
from bayes_moe.core.checks import check_whole
from bayes_moe.core.errors import SpecError
from bayes_moe.core.records import Record, check_names, from_settings, plain
from bayes_moe.data.class_labels import Levels, ResponseRule
from bayes_moe.data.design import Design
from bayes_moe.data.fitted_texts import check_text_terms
from bayes_moe.data.formula_functions import check_functions, check_known
from bayes_moe.data.formulas import own_functions, without_offsets
from bayes_moe.data.group_terms import without_groups
from bayes_moe.data.observation import NAMES, RowColumns, check_row_columns
from bayes_moe.data.responses import response_formula
from bayes_moe.data.time_terms import check_time_terms
from bayes_moe.gates import Gate
from bayes_moe.model import allocation_checks, sparse_rules, spec_checks
from bayes_moe.model.blocks import blocks_of
from bayes_moe.model.class_levels import response_rule
from bayes_moe.model.constraints import WEIGHTS, Stated, is_part
from bayes_moe.model.effect_checks import check_gate_effects
from bayes_moe.model.expert import Expert
from bayes_moe.model.memory_rules import check_memory
from bayes_moe.model.missing_rules import integrable
from bayes_moe.model.offset_rules import check_order
from bayes_moe.model.structure import Structure, structure_of
from bayes_moe.priors.prior import Prior

MOST_EXPERTS = 1000
"""Experts of a description that is read."""


_PARTS = ("gate", "experts", "priors", "center")
"""Names of a description's parts."""
_WITHOUT_ROWS = "experts_without_rows"
_OPTIONAL = ("functions", "shared", "fixed", *NAMES, _WITHOUT_ROWS)
"""Names of parts that a description may lack."""


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
    functions : mapping of str to callable, optional
        Your own functions that formulas call, by name: ``{"hinge": f}`` for ``hinge(x)``. Each gets
        columns (obs,) as float64 and returns (obs,) or (obs, column), one row from one row. They
        are no part of the description, its equality or a saved fit, which hold their names only.
    shared : sequence of str
        What all experts have in common: ``"sigma"``, ``"mu_coef[x]"``. See
        :func:`mixture_of_experts`.
    fixed : mapping of str to float or array, optional
        What is held at a value: ``{"nu": 4}``, ``{"weights": (0.3, 0.7)}``. See
        :func:`mixture_of_experts`. Weights are in the order of ``experts``.
    weights, group, expert, time, series : str, optional
        Columns that say more of the rows: how many rows each counts as, which rows belong together,
        which expert a row has, where that is known, when a row is, and of which series. See
        :func:`mixture_of_experts`.

    Raises
    ------
    SpecError
        For experts with different responses, discrete and continuous experts in one model,
        unknown prior names, priors of the wrong support, functions that are not known, or
        constraints that cannot be.
    """

    __slots__ = (
        "center",
        "experts",
        "fixed",
        "functions",
        "gate",
        "priors",
        "response_rule",
        "row_columns",
        "shared",
        "structure",
    )

    gate: Gate
    experts: tuple[Expert, ...]
    priors: Mapping[str, Prior]
    center: bool
    functions: Mapping[str, Callable[..., Any]]
    shared: tuple[str, ...]
    fixed: Mapping[str, Any]
    row_columns: RowColumns
    structure: Structure
    response_rule: ResponseRule

    def __init__(
        self,
        gate: Gate,
        experts: Iterable[Expert],
        priors: Mapping[str, Prior] | None = None,
        center: bool = True,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        shared: Sequence[str] = (),
        fixed: Mapping[str, Any] | None = None,
        weights: str | None = None,
        group: str | None = None,
        expert: str | None = None,
        time: str | None = None,
        series: str | None = None,
    ) -> None:
        listed = spec_checks.checked_experts(experts)
        spec_checks.check_parts(gate, listed, priors, center)
        common, held = spec_checks.checked_constraints(shared, fixed)
        gate.structure(len(listed))  # raises if the gate cannot serve so many
        order = tuple(k for block in blocks_of(listed) for k in block.positions)
        ordered = tuple(listed[k] for k in order)
        if order != tuple(range(len(order))):
            check_order(gate, len(listed))
            gate = gate.reordered(order)
            if isinstance(held.get(WEIGHTS), tuple) and len(held[WEIGHTS]) == len(order):
                held[WEIGHTS] = tuple(held[WEIGHTS][k] for k in order)
        frozen = MappingProxyType(dict(priors or {}))
        stated = Stated(common, held, frozen)
        known = frozenset() if expert is None else frozenset(range(len(ordered)))
        structure = structure_of(gate, ordered, frozen, stated, known=known)
        self._set(gate=gate, experts=ordered, priors=frozen, center=center, structure=structure)
        rule = response_rule(self.response, [e.family for e in listed], listed[0].levels)
        columns = _row_columns((weights, group, expert, time, series), structure)
        rule = replace(rule, counts=tuple(structure.row_count_formulas), row_columns=columns)
        self._set(response_rule=rule, row_columns=columns)
        spec_checks.check_truncation(structure, columns, self.response)
        self._set(shared=common, fixed=MappingProxyType(held))
        allocation_checks.check_sharing(structure, columns)
        check_gate_effects(structure, columns)
        check_memory(structure, columns)
        spec_checks.check_gate_formulas(gate)
        self._set(functions=_called(self.expressions, check_functions(functions)))
        _check_terms(self)
        whole = {name: prior for name, prior in frozen.items() if not is_part(name)}
        spec_checks.check_structure(gate, structure, self.formulas, whole)

    def __repr__(self) -> str:
        experts = ",\n  ".join(repr(e) for e in self.experts)
        priors = f",\n priors={dict(self.priors)!r}" if self.priors else ""
        center = "" if self.center else ",\n center=False"
        gate = f"gate={self.gate!r},{self._left_out}"
        shared = f",\n shared={self.shared!r}" if self.shared else ""
        fixed = f",\n fixed={dict(self.fixed)!r}" if self.fixed else ""
        rows = "".join(f",\n {k}={v!r}" for k, v in self.row_columns.given.items())
        end = f"{priors}{center}{shared}{fixed}{rows}"
        return f"MixtureOfExperts({gate}\n experts=[\n  {experts}]{end})"

    def _repr_html_(self) -> str:
        """Tables of the gate, the experts and the priors, for notebooks."""
        formulas = self.formulas
        gate = [(stem, formulas[stem]) for stem in self.gate.formulas]
        experts = [
            (
                ", ".join(str(self.expert_labels[k]) for k in block.positions),
                str(self.experts[block.positions[0]].family),
                self.experts[block.positions[0]].formula,
                self.experts[block.positions[0]].settings_shown,
            )
            for block in self.structure.blocks
        ]
        others = [name for name in self.variables if name not in self.priors]
        priors = [(name, repr(prior)) for name, prior in self.priors.items()]
        priors += [(", ".join(others), "default, scaled to the data")] if others else []
        limits = [(name, "shared by all experts") for name in self.shared]
        limits += [(name, f"fixed at {value!r}") for name, value in self.fixed.items()]
        columns = [*self.row_columns.given.items()]
        refers = "" if self.center else "Intercept priors refer to features of zero."
        return html.view(
            f"Mixture of {self.structure.counted} for {self.response}",
            html.table(["gate formula", ""], gate, caption=f"Gate: {self.gate!r}"),
            html.table(["experts", "family", "formula", "settings"], experts),
            html.table(["prior of", ""], priors),
            html.table(["parameter", ""], limits) if limits else "",
            html.table(["rows", "column"], columns) if columns else "",
            html.paragraph(refers) if refers else "",
        )

    @property
    def _left_out(self) -> str:
        """Comment with the formula that a gate without one has; else the empty string."""
        stems = [stem for stem, formula in self.gate.formulas.items() if formula is None]
        if not stems or self.n_experts == 1:
            return ""
        which = "" if len(stems) == len(self.gate.formulas) else f" of {', '.join(stems)}"
        return f"  # formula{which}: {without_offsets(self.experts[0].right_hand_side)}"

    @property
    def n_experts(self) -> int:
        """Number of experts."""
        return len(self.experts)

    @property
    def response(self) -> str:
        """Left-hand side of the experts' formulas."""
        return self.experts[0].response

    @property
    def expert_labels(self) -> list[Any]:
        """Labels along the expert dimension: the experts' names, or 0, 1, ..."""
        return list(self.structure.expert_labels)

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the reported variables, all of them on the user's scale."""
        return self.structure.variables

    @property
    def formulas(self) -> dict[str, str]:
        """Right-hand sides by stem; a gate without one uses the first expert's."""
        default = without_groups(without_offsets(self.experts[0].right_hand_side))
        formulas = {stem: default if f is None else f for stem, f in self.gate.formulas.items()}
        for block in self.structure.blocks:
            formulas |= block.formulas
        return formulas | self.structure.row_count_formulas

    @property
    def expressions(self) -> list[str]:
        """Right-hand sides of all formulas, that of the response first."""
        return [f"~ 0 + {response_formula(self.response)}", *self.formulas.values()]

    def resolve_priors(self, design: Design) -> dict[str, Prior]:
        """Prior of every reported variable, by name: the user's, else the default."""
        priors = self.structure.default_priors(design)
        return priors | {k: p for k, p in self.priors.items() if k in priors}

    def design(self, data: Any, missing: str = "raise") -> Design:
        """Design matrices and response of a table under this model's formulas, checked.

        Raises
        ------
        DataError
            See :meth:`bayes_moe.data.design.Design.from_data`; also for fewer rows than experts and
            responses that a family cannot have.
        SpecError
            For ``missing="model"`` and a gate that does not model its features.
        """
        structure = self.structure
        spec_checks.check_missing(structure, missing)
        design = Design.from_data(
            self.response_rule,
            self.formulas,
            data,
            missing=missing,
            center=self.center,
            may_miss=integrable(self.gate, structure),
            functions=self.functions,
        )
        bound = with_levels(self, design.levels)
        sparse_rules.check_sparse(bound.structure, design)
        spec_checks.check_rows(bound.structure, self.response, design)
        allocation_checks.check_groups(bound.structure, self.row_columns, design)
        allocation_checks.check_known_experts(bound.structure, self.row_columns, design)
        return design

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description, with the names of your own functions."""
        record: dict[str, Any] = {
            "gate": plain(self.gate.to_dict()),
            "experts": [e.to_dict() for e in self.experts],
            "priors": {k: p.to_dict() for k, p in self.priors.items()},
            "center": self.center,
        }
        if self.functions:
            record["functions"] = sorted(self.functions)
        if self.shared:
            record["shared"] = list(self.shared)
        if self.fixed:
            record["fixed"] = plain(self.fixed)
        if self.row_columns.without_rows:
            record[_WITHOUT_ROWS] = list(self.row_columns.without_rows)
        return record | self.row_columns.given

    @classmethod
    def from_dict(
        cls,
        record: Mapping[str, Any],
        functions: Mapping[str, Callable[..., Any]] | None = None,
    ) -> MixtureOfExperts:
        """Invert :meth:`to_dict`; ``functions`` are your own that the formulas call.

        Raises
        ------
        SpecError
            For what is no description, with unknown names, more than 1000 experts, or
            functions that are missing.
        """
        check_names("The description", record, _PARTS, _OPTIONAL)
        gate, experts, priors = record["gate"], record["experts"], record["priors"]
        parts = (("gate", gate, Mapping), ("experts", experts, list), ("priors", priors, Mapping))
        for name, part, kind in parts:
            if not isinstance(part, kind):
                raise SpecError(f"`{name}` cannot be {part!r:.100}.")
        check_whole("number of experts", len(experts), 1, MOST_EXPERTS)
        for part in (*experts, *priors.values()):
            if not isinstance(part, Mapping):
                raise SpecError(f"An expert or a prior cannot be {part!r:.100}.")
        settings = {name: value for name, value in gate.items() if name != "kind"}
        spec = cls(
            from_settings(registry.resolve("gate", gate.get("kind")), settings),
            [Expert(**e) for e in experts],
            {k: Prior.from_dict(p) for k, p in priors.items()},
            record["center"],
            functions,
            record.get("shared", ()),
            record.get("fixed"),
            *(record.get(name) for name in NAMES),
        )
        return _with_unknown(spec, record.get(_WITHOUT_ROWS, ()))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_dict, (self.to_dict(), dict(self.functions))


def _row_columns(columns: Sequence[Any], structure: Structure) -> RowColumns:
    """Columns that say more of the rows, for a model that may read these one after the other."""
    found = check_row_columns(columns, structure.expert_labels)
    return replace(found, memory=bool(getattr(structure, "has_memory", False)))


def _check_terms(spec: MixtureOfExperts) -> None:
    """Raise :class:`SpecError` for terms of rows before, and of texts, where there can be none."""
    columns, counts = spec.row_columns, spec.structure.row_count_formulas
    check_time_terms(spec.expressions, columns.formulas, columns.time)
    check_text_terms(spec.expressions, columns.formulas, counts)


def _called(
    expressions: list[str], functions: Mapping[str, Callable[..., Any]]
) -> Mapping[str, Callable[..., Any]]:
    """Those of the user's functions that formulas call; SpecError for unknown ones."""
    needed = own_functions(expressions)
    check_known(needed, functions)
    return MappingProxyType({name: functions[name] for name in needed})


def bound(spec: MixtureOfExperts, design: Design) -> MixtureOfExperts:
    """The description for a design: labels of its classes, experts of which it has no known row."""
    spec = with_levels(spec, design.levels)
    known = design.rows.observation.expert
    if known is None:
        return spec
    unknown = [k for k in range(spec.n_experts) if k not in known]
    return _with_unknown(spec, unknown if len(unknown) > 1 else ())


def with_levels(spec: MixtureOfExperts, levels: Levels | None) -> MixtureOfExperts:
    """The description for a response whose classes have these labels; None of numbers."""
    if levels is None or levels == spec.response_rule.given:
        return spec
    experts = [expert.with_levels(levels) for expert in spec.experts]
    given = (spec.priors, spec.center, spec.functions, spec.shared, spec.fixed)
    return MixtureOfExperts(spec.gate, experts, *given, *spec.row_columns.columns)


def _with_unknown(spec: MixtureOfExperts, experts: Sequence[int]) -> MixtureOfExperts:
    """The description for a table without a known row of some experts: these may be exchanged."""
    if spec.row_columns.expert is None or not {*experts} <= {*range(spec.n_experts)}:
        if not experts:
            return spec
        raise SpecError(f"Experts without a known row cannot be {experts!r:.100}.")
    unknown = tuple(experts)
    if unknown == spec.row_columns.without_rows:
        return spec
    again = MixtureOfExperts(
        spec.gate,
        spec.experts,
        spec.priors,
        spec.center,
        spec.functions,
        spec.shared,
        spec.fixed,
        *spec.row_columns.columns,
    )
    known = frozenset(range(spec.n_experts)) - {*unknown}
    stated = Stated(again.shared, again.fixed, again.priors)
    again._set(
        row_columns=replace(again.row_columns, without_rows=unknown),
        structure=structure_of(again.gate, again.experts, again.priors, stated, known=known),
    )
    return again

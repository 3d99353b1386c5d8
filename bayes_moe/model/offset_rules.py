"""Which offsets a model may have: how many columns, and where they would cancel."""

from __future__ import annotations

from collections.abc import Mapping

from bayes_moe.core.errors import SpecError
from bayes_moe.data.formulas import offset_columns
from bayes_moe.gates import Gate
from bayes_moe.gates.structure import Head
from bayes_moe.model.blocks import Block, Component


def tells_apart(gate: Gate) -> bool:
    """Whether a gate has an offset of its own for each output, so that no two are exchangeable."""
    return any(_width(formula) > 1 for formula in gate.formulas.values() if formula is not None)


def check_order(gate: Gate, experts: int) -> None:
    """Raise :class:`SpecError` for a gate with an offset by expert, of experts in another order."""
    if tells_apart(gate) and gate.structure(experts).heads[0].labels is None:
        raise SpecError(
            "The gate's offset has one column an expert: put experts of the same kind next to each "
            "other, since they are put into that order."
        )


def check_gate_offsets(gate: Gate, heads: tuple[Head, ...], formulas: Mapping[str, str]) -> None:
    """Raise :class:`SpecError` for offsets of a gate that it cannot have.

    ``formulas`` are those of the model, by stem.
    """
    if gate.kind == "gaussian" and any(_width(formulas[stem]) for stem in gate.formulas):
        raise SpecError(
            "A Gaussian gate models its features, so its formula has no offset: use "
            "bm.gates.Softmax, with offset(a, b, ...) of one column an expert."
        )
    for head in heads:
        width, outputs = _width(formulas[head.stem]), head.n_outputs
        if not width or width == outputs:
            continue
        what = "expert" if head.labels is None else "branch" if head.zero_sum else "stick"
        if getattr(head.predictor, "heads", 1) > 1:
            raise SpecError("A gate of several attention heads has no offset: use heads=1.")
        if width > 1 or head.zero_sum:
            cancels = (
                "An offset of one column is the same for all outputs of a softmax, where it "
                if width == 1
                else f"An offset of {width} columns does not fit {outputs} outputs. One column "
            )
            needed = f"offset(a, b, ...), {outputs} columns, one {what} each"
            raise SpecError(
                f"The formula {formulas[head.stem]!r} of {head.stem!r}: "
                + (f"{cancels}cancels. " if head.zero_sum else f"{cancels}serves all. ")
                + f"Write {needed}: known log weights."
            )


def check_expert_offsets(block: Block) -> None:
    """Raise :class:`SpecError` for offsets of a block's parameters that they cannot have."""
    for c in block.components:
        width = 0 if c.formula is None else _width(c.formula)
        if not width or _fits(width, c):
            continue
        if not c.zero_sum:
            raise SpecError(
                f"The offset of {c.parameter.name!r} has {width} columns in {c.formula!r}; it must "
                "have one, which is the same for all experts."
            )
        if block.family.takes_levels and block.kind.levels is None:
            continue  # the classes are those of a table that is not known yet
        labels = ", ".join(map(str, c.parameter.labels))
        raise SpecError(
            f"The offset of {c.parameter.name!r} in {c.formula!r} has {width} column(s): write "
            f"offset(a, b, ...) with {c.parameter.size}, one each of {labels}. A single one is the "
            "same for all of them and cancels."
        )


def _fits(width: int, component: Component) -> bool:
    return width == component.parameter.size if component.zero_sum else width == 1


def _width(formula: str) -> int:
    """Columns of a formula's offset, 0 if it has none."""
    return max(offset_columns(formula), default=0)

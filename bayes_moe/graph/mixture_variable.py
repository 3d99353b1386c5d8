"""The mixture as one observed random variable of a PyMC model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bayes_moe.core import names, registry
from bayes_moe.core.arrays import along_rows, log_softmax
from bayes_moe.core.arrays import symbolic as symbolic_arrays
from bayes_moe.model.blocks import Block
from bayes_moe.model.likelihood import log_components, log_mixture

LIKELIHOODS = ("fused", "symbolic")
"""``"fused"``: one operation with its derivatives; ``"symbolic"``: formulas, left to PyTensor."""


def observed_mixture(
    blocks: Sequence[Block],
    logits: Any,
    params: Sequence[dict[str, Any]],
    observed: Any,
    likelihood: str,
    total_size: int | None = None,
) -> Any:
    """Create the response of the current model: an observed variable with dims (obs,).

    With a ``total_size`` what is observed are some rows out of so many, and the log likelihood
    counts for all.

    ``logits`` and every parameter are (expert, obs) or (expert, 1), with the experts in the
    order of the blocks; what is known of the rows is (1, obs) or (1, 1).
    """
    import pymc as pm
    import pytensor.tensor as pt

    keys = [(j, name) for j, p in enumerate(params) for name in p]
    # As inputs of the random variable, rows come first: (obs, expert), or (1, expert).
    inputs = [along_rows(logits, observed).T, *(params[j][name].T for j, name in keys)]

    def unpack(arguments: Sequence[Any]) -> list[dict[str, Any]]:
        unpacked: list[dict[str, Any]] = [{} for _ in blocks]
        for (j, name), value in zip(keys, arguments, strict=True):
            unpacked[j][name] = value
        return unpacked

    def dist(given: Any, *arguments: Any) -> Any:
        full = [along_rows(a.T, given[:, 0]).T for a in arguments[:-1]]
        parts = [b.family.dist(p) for b, p in zip(blocks, unpack(full), strict=True)]
        chosen = pm.Categorical.dist(logit_p=given)
        return pt.take_along_axis(pt.concatenate(parts, axis=-1), chosen[..., None], axis=-1)[
            ..., 0
        ]

    log_density = {"fused": _fused, "symbolic": _symbolic}[likelihood]

    def logp(value: Any, given: Any, *arguments: Any) -> Any:
        return log_density(value, blocks, given.mT, unpack([a.mT for a in arguments]))

    known = [f"(one{j})" if name in blocks[j].family.KNOWN else f"(k{j})" for j, name in keys]
    signature = ",".join(["(k)", *known]) + "->()"
    return pm.CustomDist(
        names.RESPONSE,
        *inputs,
        dist=dist,
        logp=logp,
        signature=signature,
        support_point=lambda rv, *_: pt.zeros(rv.shape),
        class_name="MixtureOfExperts",
        observed=observed,
        dims=names.OBS if total_size is None else None,
        total_size=total_size,
    )


def _symbolic(
    y: Any, blocks: Sequence[Block], logits: Any, params: Sequence[Mapping[str, Any]]
) -> Any:
    """The formulas as they stand."""
    xp = symbolic_arrays()
    return log_mixture(log_softmax(logits, xp), log_components(y, blocks, params, xp), xp)


def _fused(
    y: Any, blocks: Sequence[Block], logits: Any, params: Sequence[Mapping[str, Any]]
) -> Any:
    """One operation, where every family has a kernel."""
    if not all(registry.has("kernel", b.kind.family) for b in blocks):
        return _symbolic(y, blocks, logits, params)
    from bayes_moe.graph.family_group import FamilyGroup
    from bayes_moe.graph.fused_op import fused_mixture

    xp = symbolic_arrays()
    parts = []
    for block, named in zip(blocks, params, strict=True):
        part = FamilyGroup(block.kind.family, block.positions[0], block.positions[-1] + 1)
        etas = [p.link(named[p.name], xp) for p in block.family.PARAMS]
        parts.append((part, etas, [named[name] for name in block.family.KNOWN]))
    return fused_mixture(y, logits, parts)

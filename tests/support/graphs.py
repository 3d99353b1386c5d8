"""Graphs as the methods of inference use them."""

from __future__ import annotations

from typing import Any

from bayes_moe.data.design import Design
from bayes_moe.graph.build import Graph, build_design
from bayes_moe.model.spec import MixtureOfExperts


def internal_graph(spec: MixtureOfExperts, data: Any, likelihood: str = "fused") -> Graph:
    """Graph whose free variables are the sampler's, on centred and scaled features."""
    design = data if isinstance(data, Design) else spec.design(data)
    return build_design(spec, design, likelihood)

"""Which models take columns that are sparse matrices: those of linear predictors."""

from __future__ import annotations

from bayes_moe.core.errors import SpecError
from bayes_moe.data.design import Design
from bayes_moe.data.sparse_columns import needs_arrays
from bayes_moe.data.sparse_matrix import SparseMatrix, sparse_in
from bayes_moe.model.structure import Structure
from bayes_moe.predictors.linear import Linear


def check_sparse(structure: Structure, design: Design) -> None:
    """Raise :class:`SpecError` for a part of a model that takes no sparse columns of a design."""
    sparse = sparse_in(design.rows)
    if not sparse:
        return
    matrices = design.rows.matrices
    for site, predictor in structure.sites:
        matrix = matrices[site.stem]
        if isinstance(matrix, SparseMatrix) and type(predictor) is not Linear:
            raise SpecError(needs_arrays(f"{predictor!r} of {site.stem!r}", matrix.columns))
        if matrix.groups:
            raise SpecError(needs_arrays(f"A model with the group terms of {site.stem!r}", sparse))
    if structure.gate.features is not None or not structure.is_linear:
        raise SpecError(
            needs_arrays("A model that is not linear, or whose gate models its features,", sparse)
        )

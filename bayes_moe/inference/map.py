"""Posterior modes of any model by the gradient of its graph: L-BFGS or Adam, many starts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_one_of, check_share, check_whole
from bayes_moe.core.errors import SpecError
from bayes_moe.core.progress import progress
from bayes_moe.data.design import Design
from bayes_moe.data.sparse_columns import needs_arrays
from bayes_moe.data.sparse_matrix import sparse_in
from bayes_moe.em.modes import merge_modes
from bayes_moe.em.random_effects import has_random_effects
from bayes_moe.inference.base import Method, check_linear_beside_groups
from bayes_moe.inference.em import EM
from bayes_moe.model.memory_rules import check_parts
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.optimize.adam import Schedule, descend
from bayes_moe.optimize.densities import has_compiled_network, log_density
from bayes_moe.optimize.graph_modes import ends
from bayes_moe.optimize.hyperparameters import optimise_hyperparameters
from bayes_moe.optimize.lbfgs import search
from bayes_moe.optimize.linear_surrogate import first_values
from bayes_moe.optimize.stopped_starts import has_trunk, raced_starts
from bayes_moe.results.mode_tree import point_tree

if TYPE_CHECKING:
    import xarray as xr


OPTIMIZERS = ("auto", "lbfgs", "adam")
MOST_ROWS = 20_000
"""Rows up to which ``"auto"`` is L-BFGS for models without a shared network."""

LBFGS = "Use optimizer='lbfgs'."


@dataclass(frozen=True)
class MAP(Method):
    """Settings of maximisation through the gradient.

    The objective is that of ``method="em"`` under the priors, the PyMC model's log density without
    Jacobian. EM is faster for the models it can fit, as no graph is compiled. Runs of a model that
    is not linear start at modes of a surrogate whose gate is a softmax of linear predictors, or at
    partitions of the rows.

    L-BFGS ends at a mode. Of eight starts or more the better half is run to convergence. The best
    runs end with Newton steps, with a Hessian from differences of gradients, which also gives the
    standard errors. Where it is not affordable (more than 400 coordinates, or coordinates x rows x
    experts above 2e7), ``converged`` says that the gradient's norm is below
    ``1e-6 * (1 + |objective|)``, and standard errors are NaN. Hyperparameters, such as weight decay
    and smoothing, have no joint mode with the coefficients they scale. They are set to their
    marginal mode (:mod:`bayes_moe.optimize.hyperparameters`), and the objective is the density
    given these; where second derivatives are not affordable they keep their initial values.

    With columns that are sparse matrices, and for linear experts under a Markov gate, the result is
    that of ``method="em"``.

    Adam's result is no mode: a share of the rows is held out, and the run is stopped where their
    mean log density is best. Networks predict better so (docs/benchmarks.md): a mode with hundreds
    of weights follows its rows too closely. Learned scales keep their initial values. Adam uses
    gradients of ``log prior + (n / b) log likelihood`` of batches of ``b`` of the ``n`` rows
    (:mod:`bayes_moe.optimize.adam`), and the result is an average of its last points. Runs from all
    starts are raced: the half with the lower held-out density is dropped after 100 steps, then
    after 200, and so on, and the last one begins anew with the full schedule. ``converged``
    says that the held-out density hardly rose in the last third of the epochs, not that the
    gradient is zero; standard errors are NaN. The group ``fit`` has ``validation_log_density``, the
    held-out mean after each epoch ``validation_path``, and ``epochs``; the objective is that of all
    rows.

    Parameters
    ----------
    restarts : int
        Number of starts.
    max_iter : int
        Most iterations of an L-BFGS run.
    progressbar : bool
        Whether to show progress of work longer than a second.
    optimizer : {"auto", "lbfgs", "adam"}
        ``"auto"`` is Adam for mixture density networks (a network that predictors share, see
        :class:`bayes_moe.predictors.MLP`), and for other models that are not linear on more than
        20,000 rows; else L-BFGS, which is that of models with memory too.
    batch_size : int, optional
        Rows of a batch of Adam; by default 64 to 1000, more for longer tables. Recurrent networks
        read whole series, so each step is on all rows, and ``batch_size`` is refused.
    epochs : int, optional
        Most passes of Adam over the rows; by default as many as make 12,000 steps, at least 25;
        2000 of recurrent networks.
    learning_rate : float
        Initial learning rate of Adam, for batches of up to 1000 rows; it grows with the square root
        of larger ones, and falls to zero along half a cosine.
    validation : float
        Share of the rows that Adam holds out, of at most 20,000 rows; of recurrent networks the
        last rows of each series.
    patience : int, optional
        Epochs without a rise of the held-out density after which half of those that remain are
        skipped; by default a fifth of the epochs, and at least three.

    References
    ----------
    Byrd, R. H., Lu, P., Nocedal, J., & Zhu, C. (1995). A limited memory algorithm for bound
    constrained optimization. SIAM Journal on Scientific Computing, 16(5), 1190-1208.

    Kingma, D. P., & Ba, J. (2015). Adam: a method for stochastic optimization. International
    Conference on Learning Representations.
    """

    name: ClassVar[str] = "map"
    takes_sparse: ClassVar[bool] = True

    restarts: int = 10
    max_iter: int = 2000
    progressbar: bool = True
    optimizer: str = "auto"
    batch_size: int | None = None
    epochs: int | None = None
    learning_rate: float = 0.02
    validation: float = 0.1
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("restarts", "max_iter"):
            check_whole(name, getattr(self, name), 1)
        for name in ("batch_size", "epochs", "patience"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), 1)
        check_one_of("optimizer", self.optimizer, OPTIMIZERS)
        check_share("learning_rate", self.learning_rate)
        check_share("validation", self.validation)

    def check(self, spec: MixtureOfExperts) -> None:
        super().check(spec)
        check_linear_beside_groups(spec, "method='map'")
        if self.optimizer == "adam" and spec.structure.whole_series:
            self._check_series(spec)
        if has_random_effects(spec) and self.optimizer == "adam":
            raise SpecError("Adam does not integrate random effects out: use optimizer='lbfgs'.")

    def _check_series(self, spec: MixtureOfExperts) -> None:
        """Raise :class:`SpecError` where Adam cannot hold rows out of series, or takes batches."""
        if spec.structure.gate.chain is not None or not has_compiled_network(spec):
            check_parts(spec.structure, "Adam holds rows out, which", LBFGS)
        if self.batch_size is not None:
            check_parts(spec.structure, "A batch of rows", "Leave batch_size out.")

    def run(self, spec: MixtureOfExperts, design: Design, random_seed: int) -> xr.DataTree:
        if has_random_effects(spec):
            return self._grouped(spec, design, random_seed)
        if sparse_in(design.rows):
            return self._by_em(spec, design, random_seed)
        if spec.structure.gate.chain is not None and spec.structure.is_linear:
            return self._by_em(spec, design, random_seed)
        rng = np.random.default_rng(random_seed)
        if self.by_batches(spec, design):
            return self._adam(spec, design, rng)
        density = log_density(spec, design)
        with progress("MAP", shown=self.progressbar) as update:
            starts = first_values(spec, design, self.restarts, rng)
            runs = search(density, starts, self.max_iter, update)
            runs = optimise_hyperparameters(density, runs)
        modes = replace(merge_modes(ends(density, runs), design.rows), restarts=self.restarts)
        best = modes.best
        errors = None
        if not modes.singular[best]:
            errors = density.errors(modes.theta[best])
            if not spec.structure.gate.features:  # their density is no likelihood of the graph
                effective = density.effective_parameters(modes.theta[best])
                modes = replace(modes, effective_parameters=effective)
        tree = point_tree(modes, "posterior", errors)
        return _with_figures(tree, {}, "lbfgs", density.affordable(modes.theta.shape[1]))

    def _grouped(self, spec: MixtureOfExperts, design: Design, random_seed: int) -> xr.DataTree:
        """Modes of a model with random effects: those of EM, which integrates these out."""
        settings = {n: getattr(self, n) for n in ("restarts", "max_iter", "progressbar")}
        return _with_figures(EM(**settings).run(spec, design, random_seed), {}, "lbfgs", True)

    def _by_em(self, spec: MixtureOfExperts, design: Design, random_seed: int) -> xr.DataTree:
        """Modes of a linear model with sparse columns or a Markov gate: those of EM."""
        if self.optimizer == "adam":
            raise SpecError(needs_arrays("optimizer='adam'", sparse_in(design.rows)))
        settings = {n: getattr(self, n) for n in ("restarts", "max_iter", "progressbar")}
        tree = EM(**settings).run(spec, design, random_seed)
        affordable = bool(tree[names.FIT].attrs.get(names.CURVATURE, 1))
        return _with_figures(tree, {}, "lbfgs", affordable)

    def by_batches(self, spec: MixtureOfExperts, design: Design) -> bool:
        """Whether the optimiser is Adam.

        Raises
        ------
        SpecError
            If the user chose Adam, and rows depend on those before, or share experts by group, or
            the gate models the features' density.
        """
        features, by_group = bool(spec.structure.gate.features), spec.row_columns.group is not None
        memory = spec.structure.has_memory
        if self.optimizer == "auto":
            is_long = design.rows.size > MOST_ROWS and not spec.structure.is_linear
            return (is_long or has_trunk(spec)) and not (features or by_group or memory)
        if self.optimizer == "adam" and by_group:
            raise SpecError(
                "Adam takes batches of rows, which would cut groups that share an expert: use "
                "optimizer='lbfgs'."
            )
        if self.optimizer == "adam" and features:
            raise SpecError(
                f"Adam takes models of the response alone; the gate {spec.gate!r} models features "
                "too. Use optimizer='lbfgs' or method='em'."
            )
        return self.optimizer == "adam"

    @property
    def schedule(self) -> Schedule:
        """Settings of Adam."""
        return Schedule(
            self.batch_size, self.epochs, self.learning_rate, self.validation, self.patience
        )

    def _adam(
        self, spec: MixtureOfExperts, design: Design, rng: np.random.Generator
    ) -> xr.DataTree:
        density = log_density(spec, design)
        with progress("MAP", shown=self.progressbar) as update:
            starts = raced_starts(spec, design, self.restarts, rng)
            run, history = descend(density, starts, self.schedule, rng, update)
        modes = replace(merge_modes(ends(density, [run]), design.rows), restarts=self.restarts)
        figures = {
            names.EPOCHS: len(history.path) - 1,
            names.VALIDATION_LOG_DENSITY: history.held_out,
            names.VALIDATION_PATH: (names.EPOCH, history.path),
        }
        return _with_figures(point_tree(modes, "posterior", None), figures, "adam", False)


def _with_figures(
    tree: xr.DataTree, figures: dict[str, Any], optimizer: str, affordable: bool
) -> xr.DataTree:
    """Tree with further figures of the mode, the optimiser, and whether errors were computed."""
    import xarray as xr

    attributes = {names.OPTIMIZER: optimizer, names.CURVATURE: int(affordable)}
    fit = tree[names.FIT].to_dataset().assign(figures).assign_attrs(attributes)
    tree[names.FIT] = xr.DataTree(fit)
    return tree

"""Ensembles: the average of several modes or stopped runs, each from a part of the rows."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from os import cpu_count
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_one_of, check_whole
from bayes_moe.core.errors import SpecError
from bayes_moe.core.progress import Progress, progress
from bayes_moe.data.design import Design
from bayes_moe.em.modes import Modes, merge_modes
from bayes_moe.em.random_effects import has_random_effects
from bayes_moe.inference.base import Method
from bayes_moe.inference.map import MAP
from bayes_moe.model.log_density import LogDensity
from bayes_moe.model.memory_rules import check_parts
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.optimize.adam import RowSplit
from bayes_moe.optimize.densities import log_density
from bayes_moe.optimize.graph_modes import ends
from bayes_moe.optimize.lbfgs import LBFGSResult
from bayes_moe.optimize.linear_surrogate import first_values
from bayes_moe.optimize.members import (
    HeldOut,
    fold_splits,
    modes_of_parts,
    resampled,
    stopped_runs,
)
from bayes_moe.optimize.network_density import NetworkDensity
from bayes_moe.optimize.stopped_starts import wide_starts
from bayes_moe.results.mode_tree import tree

if TYPE_CHECKING:
    import xarray as xr

WEIGHTS = ("equal", "heldout")
SHORT_BATCH = 128
"""Most rows of a batch of a short table: the average of members gains by less noise in their
gradients, and a single network does not."""


@dataclass(frozen=True)
class Ensemble(Method):
    r"""Settings of an ensemble.

    Its density is the weighted average of its members' densities,
    ``p(y | x) = sum_m w_m p_m(y | x)``. Each member has a start of its own, and a fold of the rows
    is held out from it. Mixture density networks, and others that ``method="map"`` fits by Adam:
    all members are runs of Adam with one schedule, and are stopped where rows have the best mean
    log density under the average of the members from which they are held out. That is later than
    each alone would be stopped, as the average suffers less from members that follow their rows too
    closely: one member's score can be much worse than the ensemble's. Held-out rows take the place
    of the prior, so that learned scales of hidden weights are set wide. Other models: each member
    is the mode given its rows.

    Members are no draws from the posterior: they say what differs between networks that fit about
    as well, and intervals over them are no posterior intervals of coefficients. Experts of each
    member are in the order of their average location, and are not aligned further.

    The group ``posterior`` has one draw a member, or with unequal weights ``draws`` draws, where
    each member is repeated in proportion to its weight, to less than one draw;
    ``sample_stats["member"]`` says whose each draw is. The group ``fit`` has figures of the member
    of the highest posterior density, and by ``member`` ``member_weight``, ``held_out_log_density``
    (the mean over its held-out rows), ``member_converged`` (whether its mode was found, or the
    held-out mean of all members had settled) and ``member_seed``; ``held_out_score`` is the mean
    log density of the rows under the members from which each was held out. No pointwise log
    likelihood is stored: members are no sample for :func:`arviz.loo`.

    Parameters
    ----------
    members : int
        Number of members.
    weights : {"equal", "heldout"}
        Weights of the members: equal, or those of the best ``held_out_score`` (stacking), which
        are equal if no row is held out from more than one member.
    draws : int
        Draws where weights are unequal.
    validation : float
        Share of the rows in a fold. The ``1 / validation`` folds are a partition of the rows, and
        members have them in turn.
    restarts : int
        Starts of each member that is a mode; a run of Adam has one.
    optimizer, max_iter, batch_size, epochs, learning_rate
        As for :class:`bayes_moe.inference.map.MAP`, but batches of short tables have up to 128 rows
        by default.
    cores : int, optional
        Runs of Adam that go on at once; by default as many as there are cores. The result is the
        same for any number. Models that need a graph have one run at a time.
    progressbar : bool
        Whether to show progress of work longer than a second.

    References
    ----------
    Lakshminarayanan, B., Pritzel, A., & Blundell, C. (2017). Simple and scalable predictive
    uncertainty estimation using deep ensembles. Advances in Neural Information Processing Systems
    30, 6402-6413.

    Yao, Y., Vehtari, A., Simpson, D., & Gelman, A. (2018). Using stacking to average Bayesian
    predictive distributions. Bayesian Analysis, 13(3), 917-1007.
    """

    name: ClassVar[str] = "ensemble"

    members: int = 20
    weights: str = "equal"
    draws: int = 100
    validation: float = 0.2
    restarts: int = 3
    optimizer: str = "auto"
    max_iter: int = 2000
    batch_size: int | None = None
    epochs: int | None = None
    learning_rate: float = 0.02
    cores: int | None = None
    progressbar: bool = True

    def __post_init__(self) -> None:
        check_whole("members", self.members, 2)
        check_whole("draws", self.draws, 1)
        check_one_of("value of `weights`", self.weights, WEIGHTS)
        if self.cores is not None:
            check_whole("cores", self.cores, 1)
        self._map()

    def check(self, spec: MixtureOfExperts) -> None:
        super().check(spec)
        advice = "Use method='map', 'em' or 'nuts'."
        check_parts(spec.structure, "An ensemble leaves rows out, which", advice)
        if has_random_effects(spec):
            raise SpecError(
                "An ensemble averages modes of parts of the rows, which random effects of groups "
                "have in common: use method='em', 'laplace' or 'nuts'."
            )

    def run(self, spec: MixtureOfExperts, design: Design, random_seed: int) -> xr.DataTree:
        if spec.row_columns.group is not None:
            raise SpecError(
                "An ensemble leaves rows out, which would cut groups that share an expert: use "
                "method='map', 'em' or 'nuts'."
            )
        rng = np.random.default_rng(random_seed)
        splits = fold_splits(design.rows.size, self.members, self.validation, rng)
        seeds = [int(seed) for seed in rng.integers(2**32, size=self.members)]
        density = log_density(spec, design)
        by_adam = self._map().by_batches(spec, design)
        with progress("Ensemble", shown=self.progressbar) as update:
            if by_adam:
                runs = self._stopped(density, splits, seeds, update)
            else:
                starts = first_values(spec, design, self.members * self.restarts, rng)
                some = [starts[j :: self.members] for j in range(self.members)]
                runs = modes_of_parts(density, some, splits, self.max_iter, update)
        members = ends(density, runs)
        held_out = HeldOut.of(spec, members.values, design.rows, splits)
        weights = np.full(self.members, 1 / self.members)
        if self.weights == "heldout":
            weights = held_out.weights()
        chosen = np.arange(self.members)
        if np.ptp(weights):
            chosen = resampled(weights, self.draws)
        result = self._tree(members, chosen)
        figures = {
            names.MEMBER_WEIGHT: weights,
            names.HELD_OUT_LOG_DENSITY: held_out.means,
            names.MEMBER_CONVERGED: members.converged,
            names.MEMBER_SEED: np.array(seeds),
        }
        return _with_members(result, figures, held_out.score(weights), by_adam)

    def _stopped(
        self,
        density: LogDensity,
        splits: list[RowSplit],
        seeds: list[int],
        update: Progress,
    ) -> list[LBFGSResult]:
        """Members by Adam."""
        rng = np.random.default_rng(seeds)
        starts = wide_starts(density.spec, density.design, self.members, rng)
        cores = self.cores or cpu_count() or 1
        if not isinstance(density, NetworkDensity):
            cores = 1  # the rows of a graph are shared by all
        schedule = replace(self._map().schedule, short=SHORT_BATCH)
        return stopped_runs(density, starts, splits, schedule, seeds, cores, update)

    def _tree(self, members: Modes, chosen: np.ndarray) -> xr.DataTree:
        """Tree of the members ``chosen`` as draws; its modes are the distinct members."""
        draws = {name: v[chosen] for name, v in members.values.items()}
        stats = {names.LP: members.value[chosen], names.MEMBER: chosen}
        modes = replace(merge_modes(members, members.design.rows), restarts=self.members)
        return tree(modes, "posterior", None, draws, stats, (1, len(chosen)))

    def _map(self) -> MAP:
        """Settings of a member, checked by their method."""
        shared = {f.name for f in fields(MAP)} & {f.name for f in fields(self)}
        return MAP(**{name: getattr(self, name) for name in shared})


def _with_members(
    result: xr.DataTree, figures: dict[str, np.ndarray], score: float, by_adam: bool
) -> xr.DataTree:
    """Tree with figures by member, and the held-out score of all."""
    import xarray as xr

    fit = result[names.FIT].to_dataset()
    fit = fit.assign({name: (names.MEMBER, v) for name, v in figures.items()})
    fit = fit.assign_coords({names.MEMBER: np.arange(len(figures[names.MEMBER_WEIGHT]))})
    fit = fit.assign({names.HELD_OUT_SCORE: score})
    optimizer = "adam" if by_adam else "lbfgs"
    result[names.FIT] = xr.DataTree(fit.assign_attrs({names.OPTIMIZER: optimizer}))
    result[names.FIT].attrs[names.CURVATURE] = 0
    return result

"""States of a Markov gate over time: probabilities of experts, paths of experts, transitions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names, seeds
from bayes_moe.core.arrays import NUMERIC
from bayes_moe.core.checks import check_one_of, check_whole
from bayes_moe.core.errors import SpecError
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.data.matrix import Rows
from bayes_moe.model import markov_chain
from bayes_moe.model.likelihood import allocate
from bayes_moe.model.memory import ChainPart, chain_parts
from bayes_moe.model.mixture import Mixture
from bayes_moe.prediction.chunked_mixture import ChunkedMixture, transformed
from bayes_moe.results.fit import Fit

if TYPE_CHECKING:
    import xarray as xr

KINDS = ("smoothed", "filtered", "predicted")
FROM, TO = "from_expert", "to_expert"


def states(
    fit: Fit, rows: Any = None, *, kind: str = "smoothed", draws: bool = False
) -> xr.DataArray:
    """Return probabilities of the experts of rows over time, under a Markov gate.

    Parameters
    ----------
    fit : Fit
        A fit of a model with a Markov gate.
    rows : table, optional
        Rows with features, times and series; None means the fitted rows. Rows that continue fitted
        series are given these. Their responses are read if the table has them.
    kind : {"smoothed", "filtered", "predicted"}
        Given all responses of the series in the table (and of the fitted rows before), those up to
        the row, or those before the row. Without responses in the table all are the same.
    draws : bool
        Whether to keep the draws: (chain, draw, obs_id, expert) instead of (obs_id, expert).

    Returns
    -------
    xarray.DataArray
        Probabilities ``P(z_t = k | y)``, averaged over draws unless ``draws``.

    Raises
    ------
    SpecError
        For a model without a Markov gate, and an unknown ``kind``.
    DataError
        For rows without times, or that are not in their order.

    References
    ----------
    Hamilton, J. D. (1989). A new approach to the economic analysis of nonstationary time series and
    the business cycle. Econometrica, 57(2), 357-384.

    Kim, C.-J. (1994). Dynamic linear models with Markov-switching. Journal of Econometrics,
    60(1-2), 1-22.
    """
    check_one_of("kind", kind, KINDS)
    mixtures = _mixtures(fit, rows)

    def probabilities(mixture: Mixture, part: Rows) -> np.ndarray:
        if kind == "predicted" or part.response is None:
            return mixture.weights
        if kind == "smoothed":
            return mixture.responsibilities(part.response)
        return allocate(mixture.log_weights + mixture.log_components(part.response))[1]

    return mixtures.summarise(probabilities, draws=draws)


def state_path(
    fit: Fit,
    rows: Any = None,
    *,
    draws: bool = False,
    size: int | None = None,
    random_seed: int | None = None,
) -> xr.DataArray:
    """Return the most probable path of experts over time, or paths drawn from the posterior.

    Parameters
    ----------
    fit : Fit
        A fit of a model with a Markov gate.
    rows : table, optional
        As for :func:`states`.
    draws : bool
        Whether to return the most probable path under each draw (chain, draw, obs_id). Otherwise
        it is one path (obs_id): the most probable one of the chain whose probabilities of moves are
        the averages over draws; of a fit with one draw, Viterbi's path.
    size : int, optional
        Number of paths that are drawn instead (sample, obs_id): each given all responses and a draw
        of the parameters, which is drawn too.
    random_seed : int, optional
        The same seed gives the same paths.

    Returns
    -------
    xarray.DataArray
        Labels of experts.

    Raises
    ------
    SpecError
        As :func:`states`; also for both ``draws`` and ``size``.

    References
    ----------
    Viterbi, A. (1967). Error bounds for convolutional codes and an asymptotically optimum decoding
    algorithm. IEEE Transactions on Information Theory, 13(2), 260-269.

    Chib, S. (1996). Calculating posterior distributions and modal estimates in Markov mixture
    models. Journal of Econometrics, 75(1), 79-97. (Drawn paths.)
    """
    if draws and size is not None:
        raise SpecError("Give `draws=True` for a path of each draw, or `size` paths to be drawn.")
    mixtures = _mixtures(fit, rows)
    labels = np.asarray(fit.spec.expert_labels)
    if size is not None:
        check_whole("size", size, 1)
        rng = np.random.default_rng(seeds.resolve(random_seed))
        paths = _drawn_paths(mixtures, size, rng)
        dims = {names.SAMPLE: np.arange(size)}
        return mixtures.label(labels[paths].T, dims).transpose(names.SAMPLE, names.OBS)
    if draws:
        return mixtures.label_draws(labels[_path_of_each(mixtures)])
    return mixtures.label(labels[_average_path(mixtures)])


def transitions(fit: Fit, rows: Any = None, *, draws: bool = False) -> xr.Dataset:
    """Return transition probabilities of a Markov gate, with what follows from them.

    Parameters
    ----------
    fit : Fit
        A fit of a model with a Markov gate.
    rows : table, optional
        As for :func:`states`. A gate without features has the same probabilities at all rows, which
        then have no dimension.
    draws : bool
        Whether to keep the draws (chain, draw, ...); otherwise figures are averages over them.

    Returns
    -------
    xarray.Dataset
        ``probability`` (obs_id, from_expert, to_expert), of the move to a row from the one before;
        ``stationary`` (obs_id, expert), the stationary distribution of each row's matrix; and
        ``duration`` (obs_id, expert), the expected number of rows that the chain stays in an
        expert, ``1 / (1 - p_kk)``, if the matrix did not change.

    Raises
    ------
    SpecError
        As :func:`states`.
    """
    import xarray as xr

    mixtures = _mixtures(fit, rows)
    gate, experts = fit.spec.structure.gate, fit.spec.expert_labels
    assert gate.chain is not None
    matrix = mixtures.rows.matrices[names.GATE]
    constant = tuple(matrix.terms) == (INTERCEPT,) and matrix.offset is None
    if constant and mixtures.rows.size:
        mixtures = replace(mixtures, rows=mixtures.rows.pick(slice(0, 1)))
    eta = gate.eta(mixtures.draws, mixtures.rows.matrices)
    moves = np.exp(gate.chain.log_transitions(eta, NUMERIC))
    by_row = np.moveaxis(moves, -1, 1)  # (sample, obs, from, to)
    stays = np.diagonal(by_row, axis1=-2, axis2=-1)
    with np.errstate(divide="ignore"):
        durations = 1.0 / (1.0 - stays)
    figures = {
        "probability": (by_row, {FROM: experts, TO: experts}),
        "stationary": (markov_chain.stationary(by_row), {names.EXPERT: experts}),
        "duration": (durations, {names.EXPERT: experts}),
    }
    found = {}
    for name, (values, dims) in figures.items():
        if draws:
            flat = values.reshape(*values.shape[:2], -1)
            labelled = mixtures.label_draws(flat, {names.EXPERT: np.arange(flat.shape[-1])})
            sizes = [labelled.sizes[d] for d in (names.CHAIN, names.DRAW, names.OBS)]
            coords = {d: labelled[d] for d in (names.CHAIN, names.DRAW, names.OBS)}
            shaped = values.reshape(*sizes, *values.shape[2:])
            found[name] = xr.DataArray(shaped, dims=(*coords, *dims), coords={**coords, **dims})
        else:
            found[name] = mixtures.label(values.mean(axis=0), dims)
    dataset = xr.Dataset(found)
    return dataset.isel({names.OBS: 0}, drop=True) if constant else dataset


def _mixtures(fit: Fit, rows: Any) -> ChunkedMixture:
    """Mixtures of a fit with a Markov gate, of all responses as they are known."""
    if fit.spec.structure.gate.chain is None:
        raise SpecError(
            f"States over time are those of a Markov gate; this model has {fit.spec.gate!r}. "
            "bm.responsibilities(fit) are probabilities of the experts of its rows."
        )
    return ChunkedMixture(replace(fit, response=None), transformed(fit, rows), observed=True)


def _parts(mixtures: ChunkedMixture, draws: Any = None) -> Any:
    """The chain of some draws at a time."""
    structure = mixtures.fit.spec.structure
    return chain_parts(structure, mixtures.draws if draws is None else draws, mixtures.rows)


def _series(rows: Rows) -> list[np.ndarray]:
    """Positions of the rows of each series."""
    sequences = rows.sequences
    assert sequences is not None
    order = np.arange(rows.size) if sequences.order is None else sequences.order
    return np.split(order, sequences.starts[1:])


def _log_filtered(part: ChainPart) -> np.ndarray:
    """Log filtered probabilities (sample, expert, obs)."""
    found = part.filters
    return found.log_predicted + part.log_f - found.log_density[:, None]


def _by_time(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Values (sample, time, ...) of a series from those of rows (sample, ..., obs)."""
    return np.moveaxis(values[..., at], -1, 1)


def _path_of_each(mixtures: ChunkedMixture) -> np.ndarray:
    """Viterbi's path (sample, obs) under each draw."""
    samples = len(next(iter(mixtures.draws.values())))
    paths = np.empty((samples, mixtures.rows.size), dtype=np.int64)
    for part in _parts(mixtures):
        for at in _series(mixtures.rows):
            moves, log_f = _by_time(part.log_moves, at), _by_time(part.log_f, at)
            first = part.filters.log_predicted[..., at[0]]
            paths[part.where, at] = markov_chain.most_probable(first, moves, log_f)[0]
    return paths


def _average_path(mixtures: ChunkedMixture) -> np.ndarray:
    """Most probable path (obs,) by probabilities of moves that are averages over draws."""
    rows, experts = mixtures.rows, mixtures.fit.spec.n_experts
    total = np.zeros((rows.size, experts, experts))
    shares = np.zeros((rows.size, experts))
    for part in _parts(mixtures):
        log_filtered, future = _log_filtered(part), part.filters.log_future
        shares += np.exp(log_filtered + future).sum(axis=0).T
        ahead = part.log_f - part.filters.log_density[:, None] + future
        for at in _series(rows):
            then = at[1:]
            joint = log_filtered[:, :, None, at[:-1]] + part.log_moves[..., then]
            pairs = np.exp(joint + ahead[:, None, :, then]).sum(axis=0)
            total[then] += np.moveaxis(pairs, -1, 0)
    path = np.empty(rows.size, dtype=np.int64)
    for at in _series(rows):
        path[at] = markov_chain.most_probable_by_pairs(total[at], shares[at])
    return path


def _drawn_paths(mixtures: ChunkedMixture, size: int, rng: np.random.Generator) -> np.ndarray:
    """Paths (path, obs) given all responses, each with drawn parameters."""
    picked = rng.integers(len(next(iter(mixtures.draws.values()))), size=size)
    draws = {name: values[picked] for name, values in mixtures.draws.items()}
    paths = np.empty((size, mixtures.rows.size), dtype=np.int64)
    for part in _parts(mixtures, draws):
        log_filtered = _log_filtered(part)
        for at in _series(mixtures.rows):
            found = markov_chain.Filtered(
                part.filters.log_density[:, at],
                _by_time(part.filters.log_predicted, at),
                _by_time(log_filtered, at),
            )
            moves = _by_time(part.log_moves, at)
            paths[part.where, at] = markov_chain.random_path(found, moves, rng)
    return paths

"""Alignments held to gold ones, and alignments of both directions made one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from bayes_moe.core.checks import check_one_of, is_whole
from bayes_moe.core.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

METHODS = ("grow-diag", "intersection", "union")
NEIGHBOURS = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]

Links = Iterable[tuple[int, int]]
Link = tuple[int, int]


def alignment_scores(
    found: Sequence[Links], sure: Sequence[Links], possible: Sequence[Links] | None = None
) -> pd.Series:
    r"""Score alignments against gold ones.

    With ``A`` the links found, ``S`` the sure and ``P`` the possible ones, among which the sure
    ones count, summed over the pairs:

    * ``precision = |A n P| / |A|`` and ``recall = |A n S| / |S|``;
    * ``error_rate = 1 - (|A n S| + |A n P|) / (|A| + |S|)``, the alignment error rate.

    Parameters
    ----------
    found : list of lists of links
        Links (source position, target position) by sentence pair, as ``Alignment.alignments``
        returns them.
    sure, possible : lists of lists of links
        Gold links. Without ``possible``, the sure ones are all that there are.

    Returns
    -------
    pandas.Series
        ``precision``, ``recall``, ``error_rate``; missing where nothing was found, or nothing is
        sure.

    Raises
    ------
    DataError
        For unlike numbers of pairs, and entries that are no links: pairs of whole numbers >= 0.

    References
    ----------
    Och, F. J., & Ney, H. (2003). A systematic comparison of various statistical alignment models.
    Computational Linguistics, 29(1), 19-51.
    """
    import pandas as pd

    ours, sures = _as_sets("found", found), _as_sets("sure", sure)
    more = sures if possible is None else _as_sets("possible", possible)
    for name, other in (("sure", sures), ("possible", more)):
        if len(other) != len(ours):
            raise DataError(
                f"`found` has the links of {len(ours)} pairs and `{name}` those of {len(other)}."
            )
    in_sure = sum(len(a & s) for a, s in zip(ours, sures, strict=True))
    in_possible = sum(len(a & (p | s)) for a, s, p in zip(ours, sures, more, strict=True))
    made, wanted = sum(map(len, ours)), sum(map(len, sures))
    nan = float("nan")
    return pd.Series(
        {
            "precision": in_possible / made if made else nan,
            "recall": in_sure / wanted if wanted else nan,
            "error_rate": 1 - (in_sure + in_possible) / (made + wanted) if made + wanted else nan,
        }
    )


def alignment_error_rate(
    found: Sequence[Links], sure: Sequence[Links], possible: Sequence[Links] | None = None
) -> float:
    """Return the alignment error rate; see :func:`alignment_scores`.

    Parameters
    ----------
    found, sure, possible
        As there.

    Returns
    -------
    float
        0 if all sure links and none but possible ones were found; 1 if none of them.

    Raises
    ------
    DataError
        As there.
    """
    return float(alignment_scores(found, sure, possible)["error_rate"])


def symmetrised(
    forward: Sequence[Links], backward: Sequence[Links], method: str = "grow-diag"
) -> list[list[Link]]:
    """Make one alignment of those of both directions.

    A model gives each target word one source word; that of the other direction gives each source
    word one target word. Links that both have are the most precise.

    Parameters
    ----------
    forward : list of lists of links
        Links (source position, target position) by pair, of ``alignment(source, target)``.
    backward : list of lists of links
        Those of ``alignment(target, source)``: (target position, source position).
    method : {"grow-diag", "intersection", "union"}
        ``"grow-diag"`` begins with the intersection and adds links of the union beside a link
        that is in, also diagonally, whose source or target word has none yet, until there is none
        (Koehn, Och and Marcu 2003).

    Returns
    -------
    list of lists of links
        Sorted (source position, target position) by pair.

    Raises
    ------
    SpecError
        For an unknown method.
    DataError
        For unlike numbers of pairs, and entries that are no links: pairs of whole numbers >= 0.

    References
    ----------
    Koehn, P., Och, F. J., & Marcu, D. (2003). Statistical phrase-based translation. Proceedings of
    HLT-NAACL, 127-133.
    """
    check_one_of("method", method, METHODS)
    ours = _as_sets("forward", forward)
    theirs = [{(i, j) for j, i in links} for links in _as_sets("backward", backward)]
    if len(ours) != len(theirs):
        raise DataError(
            f"`forward` has the links of {len(ours)} pairs and `backward` those of {len(theirs)}."
        )
    return [sorted(_joined(a, b, method)) for a, b in zip(ours, theirs, strict=True)]


def _joined(forward: set[Link], backward: set[Link], method: str) -> set[Link]:
    if method == "grow-diag":
        return _grown(forward, backward)
    return forward & backward if method == "intersection" else forward | backward


def _grown(forward: set[Link], backward: set[Link]) -> set[Link]:
    """Intersection, grown into the union."""
    links, union = forward & backward, forward | backward
    sources, targets = {i for i, _ in links}, {j for _, j in links}
    grows = True
    while grows:
        grows = False
        for i, j in sorted(links):
            for di, dj in NEIGHBOURS:
                near = (i + di, j + dj)
                free = near[0] not in sources or near[1] not in targets
                if near in union and near not in links and free:
                    links.add(near)
                    sources.add(near[0])
                    targets.add(near[1])
                    grows = True
    return links


def _as_sets(name: str, alignments: Any) -> list[set[Link]]:
    """Links of each pair as a set."""
    wanted = f"`{name}` must have a list of links (source position, target position) for each"
    if isinstance(alignments, str) or not isinstance(alignments, Iterable):
        raise DataError(f"{wanted} sentence pair; it is {alignments!r:.100}.")
    sets: list[set[Link]] = []
    for number, links in enumerate(alignments):
        try:
            pairs = [(i, j) for i, j in links]
        except (TypeError, ValueError) as error:
            raise DataError(f"{wanted} sentence pair; pair {number} has {links!r:.100}.") from error
        for pair in pairs:
            if not all(is_whole(place) and place >= 0 for place in pair):
                raise DataError(
                    f"{wanted} sentence pair, whole numbers >= 0; pair {number} has {pair!r:.100}."
                )
        sets.append({(int(i), int(j)) for i, j in pairs})
    return sets

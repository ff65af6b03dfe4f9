"""The frontier of each moment beside the oracles', and what one number says of each, for every action and every k."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from flarekit.costs import Prices
from flarekit.eval.analysis.frontier.families import (
    ACTIONS,
    MOMENTS,
    Action,
    Matrix,
    depths,
    ends,
    family,
    kind_of,
    matrix,
)
from flarekit.eval.analysis.frontier.frontier import (
    ArmPoint,
    Rating,
    arm_points,
    end_range,
    hull,
    oracle_frontier,
    rating,
)
from flarekit.eval.analysis.frontier.oracles import Oracle, oracles
from flarekit.eval.results.groups import Group
from flarekit.trace import Moment


@dataclass(frozen=True, slots=True)
class Rated:
    """One moment's frontier in numbers."""

    moment: Moment
    arms: int
    """Arms of its own, without the ends."""
    best: float
    """The highest score of any of them, on the questions that it was picked by."""
    rating: Rating


@dataclass(frozen=True, slots=True)
class Frontiers:
    """The frontiers of all moments whose arms take one action and look up as many passages."""

    action: Action
    k: int | None
    """Passages of a look-up; None where nothing is looked up."""
    several: bool
    """Whether arms with this action look up different numbers of passages."""
    first: bool
    """Whether most of them look up this many."""
    corners: tuple[tuple[str, ArmPoint], ...]
    """The corners of every moment's hull and of the oracles' by their names, in the order of drawing.

    The arm of an oracle's corner is "", that of the cross-fitted oracle, a single point, its name.
    """
    rated: tuple[Rated, ...]
    oracles: tuple[Oracle, ...]


def frontiers(group: Group, prices: Prices) -> list[Frontiers]:
    """Those of every action and number of passages that some moment has arms for, where both ends are recorded.

    `DataError` where the arms finished no question together.
    """
    found = []
    for action in ACTIONS:
        several = depths(group, MOMENTS, action)
        for place, k in enumerate(several):
            made = _frontiers(group, action, k, prices)
            if made is not None:
                found.append(Frontiers(action, k, len(several) > 1, place == 0, *made))
    return found


def _frontiers(
    group: Group, action: Action, k: int | None, prices: Prices
) -> tuple[tuple[tuple[str, ArmPoint], ...], tuple[Rated, ...], tuple[Oracle, ...]] | None:
    shared = ends(group, action, k)
    sides = {moment: family(group, moment, action, k) for moment in MOMENTS}
    sides = {moment: own for moment, own in sides.items() if own}
    if len(shared) < 2 or not sides:
        return None
    figures = matrix(group, [*shared, *(arm for own in sides.values() for arm in own)], prices=prices)
    points = {point.arm: point for point in arm_points(figures)}
    by_cost = sorted(shared, key=lambda arm: points[arm].cost)
    weak, strong = by_cost[0], max(by_cost, key=lambda arm: points[arm].score)
    hulls = {moment: hull([points[arm] for arm in (*shared, *own)]) for moment, own in sides.items()}
    rated = []
    for moment, own in sides.items() if weak != strong else ():
        figured = matrix(group, [*shared, *own], prices=prices)
        costs = _range(points, shared)
        rated.append(Rated(moment, len(own), hulls[moment][-1].score, rating(figured, weak, strong, costs=costs)))
    always = _always(points, shared) or strong
    known = oracles(figures, weak, always)
    corners = [
        *((str(moment), corner) for moment, some in hulls.items() for corner in some),
        *_oracle_corners("oracle", figures),
        *_oracle_corners("two-arm oracle", matrix(group, [weak, always], prices=prices)),
        *((one.name, ArmPoint(one.name, one.cost, one.score.estimate)) for one in known[2:]),
    ]
    return tuple(corners), tuple(rated), tuple(known)


def _oracle_corners(name: str, figures: Matrix) -> Iterator[tuple[str, ArmPoint]]:
    return ((name, ArmPoint("", cost, score)) for cost, score in oracle_frontier(figures))


def _range(points: Mapping[str, ArmPoint], shared: Sequence[str]) -> tuple[float, float] | None:
    """The costs from never to always acting; None where there is no such line."""
    never, acting = _sides(points, shared)
    low, high = end_range(never[0], acting) if never and acting else (0.0, 0.0)
    return (low, high) if low < high else None


def _always(points: Mapping[str, ArmPoint], shared: Sequence[str]) -> str | None:
    """The end that always acts, by the cost to which the line between the ends goes."""
    never, acting = _sides(points, shared)
    top = end_range(never[0], acting)[1] if never and acting else None
    return next((one.arm for one in acting if one.cost == top), None)


def _sides(points: Mapping[str, ArmPoint], shared: Sequence[str]) -> tuple[list[ArmPoint], list[ArmPoint]]:
    acting = [points[arm] for arm in shared if kind_of(arm).actions]
    return [points[arm] for arm in shared if not kind_of(arm).actions], acting

"""How often a difference would be shown: by simulation, or by a formula where only a spread is known.

The **power** is how often a comparison shows a difference that is there. It depends on how the better arm's errors go
with those of the arms that it is held against, which no recorded interval tells: two arms that hardly differ have
differences that hardly spread, and a real improvement would not keep that. So the alternatives are stated, and bound
what may be:

- **independent errors**: the better arm answers each question as theirs answer some other one, and is right more often
  besides. They have nothing in common, so that differences spread as widely as they can.
- **strict improvement**: the better arm answers as theirs do, but for a share of the questions that it gets right in
  their place. Nothing is lost, so that differences spread as little as they can.

A simulated run draws questions from the recorded ones, adds the better arm, and is compared exactly as recorded runs
are. For moments that is the whole cross-fitted procedure, in which the better arm must first be found:
`flarekit.eval.analysis.frontier.power`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from flarekit.errors import ConfigError
from flarekit.stats.arrays import Floats

Alternative = Literal["independent errors", "strict improvement"]
ALTERNATIVES: tuple[Alternative, ...] = get_args(Alternative)
DIFFERENCE = 0.05
POWER = 0.8
ALPHA = 0.05
TRIALS = 200
_MOST = 10_000_000
"""Questions beyond which nobody will ask; the search ends there."""
Trial = Callable[[Alternative, int, np.random.Generator], float]
"""Makes one simulated run of so many questions, and gives the p-value of its comparison."""


@dataclass(frozen=True, slots=True)
class Power:
    """How often simulated runs showed the difference."""

    n: int
    """Questions of a run."""
    alternative: Alternative
    shown: int
    trials: int

    @property
    def estimate(self) -> float:
        """The share that showed it, 0 to 1."""
        return self.shown / self.trials

    @property
    def bounds(self) -> tuple[float, float]:
        """The 95% interval of the power itself, for there are so many trials and no more (Clopper and Pearson 1934)."""
        found = stats.binomtest(self.shown, self.trials).proportion_ci(0.95)
        return float(found.low), float(found.high)


def simulate(
    trial: Trial, alternative: Alternative, n: int, *, level: float, trials: int = TRIALS, seed: int = 0
) -> Iterator[Power]:
    """The power after every trial, the last one being the result. A difference is shown where p is at most `level`."""
    random = np.random.default_rng((seed, n, ALTERNATIVES.index(alternative)))
    shown = 0
    for done in range(1, trials + 1):
        shown += trial(alternative, n, random) <= level
        yield Power(n, alternative, shown, done)


def arm_trial(theirs: ArrayLike, difference: float) -> Trial:
    """Runs in which one arm scores `difference` more than an arm of the recorded scores `theirs`, shape (n,), 0 to 1.

    Tested as two fixed arms are: rights and wrongs by McNemar's exact test, other scores by Student's paired test, from
    whose result the paired bootstrap's hardly differs. `ConfigError` where `theirs` leaves no room for the difference.
    """
    scores = np.asarray(theirs, dtype=float)
    chance = flip_chance(scores, difference)
    binary = bool(np.isin(scores, (0, 1)).all())

    def trial(alternative: Alternative, n: int, random: np.random.Generator) -> float:
        base = scores[random.integers(0, scores.size, n)]
        like = scores[random.integers(0, scores.size, n)] if alternative == "independent errors" else base
        return _paired_p(np.where(random.uniform(size=n) < chance, 1.0, like) - base, binary)

    return trial


def questions_needed(spread: float, difference: float, *, power: float = POWER, alpha: float = ALPHA) -> int:
    """The fewest questions that show a mean difference of two fixed arms with that power, by Student's paired test.

    n = ((t(1 - alpha/2) + t(power)) · spread / difference)², the quantiles being those of n - 1 degrees of freedom: the
    normal theory's formula (Cohen 1988, section 2.4), corrected for a spread that is itself estimated. `spread` is the
    standard deviation that the paired differences would have *if the difference were there*.
    """
    _check(difference, power, alpha)
    if not (math.isfinite(spread) and spread >= 0):
        raise ConfigError(f"a standard deviation is a number of at least 0, not {spread:g}")
    return _fewest(lambda n: smallest_difference(n, spread, power=power, alpha=alpha) <= difference)


def smallest_difference(n: int, spread: float, *, power: float = POWER, alpha: float = ALPHA) -> float:
    """The smallest mean difference that n >= 2 questions show with that power: the inverse of `questions_needed`."""
    return float(stats.t.isf(alpha / 2, n - 1) + stats.t.ppf(power, n - 1)) * spread / math.sqrt(n)


def flip_chance(scores: Floats, difference: float) -> float:
    """With what chance a question must be answered right, whatever it was before, for that much more mean score."""
    room = float(1 - scores.mean())
    if not 0 < difference <= room:
        raise ConfigError(f"a difference of {difference:g} has no room: theirs score {1 - room:.2f} already")
    return difference / room


def _paired_p(differences: Floats, binary: bool) -> float:
    if binary:
        ours, theirs = int((differences > 0).sum()), int((differences < 0).sum())
        return min(1.0, 2 * float(stats.binom.cdf(min(ours, theirs), ours + theirs, 0.5)))
    error = differences.std(ddof=1) / math.sqrt(differences.size)
    return 2 * float(stats.t.sf(abs(differences.mean()) / error, differences.size - 1)) if error else 1.0


def _fewest(enough: Callable[[int], bool]) -> int:
    """The smallest n >= 2 that is enough, where more always are."""
    high = 2
    while not enough(high):
        if high > _MOST:
            raise ConfigError(f"not even {_MOST:,} questions would show that difference")
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _check(difference: float, power: float, alpha: float) -> None:
    for name, value in (("difference", difference), ("power", power), ("alpha", alpha)):
        if not 0 < value < 1:
            raise ConfigError(f"{name}={value:g} is outside its range: it lies between 0 and 1")
    if power <= alpha:
        raise ConfigError(f"a power of {power:g} is no more than alpha, which chance alone reaches")

"""Calibrates a policy's threshold on a recorded run: to a rate of action, a cost, or a risk with a guarantee.

`flarekit.eval.calibration.acting` tells what the policy's trigger would have seen, and what acting or not comes to;
`flarekit.eval.calibration.thresholds` how a threshold is chosen, and why its promise holds;
`flarekit.eval.calibration.promises` says it in sentences.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np

from flarekit.costs import Prices
from flarekit.errors import ConfigError, DataError
from flarekit.eval.calibration import thresholds
from flarekit.eval.calibration.acting import Sample, calibrated_rule, read_sample
from flarekit.eval.calibration.thresholds import Scale
from flarekit.eval.runs.recorded import RecordedRun
from flarekit.policies import POLICIES, Policy, parse_policy
from flarekit.policies.spec import PolicySpec, parse_spec
from flarekit.stats.bootstrap import mean_interval
from flarekit.stats.intervals import Interval, share_interval
from flarekit.trace import Moment

Kind = Literal["rate", "cost", "risk", "wrong-accepted"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a threshold is to reach."""

    kind: Kind
    amount: float
    confidence: float = 0.9
    """Of "wrong-accepted": the probability, over draws of the calibration questions, that its promise holds."""

    @property
    def text(self) -> str:
        """As it was asked for."""
        return f"{self.kind}={self.amount:g}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a threshold does on a sample: shares with Wilson's 95% intervals, the cost with its bootstrap interval."""

    n: int
    rate: Interval
    """Share that is acted on."""
    risk: Interval
    """Share of all questions whose answer is accepted and wrong."""
    wrong_accepted: Interval
    """Share of the accepted answers that are wrong; NaN where none is accepted."""
    cost: Interval | None
    """Mean per question, in the unit of the prices; None where what acting costs is not on record."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A calibrated policy."""

    policy: str
    """Its specification."""
    threshold: float
    """On the signal's own scale, which is 1 - theta for flare."""
    signal: str
    moment: Moment
    target: Target
    base: str
    """The arm whose answer is accepted when the trigger doesn't fire."""
    helped: str | None
    """The arm that tells what acting costs."""
    left_out: int
    """Questions that the signal was trained on, and that therefore don't count."""
    unread: int
    """Questions without a value of the signal: where a run goes on, those that take longest are missing."""
    unit: str
    """Of the costs."""
    reached: Outcome
    """On the questions that the threshold was chosen on."""
    judged: Outcome | None
    """On the others, where some were held out."""


def parse_target(text: str, confidence: float = 0.9) -> Target:
    """The target that `text` writes down, such as "rate=0.3".

    `ConfigError` for an unknown kind, or an amount or a confidence outside its range.
    """
    kind, _, written = text.partition("=")
    try:
        amount = float(written)
    except ValueError:
        amount = math.nan
    if kind not in get_args(Kind) or not 0 <= amount < math.inf:
        kinds = ", ".join(f"{name}=…" for name in get_args(Kind))
        raise ConfigError(f"a target is one of {kinds} with a number behind it, such as rate=0.3, not {text!r}")
    if (kind == "rate" and amount > 1) or (kind in ("risk", "wrong-accepted") and not 0 < amount < 1):
        raise ConfigError(f"the target {text} is a share, between 0 and 1")
    if not 0 < confidence < 1:
        raise ConfigError(f"the confidence lies between 0 and 1, not at {confidence:g}")
    return Target(cast(Kind, kind), amount, confidence)


def calibrate(
    run: RecordedRun,
    policy: str,
    target: Target,
    *,
    prices: Prices | None = None,
    split: float | None = None,
    seed: int = 0,
) -> Calibrated:
    """The policy with the threshold of its first rule that asks a signal chosen for the target.

    `split` is the share of the questions to calibrate on, drawn by `seed`; the others judge the result. `ConfigError`
    where the policy has no threshold or none reaches the target; `DataError` where the run lacks what that needs.
    """
    prices, parameter = prices or Prices(), _parameter(policy)
    # A threshold of 0 is on every signal's scale; the policy's own default need not be.
    lowest = _with_threshold(policy, parameter, Scale(parameter).written(0.0))
    trigger = calibrated_rule(lowest).trigger
    whole = read_sample(run, lowest, prices, needs_costs=target.kind == "cost")
    sample, rest = _split(whole, split, seed)
    scale = Scale(parameter, trigger.signal.high)
    threshold = _choose(sample, target, scale)
    made = _with_threshold(policy, parameter, scale.written(threshold))
    return Calibrated(
        policy=made.spec,
        threshold=threshold,
        signal=trigger.signal.name,
        moment=trigger.moment,
        target=target,
        base=sample.base,
        helped=sample.helped,
        left_out=sample.left_out,
        unread=sample.unread,
        unit=prices.unit,
        reached=outcome(sample, threshold),
        judged=outcome(rest, threshold) if rest else None,
    )


def outcome(sample: Sample, threshold: float) -> Outcome:
    """What the threshold does on the sample."""
    accepted = sample.values < threshold
    n, kept, bad = accepted.size, int(accepted.sum()), int((accepted & sample.wrong).sum())
    cost = None
    if sample.left is not None and sample.acted is not None:
        cost = mean_interval(np.where(accepted, sample.left, sample.acted))
    return Outcome(n, share_interval(n - kept, n), share_interval(bad, n), share_interval(bad, kept), cost)


def _parameter(policy: str) -> str:
    """The name of the policy's threshold; a `ConfigError` where it has none."""
    family = parse_spec(policy).family
    if family not in POLICIES:
        raise ConfigError(f"no policy is called {family!r}; there are {', '.join(POLICIES)}")
    if (name := parse_spec(policy).threshold_name) is None:
        raise ConfigError(f"policy {family} has no threshold to calibrate")
    return name


def _with_threshold(policy: str, parameter: str, written: str) -> Policy:
    spec = parse_spec(policy).without(parameter)
    return parse_policy(str(PolicySpec(spec.family, {**spec.parameters, parameter: written})))


def _split(sample: Sample, share_: float | None, seed: int) -> tuple[Sample, Sample | None]:
    """A share of the questions and the rest; those of the same words are on one side."""
    if share_ is None:
        return sample, None
    if not 0 < share_ < 1:
        raise ConfigError(f"the split is the share of questions to calibrate on, between 0 and 1, not {share_:g}")
    numbers, sizes = np.unique(sample.said, return_counts=True)
    order = np.random.default_rng(seed).permutation(numbers.size)
    first = np.isin(sample.said, numbers[order[sizes[order].cumsum() <= round(share_ * sample.said.size)]])
    if first.all() or not first.any():
        raise DataError(f"{first.size} questions cannot be split into a share of {share_:g} and a rest")
    return sample.part(first), sample.part(~first)


def _choose(sample: Sample, target: Target, scale: Scale) -> float:
    values, wrong, amount = sample.values, sample.wrong, target.amount
    match target.kind:
        case "rate":
            return thresholds.by_rate(values, amount, scale)
        case "risk":
            return thresholds.by_risk(values, wrong, amount, scale)
        case "wrong-accepted":
            return thresholds.by_wrong_accepted(values, wrong, amount, target.confidence, scale)
        case "cost":
            assert sample.left is not None  # noqa: S101 - `read_sample` was told that costs are needed
            assert sample.acted is not None  # noqa: S101
            return thresholds.by_cost(values, sample.left, sample.acted, amount, scale)

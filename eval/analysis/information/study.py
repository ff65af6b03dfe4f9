"""Recorded answers beside what became of them: one model's answers to one dataset, alone and with help.

This is what the information curve is drawn from. Everything is in the order of the questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flarekit.costs import Prices, price
from flarekit.errors import DataError
from flarekit.escalation.baselines import strata_of
from flarekit.escalation.outcomes import Outcomes, Target, find_arm
from flarekit.eval.replay.readings import Answer, answer_of, probe_readings, unhelped
from flarekit.eval.replay.trajectories import trajectories, watches
from flarekit.eval.results.groups import Group, Result
from flarekit.eval.runs.recorded import RecordedRun
from flarekit.stats.arrays import Floats

TARGETS: tuple[Target, ...] = ("wrong", "helps", "hurts")
"""The weak model is wrong; it is wrong and help makes it better; help makes it worse."""


@dataclass(frozen=True, slots=True)
class Study:
    """Questions that the weak model answered alone, with at least one token, and with help."""

    dataset: str
    models: str
    outcomes: Outcomes
    """Of the arm alone and the helped one, in this order."""
    answers: Sequence[Answer]
    """Those of the arm alone."""
    streamed: Mapping[str, Floats]
    """The token signals by name, each of shape (questions, longest); see `trajectories`."""
    asked: Mapping[str, Floats]
    """The probes before generation by name, each of shape (questions,), NaN where it was not recorded."""
    kinds: Sequence[str] = ()
    """The dataset's own type of each question; empty where it tells none."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each answer. Shape (questions,)."""
        return np.array([len(answer.tokens) for answer in self.answers], dtype=np.int64)

    @property
    def strata(self) -> tuple[str, list[str]]:
        """Where the questions' types come from, and the type of each, within which figures are given."""
        return strata_of(self.outcomes.questions, self.kinds)

    def labels(self, target: Target) -> Floats:
        """1 where the target came true, else 0. Shape (questions,)."""
        return self.outcomes.labels(0, 1, target).astype(float)


def read_study(group: Group, *, weak: str | None = None, helped: str = "rag") -> Study:
    """The questions that both arms answered: `weak` (closed-book, or `watch`, unless given) and `helped`.

    An answer without a token is left out. `ConfigError` where an arm is not recorded, or fits several; `DataError`
    where no question is left.
    """
    run = _as_run(group)
    names = list(group.arms)
    own = names[find_arm(names, weak)] if weak else next(iter(unhelped(run).values())).policy
    alone, better = group.arms[own].results, group.arms[names[find_arm(names, helped)]].results
    read = {key: answer_of(alone[key].trace) for key in group.questions if key in alone and key in better}
    answers = {key: answer for key, answer in read.items() if answer.tokens}
    if not answers:
        raise DataError(f"{run.path}: {own} and {helped} have no question in common that {own} answered with a token")
    pairs = {key: (alone[key], better[key]) for key in answers}
    outcomes = _outcomes(group, pairs)
    asked = {one.signal: _by_question(one.values, outcomes.ids) for one in probe_readings(run, "pre")}
    listed = list(answers.values())
    kinds = [group.questions[key].kind for key in answers]
    return Study(group.dataset, group.models, outcomes, listed, trajectories(listed, watches()), asked, kinds)


def _as_run(group: Group) -> RecordedRun:
    """The group's runs as one, so that what reads a run reads them all."""
    first = group.runs[0]
    traces = {policy: {key: one.trace for key, one in arm.results.items()} for policy, arm in group.arms.items()}
    return RecordedRun(first.path, first.manifest, group.questions, traces)


def _outcomes(group: Group, pairs: Mapping[str, tuple[Result, Result]]) -> Outcomes:
    arms = [result.trace.policy for result in next(iter(pairs.values()))]
    scores = np.array([[one.f1 for one in pair] for pair in pairs.values()])
    costs = np.array([[price(one.costs, Prices()) for one in pair] for pair in pairs.values()])
    return Outcomes(list(pairs), [group.questions[key].text for key in pairs], arms, scores, costs)


def _by_question(values: Mapping[str, float], ids: Sequence[str]) -> Floats:
    return np.array([values.get(id_, np.nan) for id_ in ids], dtype=float)

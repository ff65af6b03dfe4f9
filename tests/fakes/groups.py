"""Groups of recorded arms with known skill and cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fakes.run_directories import retrieved, segment, trace, write_run
from flarekit.eval.data.dataset import Question
from flarekit.eval.results.groups import Group, load_runs
from flarekit.trace import HandedOver, Trace

N = 60


KEYS = [f"{place:03}" for place in range(N)]


QUESTIONS = [Question(key, f"Question {key}?", ("Paris",), ()) for key in KEYS]


CHANCE = np.random.default_rng(5).uniform(size=N)
"""How easy each question is: an arm of skill s is right where this is below s."""


Make = Callable[[str, str, bool], Trace]


def plain(key: str, policy: str, right: bool) -> Trace:
    """Costs 29: a prompt of 100 and four tokens."""
    return trace(key, policy, "Paris" if right else "Rome", segment("It is in there"))


def looked_up(key: str, policy: str, right: bool) -> Trace:
    """Costs 55: another hundred to read, and the look-up."""
    events = retrieved(f"Question {key}?", "x"), segment("It is in there", prompt=200)
    return trace(key, policy, "Paris" if right else "Rome", *events)


def handed_over(key: str, policy: str, right: bool) -> Trace:
    """Costs 29 and 87: the same answer by the strong model."""
    events = segment("It is in there"), HandedOver("weak", "strong", ""), segment("It is in there", role="strong")
    return trace(key, policy, "Paris" if right else "Rome", *events)


def sometimes(skill: float, help_: Make) -> Make:
    """An arm that gets help on every second question, and is right where the question is easy enough for `skill`."""

    def make(key: str, policy: str, right: bool) -> Trace:
        del right
        return (help_ if int(key) % 2 else plain)(key, policy, bool(CHANCE[int(key)] < skill))

    return make


def group_of(path: Path, arms: dict[str, Make], skills: dict[str, float], keys: Sequence[str] = KEYS) -> Group:
    traces = [
        make(key, name, bool(CHANCE[int(key)] < skills.get(name, 0))) for name, make in arms.items() for key in keys
    ]
    questions = [question for question in QUESTIONS if question.id in keys]
    [group] = load_runs([write_run(path / "run", questions, traces, strong="big")])
    return group


ENDS: dict[str, Make] = {"closed-book": plain, "rag": looked_up, "strong": handed_over}


SKILLS = {"closed-book": 0.2, "rag": 0.4, "strong": 0.4}

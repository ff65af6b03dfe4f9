"""An action that no module of flarekit knows: a session takes it as it takes its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from fakes.scripted import ScriptedEngine
from flarekit import ConfigError, Fired, Policy, Rule, Session, Trigger, find_signal
from flarekit.actions import Action, ActionContext, Need, Next, QueryContext

UNSURE = ("Emma", " was", " born", " in", (" Rome", 0.3), ".")
SURE = ("Emma", " was", " born", " in", " Reus", ".", " So", " the", " answer", " is", " Reus", ".")


@dataclass(frozen=True, slots=True)
class Warn(Action):
    """Tells the model to be careful, and has it write the sentence again."""

    note: str
    name: str = "warn"

    async def act(self, context: ActionContext, draft: QueryContext) -> Next:
        context.notes = [*context.notes, self.note]
        return "generate"


@dataclass(frozen=True, slots=True)
class CallForHelp(Warn):
    needs: ClassVar[Need | None] = "strong"


def policy(action: Action) -> Policy:
    return Policy("own", (Rule(Trigger(find_signal("min-prob"), 0.5, "mid"), action),))


async def test_a_session_takes_an_action_of_somebody_elses() -> None:
    engine = ScriptedEngine([*UNSURE, " So"], SURE)
    trace = await Session(policy(Warn("Be careful.")), "Where?", weak=engine).run()
    assert engine.prompts[1].endswith("Question: Where?\nBe careful.\nAnswer:")
    assert trace.answer == "Reus"
    assert [event.action for event in trace.events if isinstance(event, Fired)] == ["warn"]


def test_a_session_gives_an_action_what_it_needs() -> None:
    assert policy(CallForHelp("")).escalates
    with pytest.raises(ConfigError, match="strong engine"):
        Session(policy(CallForHelp("")), "?", weak=ScriptedEngine())

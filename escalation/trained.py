"""Trained routers as the core uses them: signals and choosers, kept in a folder and opened from it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flarekit.engines.engine import Engine
from flarekit.escalation import store as folders
from flarekit.escalation.base import Fitted
from flarekit.escalation.registry import find_kind
from flarekit.escalation.routers.automix import AnswerRouter
from flarekit.escalation.routers.in_context import ask, shown
from flarekit.escalation.routers.mid_lr import MidRouter
from flarekit.policies.spec import split_arm
from flarekit.prompts.few_shot import Prompt
from flarekit.signals.question import probe_of
from flarekit.stats.arrays import Floats
from flarekit.tokens import Token
from flarekit.trace import Probe


@dataclass(frozen=True, slots=True)
class ScoreRouter:
    """P(label) of a question; a pre-generation signal that costs no token."""

    manifest: dict[str, Any]
    fitted: Fitted
    name: str
    source: str
    needs: str = "nothing"
    high: float = 1.0

    def probability(self, questions: Sequence[str]) -> Floats:
        """P(label) of each of at least one question. Shape (questions,), 0 to 1."""
        return np.asarray(find_kind(self.name).function("predict")(self.fitted, questions))

    async def measure(self, question: str, engine: Engine, prompt: Prompt) -> Probe:
        """P(label) of this question, for nothing. An encoder takes its time, so other sessions go on meanwhile."""
        found = await asyncio.to_thread(self.probability, [question])
        return Probe(self.name, float(found[0]), "weak")


@dataclass(frozen=True, slots=True)
class AskedRouter:
    """P(yes) of a model that is asked, with examples, whether it needs help; it pays for reading the question."""

    manifest: dict[str, Any]
    fitted: Fitted
    name: str
    source: str
    needs: str = "allowed_token_ids"
    high: float = 1.0

    async def measure(self, question: str, engine: Engine, prompt: Prompt) -> Probe:
        """P(yes), 0 to 1, with the tokens that asking took."""
        examples = await asyncio.to_thread(shown, self.fitted, question)
        value, usage = await ask(question, engine, examples)
        return probe_of(self.name, value, usage)


@dataclass(frozen=True, slots=True)
class ArmRouter:
    """Chooses one of several arms for a question, before generation and without a token."""

    manifest: dict[str, Any]
    fitted: Fitted
    name: str
    source: str
    arms: Sequence[str]
    """Policy specifications, or "MODEL/specification"."""

    def choose(self, questions: Sequence[str], tradeoff: float | None = None) -> Sequence[int]:
        """The place of an arm for each of at least one question; `tradeoff` None stands for the trained one.

        What a trade-off means is the kind's own: see its module. `ConfigError` where it has none, or not that one.
        """
        found: NDArray[np.int64] = find_kind(self.name).function("choose")(self.fitted, questions, tradeoff)
        return [int(place) for place in found]


Router = ScoreRouter | AskedRouter | ArmRouter | MidRouter | AnswerRouter
_QUESTION = "In which town was the architect of the opera house born?"
_ANSWER = [Token(text, 0, -0.5, {text: -0.5, " a": -1.2}) for text in (" In", " Riga", ".")]


def save_router(router: Router, folder: Path) -> None:
    """Write the router into `folder`; `DataError` where that cannot be written."""
    folders.save(router.manifest, router.fitted, folder)


def load_router(kind: str, folder: Path) -> Router:
    """The router of that kind in `folder`, tried out on a question; `DataError` where it is not whole."""

    def check(fitted: Fitted) -> None:
        find_kind(kind).function("check")(fitted)

    manifest, fitted = folders.load(folder, kind, check)
    try:
        router = as_router(manifest, fitted)
        _try(router)
    except Exception as error:  # what a folder from anywhere holds may fail in any way once it is used
        raise folders.not_whole(folder, error) from error
    return router


def _try(router: Router) -> None:
    """Ask the router about a question, so that a folder fails where it is opened; `ValueError` for no probability."""
    if isinstance(router, ArmRouter):
        if not all(isinstance(arm, str) and split_arm(arm)[1] for arm in router.arms):
            raise ValueError("arms are specifications of policies")
        [place] = router.choose([_QUESTION])
        if not 0 <= place < len(router.arms):
            raise ValueError(f"it chooses arm {place} of {len(router.arms)}")
        return
    if isinstance(router, AskedRouter):
        shown(router.fitted, _QUESTION)
        return
    if isinstance(router, AnswerRouter):
        return  # whose check has seen to it
    value = router.probability([_QUESTION])[0] if isinstance(router, ScoreRouter) else router(_ANSWER)
    if not 0 <= value <= 1:
        raise ValueError(f"it gives {value:g} for a probability")


def loader(kind: str) -> Callable[[Path], Router]:
    """`load_router` for one kind."""
    return lambda folder: load_router(kind, folder)


def as_router(manifest: dict[str, Any], fitted: Fitted) -> Router:
    """What was fitted, in the shape that its kind has in the core."""
    kind = find_kind(manifest["kind"])
    match kind.shape:
        case "score":
            return ScoreRouter(manifest, fitted, kind.name, kind.paper)
        case "asked":
            return AskedRouter(manifest, fitted, kind.name, kind.paper)
        case "chooser":
            return ArmRouter(manifest, fitted, kind.name, kind.paper, tuple(fitted.settings["arm_names"]))
        case "stream":
            return MidRouter(manifest, fitted)
        case "answer":
            return AnswerRouter(manifest, fitted)

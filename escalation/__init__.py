"""Who answers: routers that decide before generation, and what an answer costs.

Importing this loads no classifier and no encoder: a kind's libraries are imported when a router of it is loaded.
"""

from collections.abc import Sequence
from pathlib import Path

from flarekit.costs import Prices, load_prices, price
from flarekit.escalation.outcomes import Outcomes, Target, label
from flarekit.escalation.registry import KINDS
from flarekit.signals.answer import GROUPINGS, Grouping
from flarekit.signals.question import ROUTERS, Router


def _register(kind: str) -> None:
    def load(folder: Path) -> Router:
        from flarekit.escalation.trained import load_router

        return load_router(kind, folder)

    ROUTERS[kind] = load


def _entailment(model: str) -> Grouping:
    def same_entailment(answers: Sequence[str], question: str) -> Sequence[int]:
        from flarekit.signals.entailment import same_entailment

        return same_entailment(answers, question, model)

    return same_entailment


GROUPINGS["entailment"] = _entailment
for _kind in KINDS:
    _register(_kind)

__all__ = ["KINDS", "Outcomes", "Prices", "Target", "label", "load_prices", "price"]

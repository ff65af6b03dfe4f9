"""`in-context`: the model itself is asked whether it would need to look a question up, shown how earlier ones went.

Examples of questions with their outcomes stand before the question, and the score is what the model's next token says:
P(yes) against P(no). Related: P(IK) of Kadavath et al. 2022 (arXiv:2207.05221, section 5), and self-knowledge by
retrieved examples (SKR, Wang et al. 2023, arXiv:2310.05002, section 3.2). It reads the prompt once and generates
nothing that is kept, so it is not free as trained classifiers are, and is judged only where an engine answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flarekit.engines.encoders import DEFAULT
from flarekit.engines.engine import Engine
from flarekit.errors import DataError
from flarekit.escalation.base import Fitted, Task, at_least, embed, embedded
from flarekit.prompts.few_shot import one_line
from flarekit.signals.question import ask_yes_or_no
from flarekit.tokens import Usage

ASKED = "Would you need to look this up to answer it correctly?"
_INSTRUCTION = "For each question, say whether you would need to look it up to answer it correctly: yes or no."
Choice = Literal["fixed", "nearest"]


def ask_prompt(question: str, examples: Sequence[tuple[str, bool]] = ()) -> str:
    """The text after which " yes" or " no" says whether help is needed; `examples` are (question, needed it)."""
    shown = [f"Question: {one_line(text)}\n{ASKED} {'yes' if needed else 'no'}\n" for text, needed in examples]
    return "\n".join([f"{_INSTRUCTION}\n", *shown, f"Question: {one_line(question)}\n{ASKED}"])


async def ask(question: str, engine: Engine, examples: Sequence[tuple[str, bool]] = ()) -> tuple[float, Usage]:
    """P(yes) against P(no) as the model's next word after `ask_prompt`, 0 to 1, with what asking cost."""
    return await ask_yes_or_no(engine, ask_prompt(question, examples))


def fit(task: Task, *, examples: int = 8, choice: Choice = "fixed", encoder: str = DEFAULT) -> Fitted:
    """Keep examples, half of them with the label: by the seed (`fixed`), or all, of which the nearest are shown."""
    at_least("examples", examples, 2)
    sides = [np.flatnonzero((task.labels > 0.5) == side) for side in (True, False)]
    if not all(len(side) for side in sides):
        raise DataError("every question has the same label, so there is nothing to show")
    settings = {"examples": examples, "choice": choice}
    if choice == "nearest":
        rows = np.arange(len(task.questions))
        arrays = {"embeddings": embed(encoder, task.questions).astype(np.float32)}
        return Fitted(settings | {"encoder": encoder}, arrays, {"examples": _kept(task, rows)})
    rng = np.random.default_rng(task.seed)
    rows = rng.permutation(np.concatenate([rng.permutation(side)[: examples // 2] for side in sides]))
    return Fitted(settings, {}, {"examples": _kept(task, rows)})


def shown(fitted: Fitted, question: str) -> list[tuple[str, bool]]:
    """The examples that stand before a question; of nearest ones the nearest stands last, next to it."""
    examples = [(text, bool(needed)) for text, needed in fitted.texts["examples"]]
    if fitted.settings["choice"] == "fixed":
        return examples
    known = fitted.arrays["embeddings"]
    order = np.argsort(known @ embedded(fitted, [question], known.shape[1])[0], kind="stable")
    half = fitted.settings["examples"] // 2
    chosen = {row for side in (True, False) for row in [row for row in order if examples[row][1] == side][-half:]}
    return [examples[row] for row in order if row in chosen]


def check(fitted: Fitted) -> None:
    """`ValueError` unless the examples are questions with a label each."""
    examples = fitted.texts["examples"]
    if not isinstance(examples, list) or not all(
        isinstance(one, list) and len(one) == 2 and isinstance(one[0], str) and isinstance(one[1], bool)
        for one in examples
    ):
        raise ValueError("a list of questions, each with true or false, is expected")
    if fitted.settings["choice"] == "nearest":
        fitted.expect(embeddings=(len(examples), "d"))


def _kept(task: Task, rows: NDArray[np.int64]) -> list[list[str | bool]]:
    return [[task.questions[row], bool(task.labels[row] > 0.5)] for row in rows]

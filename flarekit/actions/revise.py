"""Answer again after a criticism (Self-Refine, Madaan et al. 2023, arXiv:2303.17651)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flarekit.actions.base import Action, ActionContext, Next
from flarekit.actions.queries import QueryContext
from flarekit.retrieval import Passage
from flarekit.signals.sampling import generate
from flarekit.tokens import text_of


@dataclass(frozen=True, slots=True)
class Revise(Action):
    """Have the engine at work criticise its answer, then answer again with that criticism in the prompt."""

    restart: bool = True
    keep: bool = False
    name: str = "revise"

    async def act(self, context: ActionContext, draft: QueryContext) -> Next:
        """Generate the criticism; it and the answer are part of the prompt from then on."""
        form, engine, began = context.form, context.engine, context.now()
        answer = context.text.strip()

        async def render(passages: Sequence[Passage]) -> list[int]:
            return await form.criticism_ids(engine, context.question, answer, passages)

        ids = await context.fit(render)
        segment = await generate(engine, ids, context.role, max_tokens=form.max_criticism_tokens, stop=form.stop)
        context.skip(segment.seconds)
        segment.kept = 0
        context.record_stream(segment, began)
        context.notes = [f"Earlier answer: {answer}", f"Criticism of it: {text_of(segment.tokens).strip()}"]
        return "generate"

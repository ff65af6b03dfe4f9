"""Answer by self-consistency (Wang et al. 2022, arXiv:2203.11171)."""

from __future__ import annotations

from dataclasses import dataclass

from flarekit.actions.base import Action, ActionContext, Next
from flarekit.actions.queries import QueryContext
from flarekit.signals.sampling import answers_of, majority, same_words, sample_answers


@dataclass(frozen=True, slots=True)
class Vote(Action):
    """Sample several whole answers and take the first of those that give the commonest one."""

    samples: int
    temperature: float
    restart: bool = False
    keep: bool = False
    name: str = "vote"

    async def act(self, context: ActionContext, draft: QueryContext) -> Next:
        """Sample at the same time, seeded, from the committed text; all but the winner is discarded."""
        began = context.now()
        segments = await sample_answers(
            context.engine,
            await context.prompt_ids(),
            context.form,
            role=context.role,
            samples=self.samples,
            temperature=self.temperature,
            limit=context.limit,
        )
        context.skip(max(segment.seconds for segment in segments))
        answers = context.votes[self.temperature] = answers_of(segments, context.form)
        winner, _ = majority(same_words(answers, context.question))
        for place, segment in enumerate(segments):
            segment.kept = segment.kept if place == winner else 0
            context.record_stream(segment, began)
        context.answer_with(segments[winner].tokens[: segments[winner].kept])
        return "answered"

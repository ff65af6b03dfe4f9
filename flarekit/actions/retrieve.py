"""Look passages up, and go on with them in the prompt."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from flarekit.actions.base import Action, ActionContext, Need, Next
from flarekit.actions.queries import Query, QueryContext
from flarekit.errors import RetrieverFailed, told
from flarekit.retrieval import Hit, Passage
from flarekit.trace import Failed, Retrieved


@dataclass(frozen=True, slots=True)
class Retrieve(Action):
    """Look passages up, and generate the sentence (or with `restart` the whole answer) again with them."""

    query: Query
    k: int
    """How many passages are looked up."""
    restart: bool = False
    keep: bool = False
    """Keep the draft: the passages serve what comes after it."""
    gather: int = 0
    """Add the passages to those already in the prompt, up to so many; 0: they take their place."""
    name: str = "retrieve"
    needs: ClassVar[Need | None] = "retriever"

    async def act(self, context: ActionContext, draft: QueryContext) -> Next:
        """Look up; a draft that nothing new was found for is kept."""
        hits = await self._look_up(context, draft)
        passages = self._merged(context.passages, hits)
        if not self.keep and (not hits or passages == context.passages):
            return "keep draft"
        context.passages = passages
        return "generate"

    async def _look_up(self, context: ActionContext, draft: QueryContext) -> Sequence[Hit]:
        """What is found; nothing where the retriever fails and the session is not strict."""
        began = context.now()
        query = self.query(draft)
        assert context.retriever is not None  # noqa: S101 - checked when the session was made
        try:
            async with asyncio.timeout(context.patience):
                hits = tuple(await context.retriever.search(query, self.k))
        except Exception as error:  # a retriever may be anybody's code, and a search engine may fail in any way
            if context.strict:
                raise
            reason, public = _reasons(error, context.patience)
            context.record(Failed("retriever", reason, context.now(), public))
            return ()
        context.record(Retrieved(query, hits, began, context.now() - began))
        return hits

    def _merged(self, before: list[Passage], hits: Sequence[Hit]) -> list[Passage]:
        """The passages that the prompt holds after a look-up: never none where there were some."""
        found = [hit.passage for hit in hits]
        if self.gather:
            return list(dict.fromkeys([*before, *found]))[: self.gather]
        return found or before


def _reasons(error: Exception, patience: float | None) -> tuple[str, str]:
    """Why a look-up failed: in full, and without what the client must not see."""
    if isinstance(error, TimeoutError):
        late = f"no answer within {patience:g} s" if patience else "no answer within its time-out"
        return late, late
    if isinstance(error, RetrieverFailed):
        return str(error), told(error)
    return " ".join(f"{type(error).__name__}: {error}".split()), told(error)

"""What a fired trigger does, one module an action, and the queries of a look-up."""

from flarekit.actions.base import Action, ActionContext, Lender, Need, Next
from flarekit.actions.escalate import Escalate
from flarekit.actions.queries import (
    Query,
    QueryContext,
    last_tokens_query,
    masked_draft_query,
    question_and_answer_query,
    question_query,
    requested_query,
    sentence_query,
    uncertain_words_query,
)
from flarekit.actions.retrieve import Retrieve
from flarekit.actions.revise import Revise
from flarekit.actions.vote import Vote
from flarekit.actions.watch import Watch

__all__ = [
    "Action",
    "ActionContext",
    "Escalate",
    "Lender",
    "Need",
    "Next",
    "Query",
    "QueryContext",
    "Retrieve",
    "Revise",
    "Vote",
    "Watch",
    "last_tokens_query",
    "masked_draft_query",
    "question_and_answer_query",
    "question_query",
    "requested_query",
    "sentence_query",
    "uncertain_words_query",
]

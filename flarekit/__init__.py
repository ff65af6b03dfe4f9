"""Watch a vLLM stream's token probabilities, and retrieve or escalate in the middle of a sentence.

::

    async with VLLMEngine("http://localhost:8000") as engine:
        session = Session(parse_policy("flare"), "Who ...?", weak=engine, retriever=retriever)
        async for event in session:
            print(event)

The core is exported here. Around it stand `flarekit.retrievers` (corpora and indexes), `flarekit.escalation` (routers
and the cost model) and `flarekit.eval` (datasets, runs, comparison, report).
"""

from flarekit.actions import (
    Action,
    Escalate,
    Query,
    QueryContext,
    Retrieve,
    Revise,
    Vote,
    last_tokens_query,
    masked_draft_query,
    question_and_answer_query,
    question_query,
    requested_query,
    sentence_query,
    uncertain_words_query,
)
from flarekit.engines.engine import Engine, Stream
from flarekit.engines.vllm import VLLMEngine
from flarekit.errors import (
    BadLogprobs,
    ConfigError,
    DataError,
    EngineError,
    EngineUnavailable,
    FlarekitError,
    MissingCapability,
    PromptTooLong,
    RequestRejected,
    RunError,
    StreamBroken,
    UnknownModel,
)
from flarekit.policies import POLICIES, Budget, Policy, Rule, parse_policy, policy, with_settings
from flarekit.policies.triggers import Trigger, always
from flarekit.prompts.few_shot import Exemplar, Prompt
from flarekit.retrieval import Hit, Passage, Retriever
from flarekit.session.monitor import Monitor
from flarekit.session.session import Session
from flarekit.signals.answer import POST_SIGNALS, Answered, PostSignal, find_post_signal
from flarekit.signals.question import PRE_SIGNALS, Chooser, PreSignal, find_pre_signal, load_router
from flarekit.signals.token import SIGNALS, Signal, StreamSignal, find_signal
from flarekit.tokens import Token, Usage, text_of
from flarekit.trace import Chosen, Committed, Costs, Event, Failed, Fired, HandedOver, Probe, Retrieved, Segment, Trace
from flarekit.trace_format import read_trace, write_trace

Draft = QueryContext
"""Its name until it was renamed."""

__all__ = [
    "POLICIES",
    "POST_SIGNALS",
    "PRE_SIGNALS",
    "SIGNALS",
    "Action",
    "Answered",
    "BadLogprobs",
    "Budget",
    "Chooser",
    "Chosen",
    "Committed",
    "ConfigError",
    "Costs",
    "DataError",
    "Draft",
    "Engine",
    "EngineError",
    "EngineUnavailable",
    "Escalate",
    "Event",
    "Exemplar",
    "Failed",
    "Fired",
    "FlarekitError",
    "HandedOver",
    "Hit",
    "MissingCapability",
    "Monitor",
    "Passage",
    "Policy",
    "PostSignal",
    "PreSignal",
    "Probe",
    "Prompt",
    "PromptTooLong",
    "Query",
    "QueryContext",
    "RequestRejected",
    "Retrieve",
    "Retrieved",
    "Retriever",
    "Revise",
    "Rule",
    "RunError",
    "Segment",
    "Session",
    "Signal",
    "Stream",
    "StreamBroken",
    "StreamSignal",
    "Token",
    "Trace",
    "Trigger",
    "UnknownModel",
    "Usage",
    "VLLMEngine",
    "Vote",
    "always",
    "find_post_signal",
    "find_pre_signal",
    "find_signal",
    "last_tokens_query",
    "load_router",
    "masked_draft_query",
    "parse_policy",
    "policy",
    "question_and_answer_query",
    "question_query",
    "read_trace",
    "requested_query",
    "sentence_query",
    "text_of",
    "uncertain_words_query",
    "with_settings",
    "write_trace",
]

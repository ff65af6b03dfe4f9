"""What a session does with a stream, on scripted engines whose tokens and probabilities are given by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from fakes.scripted import ScriptedEngine, ScriptedRetriever
from flarekit.engines.engine import Engine
from flarekit.errors import ConfigError, EngineUnavailable, PromptTooLong, StreamBroken
from flarekit.policies import Budget, Policy, parse_policy, with_settings
from flarekit.retrieval import Hit, Retriever
from flarekit.session.session import Session
from flarekit.trace import Committed, Failed, Fired, HandedOver, Retrieved, Trace

BORN = ("Emma", " was", " born", " in", " Reus", ".")
ANSWER = (" So", " the", " answer", " is", " Reus", ".")
UNSURE = ("Emma", " was", " born", " in", (" Rome", 0.3), ".")


async def ask(
    policy: str | Policy,
    weak: Engine,
    *,
    strong: Engine | None = None,
    retriever: Retriever | None = None,
    **options: Any,
) -> tuple[Trace, list[str]]:
    """The trace, and the committed texts in the order in which they came."""
    policy = parse_policy(policy) if isinstance(policy, str) else policy
    session = Session(policy, "Where was Emma born?", weak=weak, strong=strong, retriever=retriever, **options)
    heard = [event.text async for event in session if isinstance(event, Committed)]
    assert "".join(heard).strip() == session.trace.text
    return session.trace, heard


def retriever() -> ScriptedRetriever:
    return ScriptedRetriever(Reus="Emma was born in Reus.", Gaudi="Gaudi too was born there.", More="More.")


async def test_a_sentence_is_committed_when_the_next_begins() -> None:
    trace, heard = await ask("closed-book", ScriptedEngine([*BORN, *ANSWER]))
    assert heard == ["Emma was born in Reus.", " So the answer is Reus."]
    assert trace.answer == "Reus"
    assert trace.costs().discarded_tokens == 0


async def test_the_stream_is_closed_at_the_end_of_the_answer() -> None:
    engine = ScriptedEngine([*ANSWER, " So", " the", " answer", " is", " Oslo", "."])
    trace, _ = await ask("closed-book", engine)
    assert trace.text == "So the answer is Reus."
    assert engine.streams[0].sent == len(ANSWER) + 1
    assert trace.segments[0].finish == "closed"
    assert trace.costs().discarded_tokens == 1


async def test_an_answer_without_the_phrase_ends_with_its_stream() -> None:
    trace, _ = await ask("closed-book", ScriptedEngine(BORN))
    assert trace.answer == "Emma was born in Reus"


async def test_rag_retrieves_once_with_the_question() -> None:
    engine, found = ScriptedEngine(BORN), retriever()
    trace, _ = await ask("rag", engine, retriever=found)
    assert found.queries == ["Where was Emma born?"]
    assert "[1] Reus: Emma was born in Reus." in engine.prompts[0]
    assert trace.costs().retrievals == 1


async def test_flare_keeps_a_confident_draft_and_never_generates_it_twice() -> None:
    engine = ScriptedEngine([*BORN, *ANSWER])
    trace, _ = await ask("flare", engine, retriever=retriever())
    costs = trace.costs()
    assert (costs.discarded_tokens, costs.retrievals, len(engine.prompts)) == (0, 1, 1)


async def test_flare_looks_an_uncertain_sentence_up_and_generates_it_again() -> None:
    engine, found = ScriptedEngine([*UNSURE, " So"], [*BORN, *ANSWER]), retriever()
    trace, heard = await ask("flare", engine, retriever=found)
    assert found.queries == ["Where was Emma born?", "Emma was born in."]
    assert "[1] Gaudi" in engine.prompts[1]
    assert heard == ["Emma was born in Reus.", " So the answer is Reus."]
    assert trace.costs().discarded_tokens == len(UNSURE) + 1
    fired = next(event for event in trace.events if isinstance(event, Fired) and event.moment == "mid")
    assert (fired.segment, fired.token) == (0, len(UNSURE) - 1)
    assert fired.value == pytest.approx(0.7)


async def test_flare_takes_the_regenerated_sentence_as_it_is() -> None:
    engine, found = ScriptedEngine([*UNSURE, " So"], [*UNSURE, *ANSWER]), retriever()
    trace, _ = await ask("flare", engine, retriever=found)
    assert len(found.queries) == 2
    assert trace.text == "Emma was born in Rome. So the answer is Reus."


async def test_flare_goes_on_from_the_committed_ids() -> None:
    doubt = (" So", " the", " answer", " is", (" Rome", 0.3), ".")
    engine = ScriptedEngine([*BORN, *doubt], [" So", " the", " answer", " is", " Reus", "."])
    trace, _ = await ask("flare", engine, retriever=retriever())
    assert engine.prompts[1].endswith("\nAnswer:Emma was born in Reus.")
    assert trace.text == "Emma was born in Reus. So the answer is Reus."


async def test_a_look_up_that_finds_nothing_new_keeps_the_draft() -> None:
    engine, found = ScriptedEngine([*UNSURE, " So"], ANSWER), ScriptedRetriever(Reus="Emma was born in Reus.")
    trace, heard = await ask("flare", engine, retriever=found)
    assert engine.prompts[1].endswith("Answer:Emma was born in Rome.")
    assert heard == ["Emma was born in Rome.", " So the answer is Reus."]
    assert trace.costs().discarded_tokens == 1


async def test_read_token_acts_within_the_sentence() -> None:
    engine, found = ScriptedEngine(UNSURE, [*BORN, *ANSWER]), retriever()
    await ask("flare:read=token", engine, retriever=found)
    assert engine.streams[0].sent == 5
    assert found.queries[1] == "Emma was born in"


async def test_a_draft_that_is_kept_within_its_sentence_ends_with_it() -> None:
    engine = ScriptedEngine(
        [*BORN, " So", " the", " answer", " is", (" Reus", 0.3), " not read"], [(" or", 0.3), " Rome", ".", " More"]
    )
    found = ScriptedRetriever(Reus="Emma was born in Reus.")
    trace, heard = await ask("flare:read=token", engine, retriever=found)
    assert engine.prompts[1].endswith(" So the answer is Reus")
    assert heard == ["Emma was born in Reus.", " So the answer is Reus", " or Rome."]
    assert (trace.answer, trace.costs().retrievals) == ("Reus or Rome", 2), "the kept sentence does not fire again"


async def test_the_cap_on_actions_holds() -> None:
    engine = ScriptedEngine([*UNSURE, " So"], [*UNSURE, *UNSURE, *ANSWER])
    found = retriever()
    await ask("flare:actions=1", engine, retriever=found)
    assert len(found.queries) == 2


async def test_mid_retrieve_begins_without_passages() -> None:
    engine, found = ScriptedEngine([*UNSURE, " So"], [*BORN, *ANSWER]), retriever()
    await ask("mid-retrieve:threshold=0.5", engine, retriever=found)
    assert "Gaudi too" not in engine.prompts[0]
    assert found.queries == ["Emma was born in."]


async def test_iter_retgen_asks_with_its_last_answer_and_starts_again() -> None:
    engine, found = ScriptedEngine([*UNSURE, *ANSWER], [*BORN, *ANSWER]), retriever()
    trace, heard = await ask("iter-retgen", engine, retriever=found)
    assert found.queries[1] == "Where was Emma born? Emma was born in Rome. So the answer is Reus."
    assert heard == ["Emma was born in Reus. So the answer is Reus."], "nothing is committed that may be taken back"
    assert trace.costs().discarded_tokens == len(UNSURE) + len(ANSWER)


async def test_escalate_hands_the_committed_text_over_within_the_sentence() -> None:
    doubt = (" So", " the", " answer", " is", (" Rome", 0.2), ".")
    weak, strong = ScriptedEngine([*BORN, *doubt]), ScriptedEngine(ANSWER)
    trace, heard = await ask("escalate", weak, strong=strong)
    assert strong.prompts[0].endswith("Answer:Emma was born in Reus.")
    assert heard == ["Emma was born in Reus.", " So the answer is Reus."]
    assert weak.streams[0].sent == len(BORN) + 5, "the doubtful token is the last that is asked for"
    assert [segment.role for segment in trace.segments] == ["weak", "strong"]
    assert trace.costs().strong_generated_tokens == len(ANSWER)


async def test_escalate_with_restart_begins_anew_and_commits_at_the_end() -> None:
    doubt = (" So", " the", " answer", " is", (" Rome", 0.2), ".")
    weak, strong = ScriptedEngine([*BORN, *doubt]), ScriptedEngine([*BORN, *ANSWER])
    trace, heard = await ask("escalate:restart=yes", weak, strong=strong)
    assert strong.prompts[0].endswith("\nAnswer:")
    assert heard == ["Emma was born in Reus. So the answer is Reus."]
    assert trace.segments[0].kept == 0


@pytest.mark.parametrize(("p", "answer"), [(0.3, "Oslo"), (0.9, "Reus")])
async def test_cascade_asks_the_strong_model_anew_where_the_whole_answer_is_in_doubt(p: float, answer: str) -> None:
    weak = ScriptedEngine([(text, p) for text in ANSWER])
    strong = ScriptedEngine([" So", " the", " answer", " is", " Oslo", "."])
    trace, heard = await ask("cascade", weak, strong=strong)
    assert trace.answer == answer
    assert heard == [f" So the answer is {answer}."], "the weak model's answer is not sent before it is accepted"
    assert trace.costs().discarded_tokens == (len(ANSWER) if answer == "Oslo" else 0)
    fired = [event for event in trace.events if isinstance(event, Fired)]
    assert [event.moment for event in fired] == (["post"] if answer == "Oslo" else [])


async def test_strong_is_a_hand_over_before_the_first_token() -> None:
    weak, strong = ScriptedEngine(), ScriptedEngine([*BORN, *ANSWER])
    trace, _ = await ask("strong", weak, strong=strong)
    assert (weak.prompts, trace.costs().escalations) == ([], 1)


@pytest.mark.parametrize(("threshold", "retrievals"), [(0.05, 1), (0.7, 0)])
async def test_pre_retrieve_measures_the_token_after_the_answer_phrase(threshold: float, retrievals: int) -> None:
    engine = ScriptedEngine([(" Rome", 0.9)], [*BORN, *ANSWER])
    trace, _ = await ask(f"pre-retrieve:threshold={threshold}", engine, retriever=retriever())
    assert engine.prompts[0].endswith("\nAnswer: So the answer is")
    assert (trace.costs().retrievals, trace.costs().probes) == (retrievals, 1)
    assert trace.costs().generated_tokens == len(BORN) + len(ANSWER) + 1


async def test_pre_escalate_by_the_questions_perplexity() -> None:
    weak, strong = ScriptedEngine(), ScriptedEngine(ANSWER)
    trace, _ = await ask("pre-escalate:signal=question-perplexity,threshold=1.9", weak, strong=strong)
    assert any(isinstance(event, HandedOver) for event in trace.events)


async def test_a_long_sentence_is_judged_at_the_look_ahead() -> None:
    words = [" word"] * 200
    engine, found = ScriptedEngine([(" doubt", 0.1), *words], [*BORN, *ANSWER]), retriever()
    await ask("flare", engine, retriever=found)
    assert engine.streams[0].sent == 65


async def test_the_answer_is_cut_at_its_budget() -> None:
    policy = with_settings(parse_policy("closed-book"), budget=Budget(answer=4, total=100))
    trace, _ = await ask(policy, ScriptedEngine([" a", " b", " c", " d", " e"]))
    assert (trace.text, trace.segments[0].finish) == ("a b c d", "length")


async def test_no_action_is_taken_that_the_total_budget_cannot_pay() -> None:
    policy = with_settings(parse_policy("flare"), budget=Budget(answer=100, total=len(UNSURE) + 1))
    trace, _ = await ask(policy, ScriptedEngine([*UNSURE, " So"]), retriever=retriever())
    assert trace.text == "Emma was born in Rome. So"
    assert trace.costs().retrievals == 1


async def test_a_stop_at_the_last_sentence_can_still_fire() -> None:
    engine = ScriptedEngine([" So", " the", " answer", " is", (" Rome", 0.2), "."], ANSWER)
    trace, _ = await ask("flare", engine, retriever=retriever())
    assert trace.answer == "Reus"
    assert sum(isinstance(event, Retrieved) for event in trace.events) == 2


@pytest.mark.parametrize(("policy", "missing"), [("strong", "strong engine"), ("flare", "retriever")])
def test_a_session_needs_what_its_policy_needs(policy: str, missing: str) -> None:
    with pytest.raises(ConfigError, match=missing):
        Session(parse_policy(policy), "?", weak=ScriptedEngine())


# --- what fails beneath a session -----------------------------------------------------------------------------------


def failures(trace: Trace) -> list[tuple[str, str]]:
    return [(event.part, event.error) for event in trace.events if isinstance(event, Failed)]


BROKEN = StreamBroken("the stream broke")


async def test_a_broken_stream_ends_a_session_that_may_not_resume() -> None:
    with pytest.raises(StreamBroken):
        await ask("closed-book", ScriptedEngine([*BORN, " So", BROKEN]))


async def test_a_broken_stream_is_resumed_from_what_is_committed() -> None:
    engine = ScriptedEngine([*BORN, " So", " the", BROKEN], ANSWER)
    trace, heard = await ask("closed-book", engine, resumes=1)
    assert engine.prompts[1].endswith("\nAnswer:Emma was born in Reus.")
    assert heard == ["Emma was born in Reus.", " So the answer is Reus."]
    assert trace.costs().discarded_tokens == 2
    assert failures(trace) == [("weak", "the stream broke")]


async def test_it_is_resumed_as_often_as_allowed() -> None:
    broken: list[list[Any]] = [[*BORN, " So", BROKEN], [" So", " the", BROKEN], [*ANSWER]]
    trace, _ = await ask("closed-book", ScriptedEngine(*broken), resumes=2)
    assert trace.answer == "Reus"
    with pytest.raises(StreamBroken):
        await ask("closed-book", ScriptedEngine(*broken), resumes=1)


async def test_a_trigger_reads_a_resumed_sentence_from_its_beginning() -> None:
    engine = ScriptedEngine(["Emma", (" is", 0.3), BROKEN], [*BORN, *ANSWER])
    trace, _ = await ask("escalate:read=sentence", engine, strong=ScriptedEngine(), resumes=1)
    assert not [event for event in trace.events if isinstance(event, Fired)], "the doubt was in what broke"
    assert trace.answer == "Reus"


async def test_without_its_strong_engine_a_session_goes_on_unless_it_is_strict() -> None:
    def engines() -> tuple[ScriptedEngine, ScriptedEngine]:
        return ScriptedEngine([*BORN, " So", (" the", 0.2)], ANSWER), ScriptedEngine([" So", EngineUnavailable("gone")])

    weak, strong = engines()
    trace, heard = await ask("escalate", weak, strong=strong, strict=False)
    assert failures(trace) == [("strong", "gone")]
    assert [event.target for event in trace.events if isinstance(event, HandedOver)] == ["strong", "weak"]
    assert heard == ["Emma was born in Reus.", " So the answer is Reus."]
    weak, strong = engines()
    with pytest.raises(EngineUnavailable):
        await ask("escalate", weak, strong=strong)


async def test_a_strong_engine_that_failed_is_not_called_again() -> None:
    weak = ScriptedEngine([(" So", 0.2)], [*UNSURE, *ANSWER])
    strong = ScriptedEngine([EngineUnavailable("gone")])
    trace, _ = await ask("escalate:back=sentence", weak, strong=strong, strict=False)
    assert trace.costs().escalations == 1
    assert trace.answer == "Reus"


class FailingRetriever:
    name = "failing"

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds

    async def search(self, query: str, k: int) -> Sequence[Hit]:
        await asyncio.sleep(self._seconds)
        raise OSError("no such index")


async def test_without_its_retriever_a_session_keeps_its_drafts_unless_it_is_strict() -> None:
    engine = ScriptedEngine([*UNSURE, " So"], ANSWER)
    trace, heard = await ask("flare", engine, retriever=FailingRetriever(), strict=False)
    assert failures(trace) == [("retriever", "OSError: no such index")] * 2
    assert heard == ["Emma was born in Rome.", " So the answer is Reus."]
    assert trace.costs().retrievals == 0
    with pytest.raises(OSError, match="no such index"):
        await ask("flare", ScriptedEngine(), retriever=FailingRetriever())


async def test_a_look_up_may_take_as_long_as_the_patience_lasts() -> None:
    slow = FailingRetriever(seconds=30)
    trace, _ = await ask("rag", ScriptedEngine(ANSWER), retriever=slow, strict=False, patience=0.01)
    assert failures(trace) == [("retriever", "no answer within 0.01 s")]


async def test_passages_that_leave_no_room_are_left_out_from_the_worst_on() -> None:
    class Small(ScriptedEngine):
        async def tokenize(self, text: str, *, begin: bool = True) -> list[int]:
            if "Tarraco" in text:
                raise PromptTooLong("4097 tokens")
            return await super().tokenize(text, begin=begin)

    class Two(ScriptedRetriever):
        async def search(self, query: str, k: int) -> Sequence[Hit]:
            return [*await super().search(query, k), *await super().search(query, k)]

    engine = Small(ANSWER)
    found = Two(Reus="Emma was born in Reus.", Tarraco="So was Gaudi.")
    trace, _ = await ask("rag", engine, retriever=found, strict=False)
    assert failures(trace) == [("retriever", "the passages are too long: 4097 tokens")]
    assert "[1] Reus" in engine.prompts[0]
    with pytest.raises(PromptTooLong):
        await ask("rag", Small(ANSWER), retriever=Two(Reus="Emma.", Tarraco="So."))

"""Every published policy on a stream that is checked by hand: what it asks, what it keeps, what it pays for.

The engines are scripted: each stream says the next of the answers that it was given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.scripted import ScriptedEngine, ScriptedRetriever, tokens
from flarekit.actions import QueryContext, last_tokens_query, requested_query, uncertain_words_query
from flarekit.engines.engine import Engine
from flarekit.errors import ConfigError
from flarekit.policies import Policy, arm_policy, parse_policy
from flarekit.prompts.few_shot import Prompt
from flarekit.session.session import Session
from flarekit.signals.answer import entropy_of
from flarekit.signals.sampling import majority, same_words
from flarekit.signals.token import REQUEST
from flarekit.tokens import text_of
from flarekit.trace import Chosen, Committed, Fired, HandedOver, Probe, Trace

FIRST = ("Emma", " was", " born", " in", " Reus", ".")
SECOND = (" Reus", " is", " in", " Spain", ".")
ANSWER = (" So", " the", " answer", " is", " Spain", ".")
NEXT = (" So",)  # the token by which the end of a sentence is seen; it is thrown away with its stream
DOUBT = 0.5  # a token of two equally likely candidates: ln 2 = .693 of entropy
SURE = -(0.99 * math.log(0.99) + 0.01 * math.log(0.01))  # .056, the entropy of every other scripted token


async def ask(
    policy: str | Policy,
    weak: Engine,
    *,
    strong: Engine | None = None,
    retriever: ScriptedRetriever | None = None,
) -> Trace:
    policy = parse_policy(policy) if isinstance(policy, str) else policy
    session = Session(policy, "Where was Emma born?", weak=weak, strong=strong, retriever=retriever, id="q1")
    heard = [event.text async for event in session if isinstance(event, Committed)]
    assert "".join(heard).strip() == session.trace.text
    return session.trace


def finds(*titles: str) -> ScriptedRetriever:
    return ScriptedRetriever(**{title: f"All about {title}." for title in titles})


def queries(trace: Trace) -> list[str]:
    return [one.query for one in trace.retrievals]


# --- retrieval during generation ------------------------------------------------------------------------------------


async def test_flare_instruct_looks_up_what_the_model_asks_for_and_hides_the_request() -> None:
    asks = ("Emma", " was", " born", " in", " [", "Search", "(", "Emma", " birthplace", ")]", " and", " so")
    engine, found = ScriptedEngine(asks, (" Reus", ".", *ANSWER)), finds("Emma")
    trace = await ask("flare-instruct", engine, retriever=found)
    assert queries(trace) == ["Emma birthplace"]
    assert trace.text == "Emma was born in Reus. So the answer is Spain."
    assert "[1] Emma: All about Emma." in engine.prompts[1]
    assert engine.prompts[1].endswith("Emma was born in [Search(Emma birthplace)]")
    assert trace.costs().discarded_tokens == 0
    assert engine.streams[0].sent == asks.index(")]") + 1


async def test_flare_instruct_without_a_request_looks_nothing_up() -> None:
    trace = await ask("flare-instruct", ScriptedEngine([*FIRST, *ANSWER]), retriever=finds("Emma"))
    assert queries(trace) == []


def test_a_request_is_read_without_its_quotes() -> None:
    said = tokens("It", " is", ' [Search("who wrote Emma?")]')
    assert requested_query(QueryContext("q", "", said, "")) == "who wrote Emma?"


@given(st.lists(st.sampled_from(["a", " b", "[Search(", "x y", ")]", "]", " ", "."])))
def test_visible_tokens_make_up_the_visible_text(texts: list[str]) -> None:
    prompt = Prompt(hidden=REQUEST)
    assert text_of(prompt.visible_tokens(tokens(*texts))) == prompt.visible("".join(texts))
    assert prompt.hidden is not None
    assert not prompt.hidden.search(prompt.visible("".join(texts))) or "[Search(" in "".join(texts)


async def test_ircot_looks_every_sentence_up_and_gathers_the_passages() -> None:
    engine = ScriptedEngine([*FIRST, *NEXT], [*SECOND, *NEXT], ANSWER)
    trace = await ask("ircot", engine, retriever=finds("Emma", "Reus", "Spain"))
    assert queries(trace) == ["Where was Emma born?", "Emma was born in Reus.", "Reus is in Spain."]
    assert "[1] Emma: All about Emma.\n[2] Reus: All about Reus.\n[3] Spain" in engine.prompts[2]
    assert trace.costs().discarded_tokens == 2  # the token after each sentence
    assert trace.text == text_of(tokens(*FIRST, *SECOND, *ANSWER))


async def test_ircot_holds_no_more_passages_than_it_may_and_each_once() -> None:
    engine = ScriptedEngine([*FIRST, *NEXT], [*SECOND, *NEXT], ANSWER)
    await ask("ircot:passages=2", engine, retriever=finds("Emma", "Emma", "Spain"))
    assert engine.prompts[1].count("All about Emma.") == 1
    engine = ScriptedEngine([*FIRST, *NEXT], [*SECOND, *NEXT], ANSWER)
    await ask("ircot:passages=2", engine, retriever=finds("Emma", "Reus", "Spain"))
    assert "[3]" not in engine.prompts[2]


async def test_fixed_sentence_replaces_the_passages_after_every_sentence() -> None:
    engine = ScriptedEngine([*FIRST, *NEXT], ANSWER)
    trace = await ask("fixed-sentence", engine, retriever=finds("Emma", "Reus"))
    assert queries(trace) == ["Where was Emma born?", "Emma was born in Reus."]
    assert "Reus: All about Reus." in engine.prompts[1]
    assert "All about Emma." not in engine.prompts[1]


@pytest.mark.parametrize("policy", ["fixed-sentence", "ircot"])
async def test_nothing_is_looked_up_once_the_answer_was_given(policy: str) -> None:
    trace = await ask(policy, ScriptedEngine([*ANSWER, *NEXT]), retriever=finds("Emma", "Reus"))
    assert queries(trace) == ["Where was Emma born?"]


async def test_fixed_length_looks_up_the_last_tokens_and_throws_none_away() -> None:
    windows = [*FIRST, *SECOND, *ANSWER]
    streams = [[*windows[at : at + 4], " not"] for at in range(0, 16, 4)]  # each is closed before its last token
    engine = ScriptedEngine(*streams, windows[16:])
    trace = await ask("fixed-length:length=4", engine, retriever=finds("Emma", "Reus", "Spain"))
    assert queries(trace)[:3] == ["Where was Emma born?", "Emma was born in", "Reus. Reus is"]
    assert trace.costs().discarded_tokens == 0


async def test_fixed_length_looks_nothing_up_where_the_answer_has_ended() -> None:
    trace = await ask("fixed-length:length=6", ScriptedEngine(ANSWER), retriever=finds("Emma", "Reus"))
    assert queries(trace) == ["Where was Emma born?"]
    assert trace.text == "So the answer is Spain."


async def test_a_request_as_the_last_word_is_looked_up_all_the_same() -> None:
    engine = ScriptedEngine(("Emma", " [", "Search", "(", "x", ")]"), (" was", " here", ".", *ANSWER))
    trace = await ask("flare-instruct", engine, retriever=finds("Emma"))
    assert queries(trace) == ["x"]
    assert trace.answer == "Spain"


def test_the_last_tokens_may_begin_before_the_sentence() -> None:
    draft = QueryContext("q", "a b", tokens(" c", " d"), "", committed=tokens("a", " b"))
    assert last_tokens_query(3)(draft) == "b c d"


async def test_dragin_lite_doubts_content_words_alone() -> None:
    unsure_of_a_function_word = ("Emma", (" was", DOUBT), " born", " in", " Reus", ".")
    trace = await ask(
        "dragin-lite:threshold=0.6", ScriptedEngine([*unsure_of_a_function_word, *ANSWER]), retriever=finds("E")
    )
    assert queries(trace) == []
    unsure = ("Emma", " was", " born", " in", (" Rome", DOUBT), ".")
    engine = ScriptedEngine([*unsure, *NEXT], [*FIRST, *ANSWER])
    trace = await ask("dragin-lite:threshold=0.6", engine, retriever=finds("Emma"))
    assert queries(trace) == ["Emma born Rome"]
    assert trace.text.startswith("Emma was born in Reus.")


def test_dragin_lite_asks_for_the_most_uncertain_words_in_their_order() -> None:
    said = tokens(("Jane", 0.9), (" Aust", 0.6), ("en", 0.99), " wrote", " it", " in", (" Bath", 0.7))
    draft = QueryContext("Who wrote Emma?", "", said, "")
    assert uncertain_words_query(4)(draft) == "wrote Emma Austen Bath"
    assert uncertain_words_query(2)(draft) == "wrote Emma"


async def test_etc_acts_where_the_entropy_begins_to_rise() -> None:
    rising = ("Emma", " was", " born", (" in", DOUBT), " Rome", ".")  # smoothed: S, S, (S + ln 2) / 2
    assert (math.log(2) - SURE) / 2 > 0.3
    engine = ScriptedEngine(rising, [*FIRST, *ANSWER])
    trace = await ask("etc:threshold=0.3", engine, retriever=finds("Emma"))
    [fired] = [event for event in trace.events if isinstance(event, Fired)]
    assert (fired.signal, fired.token) == ("entropy-trend", 3)
    assert fired.value == pytest.approx((math.log(2) - SURE) / 2)
    assert engine.streams[0].sent == 4


async def test_rolling_retrieve_averages_the_last_tokens() -> None:
    two_of_three = ("Emma", (" was", DOUBT), (" born", DOUBT), " in", " Rome", ".")
    engine = ScriptedEngine(two_of_three, [*FIRST, *ANSWER])
    trace = await ask("rolling-retrieve:window=3,threshold=0.45", engine, retriever=finds("Emma"))
    [fired] = [event for event in trace.events if isinstance(event, Fired)]
    assert fired.token == 2
    assert fired.value == pytest.approx((2 * math.log(2) + SURE) / 3)


# --- handing over and back ------------------------------------------------------------------------------------------

UNSURE_SECOND = (" Reus", " is", " in", (" Italy", 0.2), ".")


async def test_escalate_hands_back_after_a_sentence() -> None:
    weak, strong = ScriptedEngine([*FIRST, *UNSURE_SECOND], ANSWER), ScriptedEngine([*SECOND, *NEXT])
    trace = await ask("escalate:back=sentence", weak, strong=strong)
    overs = [(event.source, event.target) for event in trace.events if isinstance(event, HandedOver)]
    assert overs == [("weak", "strong"), ("strong", "weak")]
    assert trace.text == text_of(tokens(*FIRST, *SECOND, *ANSWER))
    assert weak.prompts[1].endswith("Answer:" + text_of(tokens(*FIRST, *SECOND)))
    costs = trace.costs()
    assert (costs.answer_tokens, costs.strong_answer_tokens, costs.escalations) == (17, 5, 1)
    assert costs.strong_share == pytest.approx(5 / 17)


async def test_a_strong_model_that_ends_the_answer_does_not_hand_back() -> None:
    weak, strong = ScriptedEngine([*FIRST, *UNSURE_SECOND]), ScriptedEngine(ANSWER)
    trace = await ask("escalate:back=sentence", weak, strong=strong)
    assert [event.target for event in trace.events if isinstance(event, HandedOver)] == ["strong"]


async def test_the_weak_model_may_doubt_again_after_it_was_helped() -> None:
    weak = ScriptedEngine([*UNSURE_SECOND], [*UNSURE_SECOND], ANSWER)
    strong = ScriptedEngine([*FIRST, *NEXT], [*SECOND, *NEXT])
    trace = await ask("escalate:back=sentence", weak, strong=strong)
    assert trace.costs().escalations == 2
    assert trace.text == text_of(tokens(*FIRST, *SECOND, *ANSWER))


def test_an_answer_that_was_begun_anew_is_not_handed_back() -> None:
    with pytest.raises(ConfigError, match="restart and back exclude each other"):
        parse_policy("escalate:restart=yes,back=sentence")


async def test_step_entropy_reads_the_first_token_of_a_step_and_no_other() -> None:
    weak = ScriptedEngine([*FIRST[:4], (" Reus", DOUBT), ".", (" It", DOUBT), " is"], ANSWER)
    strong = ScriptedEngine([*SECOND, *NEXT])
    trace = await ask("step-entropy:threshold=0.6", weak, strong=strong)
    assert weak.streams[0].sent == 7  # the first sentence, and one token of the second
    assert trace.text == text_of(tokens(*FIRST, *SECOND, *ANSWER))
    assert trace.costs().discarded_tokens == 2


async def test_rolling_entropy_takes_turns_and_keeps_every_token() -> None:
    weak = ScriptedEngine(["Emma", (" was", DOUBT), (" born", DOUBT), " not"], (" Reus", ".", *ANSWER))
    strong = ScriptedEngine([(" and", DOUBT), (" raised", DOUBT), " right", " in", " not", " this"])
    trace = await ask("rolling-entropy:threshold=0.5,window=2,stay=2", weak, strong=strong)
    assert trace.text == "Emma was born and raised right Reus. So the answer is Spain."
    assert trace.costs().discarded_tokens == 0
    assert [segment.role for segment in trace.segments] == ["weak", "strong", "weak"]
    assert trace.costs().strong_answer_tokens == 3


async def test_both_models_stay_as_long_as_they_must() -> None:
    """Four tokens each, windows of two: doubt fills the weak one's at " was", and calm the strong one's at " in"."""
    weak = ScriptedEngine(
        [("Emma", DOUBT), (" was", DOUBT), (" born", DOUBT), (" and", DOUBT), " not"],
        [(" then", DOUBT), (" she", DOUBT), (" came", DOUBT), " to", (" Spain", DOUBT), (" by", DOUBT), " not"],
        ANSWER,
    )
    strong = ScriptedEngine(
        [" raised", " in", " Reus", ",", " not"],
        [(" train", DOUBT), " with", (" her", DOUBT), (" two", DOUBT), (" little", DOUBT), " sisters", " not"],
    )
    trace = await ask("rolling-entropy:threshold=0.5,window=2,stay=4", weak, strong=strong)
    written = [text_of(segment.tokens[: segment.kept]) for segment in trace.segments]
    assert written == [
        "Emma was born and",  # in doubt from the second token on
        " raised in Reus,",  # calm from the second on
        " then she came to Spain by",  # in doubt up to the third, when it may not leave, and again at the sixth
        " train with her two little sisters",  # calm at the second, when it may not leave, and again at the sixth
        " So the answer is Spain.",
    ]
    assert [segment.role for segment in trace.segments] == ["weak", "strong", "weak", "strong", "weak"]


async def test_a_turn_may_end_with_the_first_token_of_a_sentence() -> None:
    weak = ScriptedEngine(["Emma", (" sang", DOUBT), (".", DOUBT), " not"], ANSWER)
    strong = ScriptedEngine([(" She", DOUBT), (" died", DOUBT), (".", 0.8), " Then", " not"])
    trace = await ask("rolling-entropy:threshold=0.5,window=2,stay=2", weak, strong=strong)
    assert trace.text == "Emma sang. She died. Then So the answer is Spain."


async def test_neither_model_leaves_before_its_window_is_full() -> None:
    weak = ScriptedEngine([("Emma", DOUBT), (" was", DOUBT), (" born", DOUBT), " not"], ANSWER)
    strong = ScriptedEngine([" and", " raised", " abroad", " not"])
    trace = await ask("rolling-entropy:threshold=0.5,window=3,stay=1", weak, strong=strong)
    assert trace.text == "Emma was born and raised abroad So the answer is Spain."


# --- before generation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("threshold", "looked_up"), [(0.2, True), (0.3, False)])
async def test_p_ik_compares_yes_with_no(threshold: float, looked_up: bool) -> None:
    engine = ScriptedEngine([*FIRST, *ANSWER])  # yes and Yes have .4 + .1, no and No have .1 + .1
    trace = await ask(f"p-ik:threshold={threshold}", engine, retriever=finds("Emma"))
    [probe] = [event for event in trace.events if isinstance(event, Probe)]
    assert probe.value == pytest.approx(0.2 / 0.7)
    assert bool(queries(trace)) == looked_up
    assert "without looking anything up" in engine.prompts[0]


async def test_random_is_the_same_for_the_same_question() -> None:
    traces = [
        await ask("pre-retrieve:signal=random,threshold=1", ScriptedEngine(ANSWER), retriever=finds("E")) for _ in "ab"
    ]
    values = {event.value for trace in traces for event in trace.events if isinstance(event, Probe)}
    assert len(values) == 1
    assert 0 <= values.pop() < 1


class ScriptedChooser:
    """Chooses the arm that it was told to."""

    name = "scripted-chooser"
    arms = ("closed-book", "rag", "large/closed-book")

    def __init__(self, place: int) -> None:
        self.place = place
        self.seen: list[tuple[Sequence[str], float | None]] = []

    def choose(self, questions: Sequence[str], tradeoff: float | None = None) -> Sequence[int]:
        self.seen.append((questions, tradeoff))
        return [self.place]


async def test_a_chooser_picks_the_policy_that_the_session_works_by() -> None:
    chooser = ScriptedChooser(1)
    policy = Policy("chosen", chooser=chooser, tradeoff=0.4)
    assert policy.retrieves
    assert policy.escalates  # one of its arms names another model
    trace = await ask(policy, ScriptedEngine(ANSWER), strong=ScriptedEngine(model="large"), retriever=finds("Emma"))
    assert trace.events[0] == replace(Chosen("scripted-chooser", "rag"), at=trace.events[0].at)
    assert (trace.policy, queries(trace)) == ("chosen", ["Where was Emma born?"])
    assert chooser.seen == [(["Where was Emma born?"], 0.4)]


async def test_an_arm_of_another_model_is_answered_by_that_model() -> None:
    policy = Policy("chosen", chooser=ScriptedChooser(2))
    strong = ScriptedEngine(ANSWER, model="large")
    trace = await ask(policy, ScriptedEngine(), strong=strong, retriever=finds("Emma"))
    assert trace.costs().strong_share == 1


def test_an_arm_names_a_model_and_a_policy() -> None:
    assert arm_policy("org/small/rag:k=2", "org/small", "large").spec == "rag:k=2"
    assert arm_policy("large/rag:k=2", "org/small", "large").spec == "rag:k=2,model=strong"
    assert arm_policy("large/closed-book", "org/small", "large").spec == "closed-book:model=strong"
    assert arm_policy("flare:theta=0.5", "org/small", None).spec == "flare:theta=0.5"
    with pytest.raises(ConfigError, match="'huge', but the engines serve org/small"):
        arm_policy("huge/rag", "org/small", None)


# --- after generation -----------------------------------------------------------------------------------------------

REUS = (" So", " the", " answer", " is", " Reus", ".")
OSLO = (" So", " the", " answer", " is", " Oslo", ".")


async def test_self_consistency_takes_the_commonest_answer_and_pays_for_all() -> None:
    trace = await ask("self-consistency:samples=3", ScriptedEngine(OSLO, REUS, ["The", *REUS]))
    assert (trace.answer, trace.text) == ("Reus", "So the answer is Reus.")
    costs = trace.costs()
    assert (costs.generated_tokens, costs.discarded_tokens) == (19, 13)


async def test_samples_may_be_drawn_with_passages_in_the_prompt() -> None:
    engine = ScriptedEngine(OSLO, REUS, REUS)
    trace = await ask("self-consistency:samples=3,k=1", engine, retriever=finds("Emma"))
    assert (trace.answer, trace.costs().retrievals) == ("Reus", 1)
    assert all("Emma" in prompt for prompt in engine.prompts)


async def test_votes_differ_in_more_than_case_and_articles() -> None:
    assert same_words(["The Danube", "danube.", "a Danube river"]) == [0, 0, 2]
    assert majority([0, 1, 1, 0, 2]) == (0, 0.4)  # the earlier of a tie


async def test_a_sample_ends_with_its_answer() -> None:
    engine = ScriptedEngine([*REUS, " And", " so", " on"], REUS, REUS)
    trace = await ask("self-consistency:samples=3", engine)
    assert engine.streams[0].sent == len(REUS) + 1
    assert trace.text == "So the answer is Reus."


@pytest.mark.parametrize(("threshold", "answer"), [(0.3, "Spain"), (0.4, "Reus")])
async def test_a_vote_cascade_accepts_a_large_enough_share(threshold: float, answer: str) -> None:
    weak, strong = ScriptedEngine(OSLO, REUS, REUS), ScriptedEngine(ANSWER)
    trace = await ask(f"vote-cascade:samples=3,threshold={threshold}", weak, strong=strong)
    [probe] = [event for event in trace.events if isinstance(event, Probe)]
    assert probe.value == pytest.approx(1 / 3)
    assert probe.generated_tokens == 0  # the votes are there already
    assert trace.answer == answer


async def test_a_self_verifying_cascade_counts_the_judgements_that_agree() -> None:
    weak = ScriptedEngine([*FIRST, *ANSWER], [" Correct"], [" Incorrect"], [" Correct", ","], [" Perhaps"])
    trace = await ask("self-verify-cascade:samples=4,threshold=0.6", weak, strong=ScriptedEngine())
    [probe] = [event for event in trace.events if isinstance(event, Probe)]
    assert probe.value == 0.5
    assert probe.texts == ["Correct", "Incorrect", "Correct,", "Perhaps"]
    assert weak.prompts[1].endswith("Proposed answer: Spain\nJudgement:")
    assert trace.costs().escalations == 0


async def test_a_self_verifying_cascade_asks_the_strong_model_anew_where_too_few_agree() -> None:
    weak, strong = ScriptedEngine([*FIRST, *ANSWER], [" Incorrect"], [" Correct"]), ScriptedEngine(REUS)
    trace = await ask("self-verify-cascade:samples=2", weak, strong=strong)
    assert (trace.answer, trace.costs().strong_share) == ("Reus", 1)
    assert strong.prompts[0].endswith("Answer:")


async def test_semantic_entropy_groups_the_sampled_answers() -> None:
    weak = ScriptedEngine([*FIRST, *ANSWER], REUS, OSLO, REUS, REUS)
    trace = await ask("semantic-entropy:samples=4", weak, strong=ScriptedEngine())
    [probe] = [event for event in trace.events if isinstance(event, Probe)]
    assert probe.value == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))


@given(st.lists(st.integers(0, 4), min_size=1))
def test_the_entropy_of_groups_lies_between_agreement_and_disagreement(groups: list[int]) -> None:
    assert 0 <= entropy_of(groups) <= math.log(len(groups)) + 1e-12


async def test_a_critic_answers_again_with_the_criticism_in_the_prompt() -> None:
    engine = ScriptedEngine([*FIRST, *OSLO], [" Oslo", " is", " wrong", "."], REUS)
    trace = await ask("critic", engine)
    assert trace.text == "So the answer is Reus."
    assert engine.prompts[1].endswith("most likely wrong or missing.\nCriticism:")
    assert (
        "Earlier answer: Emma was born in Reus. So the answer is Oslo.\nCriticism of it: Oslo is wrong.\nAnswer:"
        in (engine.prompts[2])
    )
    assert trace.costs().discarded_tokens == len(FIRST) + len(OSLO) + 4


async def test_watch_measures_everything_and_does_nothing() -> None:
    entropy_probe, samples, verdicts = [" It"], [REUS, OSLO], [[" Correct"], [" Correct"]]
    engine = ScriptedEngine(entropy_probe, [*FIRST, *ANSWER], *samples, *verdicts)
    trace = await ask("watch:samples=2", engine)
    measured = [event.signal for event in trace.events if isinstance(event, Probe)]
    before = ["first-token-entropy", "question-perplexity", "p-ik", "random"]
    assert measured == [*before, "vote-share", "semantic-entropy", "self-verification"]
    assert not [event for event in trace.events if isinstance(event, Fired)]
    assert trace.text == text_of(tokens(*FIRST, *ANSWER))


async def test_direct_answers_without_reasoning_and_roles_change_the_instruction() -> None:
    engine = ScriptedEngine(REUS, REUS)
    await ask("direct", engine)
    assert "reasoning" not in engine.prompts[0]
    await ask("closed-book:role=sceptic", engine)
    assert engine.prompts[1].startswith("You are a sceptic")

"""Stop strings: found wherever they stand in the committed text, and never at the cost of a token's own text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import TestServer
from hypothesis import given
from hypothesis import strategies as st

from fakes.scripted import ScriptedEngine, ScriptedRetriever, tokens
from fakes.scripted_vllm import Body, ScriptedVLLM, chunk, event, events, prompt_of, saying, usage
from fakes.serving import serving
from flarekit.engines.vllm import VLLMEngine
from flarekit.errors import StreamBroken
from flarekit.eval.data.world import build_world
from flarekit.policies import Budget, parse_policy, with_settings
from flarekit.prompts.chat import Continuation
from flarekit.retrievers import BM25Retriever
from flarekit.session.session import Session
from flarekit.text.stops import StopFinder, pending_length, shorten
from flarekit.tokens import text_of
from flarekit.trace import Committed, Trace

UNSURE = 0.1


def until(texts: Sequence[str], stops: Sequence[str], **options: Any) -> tuple[str, str | None, int]:
    """The text that is given out, the string that ended it, and how many tokens it took."""
    finder, out, taken = StopFinder(stops, **options), "", 0
    for taken, token in enumerate(tokens(*texts), start=1):
        for _ in range(finder.take(token)):
            out += finder.held.pop(0).text
        if finder.found:
            return out, finder.stop, taken
    return out + text_of(finder.held), None, taken


# --- finding --------------------------------------------------------------------------------------------------------

ALPHABET = st.text("ab@\n", min_size=1, max_size=3)


@given(st.lists(ALPHABET, max_size=8), st.lists(ALPHABET, min_size=1, max_size=3), st.booleans())
def test_text_ends_where_the_first_string_is_complete(said: list[str], stops: list[str], included: bool) -> None:
    whole = "".join(said)
    ends = [whole.find(stop) + len(stop) for stop in stops if stop in whole]
    text, stop, taken = until(said, stops, included=included)
    assert (stop is None) == (not ends)
    if not ends:
        assert (text, taken) == (whole, len(said))
        return
    assert stop is not None
    assert text == whole[: min(ends) - (0 if included else len(stop))]
    assert len("".join(said[: taken - 1])) < min(ends) <= len("".join(said[:taken])), "as soon as it is complete"


@given(st.lists(ALPHABET, max_size=8), st.lists(ALPHABET, min_size=1, max_size=3), st.data())
def test_what_was_said_before_counts_as_text(said: list[str], stops: list[str], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(said)))
    before = "".join(said[:cut])
    text, stop, _ = until(said[cut:], stops, said=before)
    if any(one in before for one in stops):
        return
    whole, same, _ = until(said, stops)
    assert stop == same
    finder = StopFinder(stops, said=before)
    for token in tokens(*said[cut:]):
        finder.take(token)
        if finder.found:
            break
    assert before[: len(before) - finder.excess] + text == whole


@given(st.lists(ALPHABET, min_size=1, max_size=8), st.lists(ALPHABET, min_size=1, max_size=3), st.integers(0, 5))
def test_no_string_is_looked_for_in_an_answer_that_is_too_short(said: list[str], stops: list[str], least: int) -> None:
    _, stop, taken = until(said, stops, least=least)
    assert stop is None or taken > least


def test_of_two_that_end_together_the_first_named_wins() -> None:
    assert until(["a", "bc"], ["abc", "bc"])[:2] == ("", "abc")
    assert until(["a", "bc"], ["bc", "abc"])[:2] == ("a", "bc")
    assert until(["xab", "c"], ["abc", "b"])[:2] == ("xa", "b")


def test_only_what_a_string_may_begin_with_is_held_back() -> None:
    finder = StopFinder(["\nObservation:"])
    free = [finder.take(token) for token in tokens("So", "\n", "Obs", "erve", " it", "\n")]
    assert free == [1, 1, 1, 4, 5, 5]


@given(st.text("ab"), st.lists(st.text("ab", min_size=1), max_size=3))
def test_the_pending_length_is_that_of_the_longest_beginning(text: str, stops: list[str]) -> None:
    fits = [n for stop in stops for n in range(1, len(stop)) if n <= len(text) and text[-n:] == stop[:n]]
    assert pending_length(text, stops) == max(fits, default=0)


@given(st.lists(ALPHABET), st.integers(0, 30))
def test_shortening_keeps_the_ids(said: list[str], count: int) -> None:
    made = tokens(*said)
    whole, ids = text_of(made), [token.id for token in made]
    left = shorten(made, count)
    assert text_of(made) == whole[: max(len(whole) - count, 0)]
    assert (left, [token.id for token in made]) == (max(count - len(whole), 0), ids)


# --- an engine ------------------------------------------------------------------------------------------------------


def holding(text: str) -> Any:
    """A model that says `text`, on a server that holds text back for stop strings as vLLM does."""

    def say(body: Body) -> Iterator[bytes]:
        stops = body.get("stop") or []
        back, sent, said = max(map(len, stops), default=1) - 1, 0, ""
        for place, character in enumerate(text, start=1):
            said += character
            found = next((stop for stop in stops if stop in said), None)
            ended = place == len(text) or found is not None
            end = said.index(found) if found else len(said) - (0 if ended else back)
            made = chunk(said[sent:end], [ord(character)], finish="stop" if ended else None)
            made["choices"][0]["stop_reason"] = found
            sent = max(end, sent)
            yield event(made)
            if ended:
                break
        yield events(usage(len(body["prompt"]), place, cached=0))

    return say


TEXT = "It is so.\nObservation: it is @@ not\n\nso."


@pytest.mark.parametrize(
    ("stop", "text", "reason"),
    [
        ([], TEXT, None),
        (["##"], TEXT, None),
        (["x" * 32], TEXT, None),
        (["\nObservation!", "@@@"], TEXT, None),
        (["@@"], TEXT.partition("@@")[0], "@@"),
        (["\nObservation:"], "It is so.", "\nObservation:"),
        (["@@", "\nObs"], "It is so.", "\nObs"),
        (["\n"], "It is so.", "\n"),
        (["\n", "@@"], "It is so.", "\n"),
        (["It"], "", "It"),
        ([TEXT], "", TEXT),
        (["so."], "It is ", "so."),
    ],
)
async def test_each_token_has_its_own_text_whatever_the_stop_strings(
    stop: list[str], text: str, reason: str | None
) -> None:
    with ScriptedVLLM(holding(TEXT)) as server:
        async with VLLMEngine(server.url) as engine, engine.stream([1], max_tokens=99, stop=stop) as stream:
            made = [token async for token in stream]
            assert (stream.finish, stream.stop_reason) == ("stop", reason)
    assert text_of(made) == text
    assert all(token.text in ("", chr(token.id)) for token in made)
    assert [token.text for token in made][: len(text)] == list(text)


async def test_a_stream_that_holds_tokens_back_has_not_ended() -> None:
    with ScriptedVLLM(holding("a@b@")) as server:
        async with VLLMEngine(server.url) as engine, engine.stream([1], max_tokens=9, stop=["@@"]) as stream:
            assert [(one.text, stream.finish) async for one in stream] == [
                ("a", "closed"),
                ("@", "closed"),
                ("b", "closed"),
                ("@", "stop"),
            ]


# --- a session ------------------------------------------------------------------------------------------------------


async def answered(
    engine: ScriptedEngine, stop: Sequence[str], spec: str = "mid-retrieve", *, least: int = 0, **options: Any
) -> tuple[Trace, list[str]]:
    """The trace, and what the reader was sent; the prompt holds strings to stop at."""
    form = Continuation(text="Emma: @@ ##", stop=tuple(stop), stop_included=options.pop("included", False))
    policy = with_settings(parse_policy(spec), form, Budget(200, 800, least))
    found = ScriptedRetriever(a="One", b="Two", c="Three")
    session = Session(policy, "?", weak=engine, retriever=found, **options)
    return session.trace, [event_.text async for event_ in session if isinstance(event_, Committed)]


DOUBTED = ("She", " wrote", " Emma", ".", (" Rome", UNSURE), " fell", "@", " then", ".", " And")
AGAIN = (" Reus", " rose", ".", "\n", "Much", " later", ".")
SAID = "She wrote Emma. Reus rose.\nMuch later."


@pytest.mark.parametrize(
    "stop", [("##",), ("@@", "##"), ("Emma. Rose",), ("F" * 32,), ("\nObservation:",), ("Emma:",), ("later.#",)]
)
async def test_strings_that_never_occur_change_nothing(stop: tuple[str, ...]) -> None:
    (said, sent), (plain, same) = [await answered(ScriptedEngine(DOUBTED, AGAIN), one) for one in (stop, ())]
    assert said.text == plain.text == "".join(sent) == "".join(same) == SAID
    assert [one.query for one in said.retrievals] == [one.query for one in plain.retrievals] == ["fell@ then."]
    assert [(one.kept, one.tokens) for one in said.segments] == [(one.kept, one.tokens) for one in plain.segments]


@pytest.mark.parametrize(
    ("stop", "text", "reason"),
    [
        (("Emma. Reus",), "She wrote ", "Emma. Reus"),
        ((" Emma. Reus rose.\nM",), "She wrote", " Emma. Reus rose.\nM"),
        (("She wrote Emma. R",), "", "She wrote Emma. R"),
        (("##", "rose"), "She wrote Emma. Reus ", "rose"),
        ((".\nMuch", "later"), "She wrote Emma. Reus rose", ".\nMuch"),
        (("fell",), SAID, None),
        (("fell@ then. And",), SAID, None),
        (("Emma. Rome",), "She wrote ", "Emma. Rome"),  # all of the draft: nobody is to read what is in doubt
    ],
)
async def test_a_string_is_found_across_a_retrieval_but_not_in_a_draft_that_was_discarded(
    stop: tuple[str, ...], text: str, reason: str | None
) -> None:
    trace, sent = await answered(ScriptedEngine(DOUBTED, AGAIN), stop)
    assert "".join(sent) == text
    assert trace.text == text.strip()
    assert (trace.segments[-1].finish, trace.segments[-1].stop) == ("stop", reason)


async def test_a_string_in_a_draft_ends_it_and_is_no_part_of_the_query() -> None:
    trace, sent = await answered(ScriptedEngine(["She.", (" Doubt", UNSURE), " it", "@", "@", " B."], AGAIN), ["@@"])
    assert "".join(sent) == "She. Reus rose.\nMuch later."
    assert [one.query for one in trace.retrievals] == ["it"]


async def test_a_stop_string_alone_needs_no_help() -> None:
    trace, sent = await answered(ScriptedEngine(["She wrote.", ("\nUser", UNSURE), ":", " B."]), ["\nUser:"])
    assert (sent, trace.retrievals, trace.segments[-1].stop) == (["She wrote."], [], "\nUser:")


@pytest.mark.parametrize("back", ["never", "sentence"])
@pytest.mark.parametrize("stop", ["Emma. Reus", "wrote Emma. Reus rose", " Reus", ".\nMuch"])
async def test_a_string_is_found_across_a_hand_over(stop: str, back: str) -> None:
    engines = (
        ScriptedEngine(DOUBTED, ["\n", "Much", " later", "."]),
        ScriptedEngine([" Reus", " rose", ".", "\n", "Much"]),
    )
    trace, sent = await answered(engines[0], [stop], f"escalate:back={back}", strong=engines[1])
    assert "".join(sent) == SAID.partition(stop)[0]
    assert trace.text == "".join(sent).strip()
    assert trace.segments[-1].stop == stop


async def test_a_string_is_found_across_a_stream_that_broke() -> None:
    engine = ScriptedEngine(["She", " wrote", " Emma", ".", " Rome", StreamBroken("broke")], AGAIN)
    trace, sent = await answered(engine, ["Emma. Reus"], resumes=1)
    assert ("".join(sent), trace.segments[-1].stop) == ("She wrote ", "Emma. Reus")


async def test_nothing_that_belongs_to_a_string_is_ever_sent() -> None:
    _, sent = await answered(ScriptedEngine(DOUBTED, AGAIN), ["Emma. Reus"])
    assert sent == ["She wrote", " "]


async def test_what_is_held_back_at_the_end_is_sent() -> None:
    trace, sent = await answered(ScriptedEngine(["She.", " Emma", "@"]), ["@@", "Emma@C"])
    assert ("".join(sent), trace.text, trace.segments[-1].stop) == ("She. Emma@", "She. Emma@", None)


@pytest.mark.parametrize(("included", "text"), [(False, "A"), (True, "A@@")])
async def test_the_string_may_be_asked_for(included: bool, text: str) -> None:
    trace, sent = await answered(ScriptedEngine(["A", "@", "@B", "C."]), ["@@"], included=included)
    assert ("".join(sent), trace.text, trace.segments[-1].stop) == (text, text, "@@")


@pytest.mark.parametrize(("least", "text"), [(0, "A"), (3, "A@@B"), (4, "A@@B@@C."), (99, "A@@B@@C.")])
async def test_an_answer_has_as_many_tokens_as_it_must(least: int, text: str) -> None:
    with ScriptedVLLM(packed(["A", "@@", "B", "@@", "C."])) as server:
        async with VLLMEngine(server.url) as engine:
            form = Continuation(text="?", stop=("@@",))
            policy = with_settings(parse_policy("closed-book"), form, Budget(99, 400, least))
            trace = await Session(policy, "?", weak=engine).run()
        assert [body.get("min_tokens") for body in server.completions] == [least or None]
    assert trace.text == text


def packed(said: Sequence[str]) -> Any:
    """A model that says these tokens."""

    def say(body: Body) -> Iterator[bytes]:
        for place, text in enumerate(said, start=1):
            yield event(chunk(text, [place], finish="stop" if place == len(said) else None))
        yield events(usage(len(body["prompt"]), len(said), cached=0))

    return say


# --- a server -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize(
    ("options", "text", "finish", "reason"),
    [
        ({"stop": "##"}, "It is so. Or @@ not.", "stop", None),
        ({"stop": ["@@", "##"]}, "It is so. Or ", "stop", "@@"),
        ({"stop": ["@@"], "include_stop_str_in_output": True}, "It is so. Or @@", "stop", "@@"),
        ({"stop": ["so. O"]}, "It is ", "stop", "so. O"),
        ({"stop": ["@@"], "min_tokens": 16}, "It is so. Or @@ not.", "stop", None),
        ({"stop": ["@@"], "max_tokens": 5}, "It is", "length", None),
        ({"stop": ["user"], "max_tokens": 99}, "It is so. Or @@ not.", "stop", None),
    ],
)
def test_a_client_is_told_what_ended_its_answer(
    options: dict[str, Any], text: str, finish: str, reason: str | None, chat: bool, stream: bool, tmp_path: Path
) -> None:
    said = "It is so. Or @@ not."
    say = saying(said) if chat else continuing(said)
    asked = {"messages": [{"role": "user", "content": "user: is it?"}]} if chat else {"prompt": "user: is it?"}
    body = {"model": "flare", "stream": stream, "max_tokens": 99} | asked | options
    path = "chat/completions" if chat else "completions"
    with ScriptedVLLM(say) as server, serving(server.url, tmp_path / "corpus.jsonl") as url:
        answer = httpx.post(f"{url}/v1/{path}", json=body, trust_env=False)
    got, ends = [], []
    lines = answer.text.splitlines() if stream else [f"data: {answer.text}"]
    for line in lines:
        if line.startswith("data: {"):
            for choice in json.loads(line.removeprefix("data: "))["choices"]:
                got.append(choice.get("text") or (choice.get("delta") or choice.get("message") or {}).get("content"))
                ends.append((choice["finish_reason"], choice["stop_reason"]))
    assert "".join(part or "" for part in got) == text
    assert ends[-1] == (finish, reason)


def continuing(text: str) -> Any:
    """A model that goes on with `text` after any prompt that ends in a question, from where that holds it."""

    def say(body: Body) -> Iterator[bytes]:
        rest = text.removeprefix(prompt_of(body).rpartition("?")[2])[: body["max_tokens"]]
        for place, character in enumerate(rest, start=1):
            ended = "stop" if text.endswith(rest) else "length"
            yield event(chunk(character, [ord(character)], finish=ended if place == len(rest) else None))
        yield events(usage(len(body["prompt"]), len(rest), cached=0))

    return say


# --- a real server --------------------------------------------------------------------------------------------------


@pytest.mark.vllm
@pytest.mark.parametrize("stop", [("@@",), ("\nObservation:",), ("x" * 32,)])
async def test_real_answers_are_the_same_with_strings_that_never_occur(
    stop: tuple[str, ...], vllm_server: TestServer
) -> None:
    world = build_world()
    retriever = BM25Retriever(world.corpus)

    async def told(question: str, stops: tuple[str, ...]) -> tuple[str, list[str], str]:
        form = Continuation(text=f"Question: {question}\nAnswer:", stop=stops)
        policy = with_settings(parse_policy("mid-retrieve"), form, Budget(60, 240))
        session, sent = Session(policy, question, weak=engine, retriever=retriever), ""
        async for event_ in session:
            if isinstance(event_, Committed):
                sent += event_.text
        return session.trace.text, [found.query for found in session.trace.retrievals], sent

    async with VLLMEngine(vllm_server.url) as engine:
        for question in world.questions[:12]:
            assert await told(question.text, stop) == await told(question.text, ())

"""What a stream may say, and what none may: numbers, reasons, events and texts, as servers are known to send them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.run_directories import segment, trace, write_run
from fakes.scripted_vllm import Body, ScriptedVLLM, chunk, complete, event, events, prompt_of, saying, usage
from fakes.serving import serving
from flarekit.engines.cache.engine import cached
from flarekit.engines.cache.replay import Record
from flarekit.engines.cache.store import CompletionStore
from flarekit.engines.local.doctor import examine
from flarekit.engines.vllm import VLLMEngine
from flarekit.engines.vocabulary import share
from flarekit.errors import BadLogprobs, EngineError, MissingCapability, RunError, StreamBroken
from flarekit.eval.data.dataset import Question
from flarekit.eval.results.groups import load_runs
from flarekit.eval.runs.recorded import read_run
from flarekit.eval.runs.runs import make_config, run
from flarekit.policies import parse_policy
from flarekit.session.session import Session
from flarekit.signals.token import entropy, margin
from flarekit.tokens import IMPOSSIBLE, NotLogprobs, Token, Usage, admit, text_of

PARIS = (chunk(" Pa", [7]), chunk("ris", [8]), chunk(".", [9], finish="stop"))


async def read(content: bytes, texts: dict[int, str] | None = None) -> tuple[list[Token], Usage, str]:
    """What a stream of these bytes says; `texts` are what the server knows of its vocabulary."""

    def answer(request: httpx.Request) -> httpx.Response:
        match request.url.path.rpartition("/")[2]:
            case "models":
                return httpx.Response(200, json={"data": [{"id": "tiny", "max_model_len": 100}]})
            case "completions":
                return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=content)
            case "tokenize" if texts:
                return httpx.Response(200, json={"tokens": [0]})
            case "detokenize" if texts:
                ids = json.loads(request.content)["tokens"]
                return httpx.Response(200, json={"prompt": "".join(({0: "␞"} | texts)[id_] for id_ in ids)})
            case _:
                return httpx.Response(404)

    tiny = VLLMEngine("http://s", transport=httpx.MockTransport(answer))
    async with tiny, tiny.stream([1, 2], max_tokens=5) as stream:
        return [token async for token in stream], stream.usage, stream.finish


def told(value: Any = -0.5, rivals: Any = None, **changes: Any) -> dict[str, Any]:
    """A chunk of the token 7, " Pa", with this log-probability and these candidates."""
    made = chunk(" Pa", [7])
    logprobs = made["choices"][0]["logprobs"]
    logprobs |= {"token_logprobs": [value], "top_logprobs": [{"token_id:7": -0.5} if rivals is None else rivals]}
    made["choices"][0] |= changes
    return made


# --- numbers --------------------------------------------------------------------------------------------------------

NO_LOGPROBS = {
    "null": told(None),
    "NaN": told(math.nan),
    "above 0": told(1),
    "a little above 0": told(0.01),
    "a logit": told(23.5),
    "a logit beyond exp": told(1e6),
    "infinite": told(math.inf),
    "generated, yet impossible": told(-math.inf),
    "impossible, as vLLM writes it": told(-9999.0),
    "a word": told("-0.5"),
    "true": told(True),
    "a list": told([-0.5]),
    "a candidate's null": told(-0.5, {"token_id:7": None}),
    "a candidate's NaN": told(-0.5, {"token_id:7": -0.5, "token_id:8": math.nan}),
    "a first candidate's NaN": told(-0.5, {"token_id:8": math.nan, "token_id:7": -0.5}),
    "a candidate above 0": told(-0.5, {"token_id:7": -0.5, "token_id:8": 710.0}),
    "a candidate's word": told(-0.5, {"token_id:7": "-0.5"}),
    "no candidates": told(-0.5, {}),
    "candidates as a list": told(-0.5, [-0.5]),
    "a candidate's false": told(-0.5, {"token_id:7": False, "token_id:8": -0.5}),
    "false": told(False),
}


@pytest.mark.parametrize("bad", NO_LOGPROBS.values(), ids=NO_LOGPROBS)
async def test_what_is_no_log_probability_is_an_error_that_names_the_token(bad: Any) -> None:
    with pytest.raises(BadLogprobs) as error:
        await read(events(PARIS[1], bad, PARIS[2]))
    assert "tiny at http://s: " in str(error.value)
    assert "7" in str(error.value).partition("http://s")[2]
    assert "' Pa'" in str(error.value)
    assert "\n" not in str(error.value)


MISSING = {
    "all of them": {"logprobs": None},
    "the values": {"logprobs": {"tokens": ["a"], "top_logprobs": [{"a": -0.5}]}},
    "the candidates": {"logprobs": {"tokens": ["a"], "token_logprobs": [-0.5]}},
    "null for all values": {"logprobs": {"tokens": ["a"], "token_logprobs": None, "top_logprobs": [{"a": -0.5}]}},
    "null for all candidates": {"logprobs": {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": None}},
    "one of two": {"token_ids": [7, 8]},
    "an id": {"token_ids": []},
}


@pytest.mark.parametrize("lacking", MISSING.values(), ids=MISSING)
async def test_what_is_missing_is_an_error_of_the_engine(lacking: dict[str, Any]) -> None:
    with pytest.raises((StreamBroken, MissingCapability)) as error:
        await read(events(PARIS[1], told(**lacking), PARIS[2]))
    assert "' Pa'" in str(error.value)


NO_TOKENS: list[dict[str, Any]] = [{"text": text} for text in (None, 3, True, ["a"], {"a": 1})]
NO_TOKENS += [{"token_ids": ids} for ids in (["7"], [None], [7.5], [True], [-1], {"7": 1}, "7", 7, [[7]])]


@pytest.mark.parametrize("wrong", NO_TOKENS, ids=repr)
async def test_what_is_no_token_breaks_the_stream(wrong: dict[str, Any]) -> None:
    with pytest.raises(StreamBroken) as error:
        await read(events(PARIS[1], told(**wrong), PARIS[2]))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "error", ["out of memory", {"message": "out of\nmemory"}, {"message": None}, {"code": 500}, [1]]
)
async def test_an_error_in_the_middle_says_what_the_server_says(error: Any) -> None:
    with pytest.raises(StreamBroken) as raised:
        await read(events(PARIS[0], {"error": error}))
    assert any(said in str(raised.value) for said in ("(out of memory)", "(an error without a message)", "([1])"))
    assert "\n" not in str(raised.value)


async def test_a_chunk_need_not_say_that_it_is_not_the_last() -> None:
    made = told()
    del made["choices"][0]["finish_reason"]
    assert text_of((await read(events(made, *PARIS[1:])))[0]) == " Paris."


COUNTS = [None, "2", 2.5, -1, True, [2]]


@pytest.mark.parametrize("count", COUNTS, ids=repr)
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
async def test_counts_are_whole_numbers(count: Any, name: str) -> None:
    with pytest.raises(StreamBroken, match="counts"):
        await read(events(*PARIS, {"choices": [], "usage": usage(2, 3)["usage"] | {name: count}}))


@pytest.mark.parametrize("reason", [{"a": 1}, ["a"], 2.5])
async def test_a_stop_reason_of_another_kind_is_none(reason: Any) -> None:
    tokens, _, finish = await read(events(*PARIS[:2], told(finish_reason="stop", stop_reason=reason)))
    assert (len(tokens), finish) == (3, "stop")


async def test_a_candidate_without_an_id_keeps_its_name() -> None:
    made = Token("a", 1, -0.5, {"token_id:": -0.5, "token_id:x": -1.0, "token_id:²": -2.0, "token_id:-1": -3.0})
    async with VLLMEngine("http://s", transport=httpx.MockTransport(models)) as tiny:
        assert await tiny.spell([made]) == [made]


@pytest.mark.parametrize("reply", [None, "7", {"a": 1}, ["7"], [7.5], [True]])
@pytest.mark.parametrize("path", ["tokenize", "detokenize"])
async def test_a_tokenizer_that_answers_something_else_is_an_error(path: str, reply: Any) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return models(request) if "models" in request.url.path else httpx.Response(200, json={name: reply})

    name = "tokens" if path == "tokenize" else "prompt"
    async with VLLMEngine("http://s", transport=httpx.MockTransport(answer)) as tiny:
        if path == "detokenize" and isinstance(reply, str):
            return
        with pytest.raises(EngineError, match="is this a vLLM server"):
            await (tiny.tokenize("a") if path == "tokenize" else tiny.detokenize([7]))


def models(request: httpx.Request) -> httpx.Response:
    known = {"data": [{"id": "tiny", "max_model_len": 100}]}
    return httpx.Response(200, json=known) if request.url.path.endswith("models") else httpx.Response(404)


@given(
    st.floats(max_value=0, allow_infinity=False),
    st.dictionaries(st.integers(0, 9).map("token_id:{}".format), st.floats(IMPOSSIBLE, 0), min_size=1),
)
def test_what_is_a_log_probability_is_left_as_it_is(value: float, top: dict[str, float]) -> None:
    assert admit("a", 1, value, top) == Token("a", 1, value, top)


def test_rounding_and_masks_are_mended() -> None:
    masked = admit("a", 1, 1e-6, {"token_id:1": 1e-6, "token_id:2": -math.inf})
    assert masked == Token("a", 1, 0.0, {"token_id:1": 0.0, "token_id:2": IMPOSSIBLE})
    assert (entropy(masked), margin(masked)) == (0, 0)
    assert admit("a", 1, 0, {"token_id:1": 0}) == Token("a", 1, 0.0, {"token_id:1": 0})


@given(st.one_of(st.floats(min_value=1e-3), st.just(-math.inf), st.just(math.nan), st.none(), st.text()))
def test_any_other_value_is_refused(value: Any) -> None:
    with pytest.raises(NotLogprobs):
        admit("a", 1, value, {"token_id:1": -0.5})


def spoilt(value: Any, *questions: str) -> Any:
    """A model whose fourth token comes with `value` in answers to these questions."""

    def say(body: Body) -> Iterator[bytes]:
        said = saying("It may well be so.") if "<|assistant|>" in prompt_of(body) else complete
        for place, part in enumerate(said(body)):
            if place == 3 and any(question in prompt_of(body) for question in questions):
                made = json.loads(part.removeprefix(b"data: "))
                made["choices"][0]["logprobs"]["token_logprobs"] = [value]
                part = event(made)
            yield part

    return say


@pytest.mark.parametrize("value", [None, math.nan, 1.0])
def test_serve_answers_a_bad_number_with_an_error_of_what_is_beneath(value: Any, tmp_path: Path) -> None:
    body = {"model": "flare", "messages": [{"role": "user", "content": "Vienna?"}]}
    say = spoilt(value, "Vienna")
    with ScriptedVLLM(say) as server, serving(server.url, tmp_path / "corpus.jsonl") as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, trust_env=False)
    assert answer.status_code == 502
    assert "log-probability" in answer.json()["error"]["message"]


@pytest.mark.parametrize("value", [None, math.nan, 1.0])
async def test_a_run_leaves_a_bad_answer_out_and_records_the_others(value: Any, tmp_path: Path) -> None:
    plan = {"policies": ["closed-book"], "limit": 6, "out": tmp_path / "out"}
    with ScriptedVLLM() as server:
        plan["engine"] = server.url
        await run(make_config(plan | {"limit": 1}))
        first = read_run(tmp_path / "out").questions.values()
        server.complete = spoilt(value, *(question.text for question in first))
        (tmp_path / "out" / "traces" / "closed-book.jsonl").unlink()
        with pytest.raises(RunError, match="1 of 6 answers are missing, the others are recorded: ") as error:
            await run(make_config(plan))
        assert f"came with {value} for a log-probability" in str(error.value)
        assert "\n" not in str(error.value)
        assert len(read_run(tmp_path / "out").answered) == 5
        server.complete = complete
        await run(make_config(plan))
        assert len(read_run(tmp_path / "out").answered) == 6


# --- records --------------------------------------------------------------------------------------------------------


def run_directory(path: Path, spoil: str, value: str) -> Path:
    """Two questions answered, the first with `value` in the place of `spoil`."""
    traces = [trace(key, "closed-book", "Reus", segment("Emma was born in Reus.")) for key in "ab"]
    write_run(path, [Question(key, f"Question {key}?", ("Reus",)) for key in "ab"], traces)
    file = path / "traces" / "0.jsonl"
    file.write_text(file.read_text().replace(spoil, value, 1))
    return path


LOGPROB = str(math.log(0.9))


@pytest.mark.parametrize(
    ("spoil", "value"),
    [
        *((f",{LOGPROB},", value) for value in ("null", "1.5", "800.0", "0.2")),
        *((f":{LOGPROB},", value) for value in ("null", "1.5", "800.0")),
    ],
)
def test_a_directory_with_one_bad_record_opens_and_says_which(
    spoil: str, value: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = run_directory(tmp_path / "run", spoil, spoil[0] + value + spoil[-1])
    recorded = read_run(made)
    assert recorded.answered == {("closed-book", "b")}
    [why] = recorded.left_out
    assert f"{made / 'traces' / '0.jsonl'}:1: " in why
    assert why in caplog.text


def test_a_comparison_goes_on_with_the_other_records(tmp_path: Path) -> None:
    [group] = load_runs([run_directory(tmp_path / "run", f",{LOGPROB},", ",null,")])
    assert list(group.arms["closed-book"].results) == ["b"]


@pytest.mark.parametrize("bad", ["null", "2.5", "710.0"])
def test_a_cached_completion_is_used_up_to_its_first_bad_number(bad: str) -> None:
    good = [Token(text, ord(text), -0.5, {text: -0.5}) for text in "abc"]
    stored = Record(good, [0.1, 0.2, 0.3], ended=True).dump().replace(b'"b",98,-0.5', f'"b",98,{bad}'.encode())
    assert Record.load(stored) == Record(good[:1], [0.1], ended=False, cut=True)


@pytest.mark.parametrize("key", ["", "\ufffd", " \ufffd"])
def test_a_cached_completion_is_used_up_to_where_candidates_were_one_for_their_text(key: str) -> None:
    good = Token("a", 97, -0.5, {"a": -0.5, " b": -2.0})
    merged = Token("", 230, -0.5, {"a": -1.0, key: -0.5})
    assert Record.load(Record([good, merged, good], [0.1] * 3, ended=True).dump()) == Record([good], [0.1], False, True)


async def test_a_run_goes_on_over_a_cache_with_bad_values(tmp_path: Path) -> None:
    with ScriptedVLLM() as server:
        async with VLLMEngine(server.url) as real:
            with CompletionStore(tmp_path / "store") as store:
                engine = await cached(real, store)
                prompt = [ord(letter) for letter in "Question: What is it?\nAnswer:"]
                for key in (engine._key(["score"], prompt), engine._key(["choose", [1]], prompt)):
                    store.put(key, b"[[null,-0.5],3,1]")
                with pytest.raises(EngineError):  # the scripted server cannot, but it was asked
                    await engine.score(prompt)


# --- reasons --------------------------------------------------------------------------------------------------------

CUT = ["abort", "error", "content_filter", "repetition", "tool_calls", "", "STOP", 3]


@pytest.mark.parametrize("reason", CUT)
@pytest.mark.parametrize("last", ["with a token", "without", "with ids alone"])
async def test_an_answer_that_was_cut_is_never_taken_for_a_whole_one(reason: Any, last: str) -> None:
    made = chunk("ris", [8], finish=reason)
    if last != "with a token":
        logprobs: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": []}
        made["choices"][0] |= {"text": "", "logprobs": logprobs, "token_ids": [] if last == "without" else [8, 9]}
    with pytest.raises(StreamBroken, match=re.escape(repr(reason))):
        await read(events(PARIS[0], made, usage(2, 2)))


ENDLESS = {"no finish reason": events(*PARIS[:2]), "no end at all": event(PARIS[0]), "nothing": b"", "[DONE]": events()}


@pytest.mark.parametrize("content", ENDLESS.values(), ids=ENDLESS)
async def test_a_stream_without_a_finish_reason_is_broken(content: bytes) -> None:
    with pytest.raises(StreamBroken, match="ended before its last token"):
        await read(content)


async def test_a_stream_may_end_without_its_last_word() -> None:
    tokens, counted, finish = await read(b"".join(map(event, PARIS)))
    assert (text_of(tokens), counted.completion, finish) == (" Paris.", 3, "stop")


@pytest.mark.parametrize("reason", ["abort", "error", "content_filter", "repetition"])
@pytest.mark.parametrize("after", [0, 9, 30])
async def test_a_session_resumes_an_answer_that_was_cut(reason: str, after: int) -> None:
    """From what is committed: the text is the same as without, and the end is the model's."""
    asked = 0

    def cut(body: Body) -> Iterator[bytes]:
        nonlocal asked
        asked += 1
        for place, part in enumerate(complete(body)):
            if asked == 1 and place == after:
                yield event(chunk("", [], finish=reason))
                return
            yield part

    with ScriptedVLLM(cut) as server:
        async with VLLMEngine(server.url) as engine:
            trace = await Session(parse_policy("closed-book"), "Is it?", weak=engine, resumes=1).run()
            asked = 0
            with pytest.raises(StreamBroken, match=reason):
                await Session(parse_policy("closed-book"), "Is it?", weak=engine).run()
    assert trace.text == "It has 6 letters. So the answer is it."
    assert (trace.segments[0].finish, trace.segments[-1].finish) == ("closed", "stop")


# --- events ---------------------------------------------------------------------------------------------------------

SILENT = {
    "bare data": b"data:\n\n",
    "bare data and a space": b"data: \n\n",
    "data of spaces": b"data:    \n\n",
    "a ping": b"event: ping\n\n",
    "a ping with data": b'event: ping\ndata: {"type": "ping"}\n\n',
    "a time": b"retry: 3000\n\n",
    "an id": b"id: 7\n\n",
    "a comment": b": keep-alive\n\n",
    "empty lines": b"\n\n\n",
    "an unknown field": b"weather: fine\n\n",
    "usage alone": event({"usage": {"prompt_tokens": 2, "completion_tokens": 1}}),
    "usage and null": event({"choices": None, "usage": {"prompt_tokens": 2, "completion_tokens": 1}}),
    "no choices": event({"choices": []}),
    "a chunk without text": event({"choices": [{"index": 0, "text": "", "logprobs": None, "finish_reason": None}]}),
    "a chunk without ids": event(chunk("", [])),
    "no error": event({"choices": [], "error": None}),
}


@pytest.mark.parametrize("silent", SILENT.values(), ids=SILENT)
@pytest.mark.parametrize("place", range(4))
async def test_events_that_say_nothing_change_nothing(silent: bytes, place: int) -> None:
    parts = [event(part) for part in PARIS]
    parts.insert(place, silent)
    tokens, counted, finish = await read(b"".join(parts) + events(usage(2, 3)))
    assert (text_of(tokens), counted, finish) == (" Paris.", Usage(2, None, 3), "stop")


async def test_a_stream_may_come_byte_by_byte_after_a_mark_of_its_encoding() -> None:
    """Over a real socket: characters, lines and events are parted anywhere."""
    said = "\ufeff" + "".join(
        f"data: {json.dumps(part, ensure_ascii=False)}\r\n\r\n"
        for part in (chunk(" Größe", [7]), chunk("東京", [8]), chunk("🗼", [9], finish="stop"))
    )
    content = said.encode()
    with ScriptedVLLM(lambda body: (content[place : place + 1] for place in range(len(content)))) as server:
        async with VLLMEngine(server.url) as engine, engine.stream([1, 2], max_tokens=5) as stream:
            assert text_of([token async for token in stream]) == " Größe東京🗼"


@pytest.mark.parametrize("end", [b"\r\n", b"\r", b"\n"])
async def test_lines_may_end_in_any_way(end: bytes) -> None:
    assert text_of((await read(events(*PARIS).replace(b"\n", end)))[0]) == " Paris."


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
async def test_what_ends_lines_elsewhere_is_text(separator: str) -> None:
    made = b"data: " + orjson.dumps(chunk(separator, [8])) + b"\n\n"
    assert text_of((await read(event(PARIS[0]) + made + events(PARIS[2])))[0]) == f" Pa{separator}."


# --- several tokens in a chunk --------------------------------------------------------------------------------------

VOCABULARY = {7: " Pa", 8: "ris", 9: ".", 10: "\ufffd", 11: "\ufffd", 12: "\ufffd"}


async def test_tokens_that_come_together_have_each_its_own_text() -> None:
    packed = chunk(" Paris.", [7, 8, 9], finish="stop")
    tokens, _, _ = await read(events(packed), VOCABULARY)
    assert [(token.text, token.id) for token in tokens] == [(" Pa", 7), ("ris", 8), (".", 9)]


async def test_the_last_has_all_the_text_where_nobody_tells() -> None:
    tokens, _, _ = await read(events(chunk(" Paris.", [7, 8, 9], finish="stop")))
    assert [token.text for token in tokens] == ["", "", " Paris."]


@pytest.mark.parametrize(
    ("text", "ids", "shares"),
    [
        ("語", [10, 11, 12], ["", "", "語"]),
        (" Pa語ris", [7, 10, 11, 8], [" Pa", "", "語", "ris"]),
        ("Paris", [7, 8], ["Pa", "ris"]),
        ("語語.", [10, 11, 12, 9], ["", "", "語語", "."]),
    ],
)
async def test_a_character_comes_with_the_last_of_its_tokens(text: str, ids: list[int], shares: list[str]) -> None:
    made = chunk(text, ids, finish="stop")
    tokens, _, _ = await read(events(made), VOCABULARY)
    if text == "Paris":  # a tokenizer that leaves the first space out
        assert text_of(tokens) == text
    else:
        assert [token.text for token in tokens] == shares


@given(st.lists(st.text(max_size=3), min_size=1, max_size=6), st.text(max_size=8))
def test_shares_make_up_the_text(strings: Sequence[str], other: str) -> None:
    assert share("".join(strings), strings) == list(strings)
    assert "".join(share(other, strings)) == other


# --- candidates -----------------------------------------------------------------------------------------------------


async def test_candidates_that_read_alike_are_several() -> None:
    """A tie between two parts of a character is a tie, and its entropy is ln 2."""
    half = {"token_id:10": math.log(0.5), "token_id:11": math.log(0.5)}
    [token], _, _ = await read(events(told(math.log(0.5), half, text="", token_ids=[10], finish_reason="stop")))
    assert margin(token) == pytest.approx(1)
    assert entropy(token) == pytest.approx(math.log(2))


async def test_candidates_are_spelled_where_that_tells_them_apart() -> None:
    top = {f"token_id:{id_}": -1.0 - id_ for id_ in (7, 8, 10, 11)}
    made, same = Token(" Pa", 7, -8.0, top), Token("a", 1, -0.5, {"a": -0.5})

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else {}
        pages = {
            "/v1/models": {"data": [{"id": "tiny"}]},
            "/tokenize": {"tokens": [1, 0]},
            "/detokenize": {"prompt": "".join((VOCABULARY | {0: "␞", 1: " "})[id_] for id_ in body.get("tokens", []))},
        }
        asked.append(request.url.path)
        return httpx.Response(200, json=pages[request.url.path]) if request.url.path in pages else httpx.Response(404)

    asked: list[str] = []
    async with VLLMEngine("http://s", transport=httpx.MockTransport(answer)) as tiny:
        for _ in range(2):
            spelled = await tiny.spell([made, same])
    assert spelled == [
        made._replace(top={" Pa": -8.0, "ris": -9.0, "token_id:10": -11.0, "token_id:11": -12.0}),
        same,
    ]
    assert asked.count("/detokenize") == 1, "each id is asked for once"


# --- the doctor -----------------------------------------------------------------------------------------------------


def by_mode(change: Callable[[float, bool], float]) -> Any:
    """A model that says ln p as `change` makes it, which is told whether the token's logit was biased."""

    def say(body: Body) -> Iterator[bytes]:
        for part in complete(body):
            made = json.loads(part.partition(b"\n")[0].removeprefix(b"data: "))
            for choice in made["choices"]:
                [top] = choice["logprobs"]["top_logprobs"]
                biased = "logit_bias" in body
                top = {key: change(value, biased) for key, value in top.items()}
                value = change(choice["logprobs"]["token_logprobs"][0], biased)
                choice["logprobs"] |= {"top_logprobs": [top], "token_logprobs": [value]}
            yield event(made) if made["choices"] else part

    return say


MODES = {
    "raw_logprobs": (lambda value, biased: value, True),
    "raw_logits": (lambda value, biased: value + 20, False),
    "raw_logits, below 0": (lambda value, biased: value - 20, False),
    "raw_logits, about 0": (lambda value, biased: value / 10 - 0.1, False),
    "processed_logits": (lambda value, biased: value + (800 if biased else 900), False),
    "processed_logprobs": (lambda value, biased: value - (3 if biased else 0), False),
    "NaN": (lambda value, biased: math.nan, False),
}


@pytest.mark.parametrize("mode", MODES)
async def test_the_doctor_tells_what_the_numbers_are(mode: str) -> None:
    change, good = MODES[mode]
    with ScriptedVLLM(by_mode(change)) as server:
        findings = [
            one for one in await examine(server.url) if "log-probabilities" in one.what and one.needed is not None
        ]
    about = [one for one in findings if "stream" in one.what or "own" in one.what]
    assert all(one.good for one in about) == good
    if not good:
        [bad] = [one for one in about if not one.good]
        assert mode.partition(",")[0] in bad.found
        assert "--logprobs-mode raw_logprobs" in bad.remedy

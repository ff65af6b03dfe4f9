"""The engine that asks only for what no stream has told yet; most tests on a scripted server, which counts requests."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TestServer
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fakes.cached_engines import ANSWER, PROMPT, opened, read, told
from fakes.scripted_vllm import Body, ScriptedVLLM, chunk, complete, event, usage
from flarekit.engines.cache.engine import cached
from flarekit.engines.cache.store import CompletionStore
from flarekit.engines.vllm import VLLMEngine
from flarekit.errors import PromptTooLong, StreamBroken
from flarekit.eval.runs.runs import make_config, run
from flarekit.tokens import Token, text_of


async def test_the_same_prompt_is_asked_once() -> None:
    with ScriptedVLLM() as server:
        async with opened(server) as engine:
            first, second = await read(engine, PROMPT), await read(engine, PROMPT)
        assert len(server.completions) == 1
    assert text_of(first) == ANSWER
    assert second == first
    assert (engine.tally.generated, engine.tally.replayed, engine.tally.asked) == (len(ANSWER), len(ANSWER), 1)


async def test_another_process_finds_what_one_has_asked(tmp_path: Path) -> None:
    with ScriptedVLLM() as server:
        for _ in range(2):
            async with opened(server, tmp_path / "store") as engine:
                assert text_of(await read(engine, PROMPT)) == ANSWER
        assert len(server.completions) == 1


@settings(max_examples=25, deadline=None)
@given(reads=st.lists(st.tuples(st.integers(0, len(ANSWER) - 1), st.integers(1, 60), st.integers(1, 60)), min_size=1))
@example(reads=[(0, 4, 4), (4, 36, 36), (0, 41, 41)])  # a record that holds all but the end
async def test_whatever_was_read_before_a_stream_is_what_the_server_would_have_sent(
    reads: list[tuple[int, int, int]],
) -> None:
    """Prompts that hold a part of the answer, streams that are left early, and limits on their length, in any order."""
    with ScriptedVLLM() as server:
        async with VLLMEngine(server.url) as real:
            alone = [await read(real, prompt_with(held), most, max_tokens=limit) for held, most, limit in reads]
        async with opened(server) as engine:
            together = [await read(engine, prompt_with(held), most, max_tokens=limit) for held, most, limit in reads]
    assert together == alone
    # Every token of the one answer is generated once, but for the requests that find it ended or reach into another.
    assert engine.tally.generated + engine.tally.replayed == sum(map(len, alone))


def prompt_with(held: int) -> list[int]:
    """The prompt with the answer's first tokens."""
    return PROMPT + [ord(letter) for letter in ANSWER[:held]]


async def test_a_stream_that_was_stopped_early_is_carried_on_from_there() -> None:
    with ScriptedVLLM() as server:
        async with opened(server) as engine:
            await read(engine, PROMPT, 10)
            assert text_of(await read(engine, PROMPT)) == ANSWER
        assert [len(body["prompt"]) for body in server.completions] == [len(PROMPT), len(PROMPT) + 10]
        assert engine.tally.generated == len(ANSWER)


async def test_a_prompt_that_holds_part_of_a_recorded_answer_goes_on_in_it() -> None:
    with ScriptedVLLM() as server:
        async with opened(server) as engine:
            await read(engine, PROMPT, 20)
            assert text_of(await read(engine, prompt_with(5))) == ANSWER[5:]
            assert text_of(await read(engine, PROMPT)) == ANSWER
        assert len(server.completions) == 2


async def test_usage_and_the_end_are_told_as_if_the_server_had_been_asked() -> None:
    with ScriptedVLLM() as server:
        async with opened(server) as engine:
            for _ in range(2):
                async with engine.stream(PROMPT, max_tokens=60) as stream:
                    assert [stream.finish async for _ in stream][-1] == "stop"
                assert (stream.usage.prompt, stream.usage.completion) == (len(PROMPT), len(ANSWER))
            assert stream.usage.replayed == len(ANSWER)
            async with engine.stream(PROMPT, max_tokens=7) as stream:
                assert len([token async for token in stream]) == 7
            assert (stream.finish, stream.usage.completion) == ("length", 7)
            async with engine.stream(PROMPT, max_tokens=60) as stream:
                async for _ in stream:
                    break
            assert (stream.finish, stream.usage.completion) == ("closed", 1)


async def test_policies_have_a_prefix_cache_each_to_be_reckoned_with() -> None:
    labels = 'block_size="8",enable_prefix_caching="True",num_gpu_blocks="100"'
    with ScriptedVLLM(pages={"/metrics": f"vllm:cache_config_info{{{labels}}} 1.0\n"}) as server:
        async with opened(server) as engine:
            for policy in (engine.salted("a"), engine.salted("b")):
                reads = []
                for _ in range(2):
                    async with policy.stream(PROMPT, max_tokens=60) as stream:
                        _ = [token async for token in stream]
                    reads.append(stream.usage.cached)
                assert reads == [0, 24], "what another policy has read is not there, what its own has is"


async def test_requests_that_come_together_share_what_they_read() -> None:
    labels = 'block_size="8",enable_prefix_caching="True",num_gpu_blocks="100"'
    with ScriptedVLLM(pages={"/metrics": f"vllm:cache_config_info{{{labels}}} 1.0\n"}) as server:
        async with opened(server) as engine:
            policy = engine.salted("a")
            async with policy.stream(PROMPT, max_tokens=60) as one, policy.stream(PROMPT, max_tokens=60) as other:
                assert (one.usage.cached, other.usage.cached) == (0, 24)


@pytest.mark.parametrize(
    "other",
    [{"temperature": 0.7, "seed": 1}, {"top_logprobs": 3}, {"stop": ["\n"]}],
    ids=["sampled", "logprobs", "stop"],
)
async def test_other_parameters_are_another_question(other: dict[str, Any]) -> None:
    with ScriptedVLLM() as server:
        async with opened(server) as engine:
            await read(engine, PROMPT)
            await read(engine, PROMPT, **other)
            await read(engine, PROMPT, **other)
        assert len(server.completions) == 2


async def test_samples_without_a_seed_are_asked_for_every_time() -> None:
    with ScriptedVLLM() as server:
        async with opened(server) as engine:
            for _ in range(3):
                await read(engine, PROMPT, temperature=0.7)
        assert len(server.completions) == 3


async def test_a_sample_that_was_left_early_is_asked_for_again_as_a_whole() -> None:
    with ScriptedVLLM() as server:
        async with opened(server) as engine:
            await read(engine, PROMPT, 10, temperature=0.7, seed=1)
            assert text_of(await read(engine, PROMPT, temperature=0.7, seed=1)) == ANSWER
        assert [len(body["prompt"]) for body in server.completions] == [len(PROMPT)] * 2


async def test_half_a_character_is_not_where_a_stream_is_carried_on() -> None:
    def halves(body: Body) -> Iterator[bytes]:
        held = len(body["prompt"]) - len(PROMPT)
        pieces = [("a", 1), ("", 2), ("é", 3), ("!", 4)][held:]
        for text, id_ in pieces:
            yield event(chunk(text, [id_], strings=["?"], finish="stop" if id_ == 4 else None))
        yield events_end(body, len(pieces))

    def events_end(body: Body, sent: int) -> bytes:
        return event(usage(len(body["prompt"]), sent, cached=0))

    with ScriptedVLLM(halves) as server:
        async with opened(server) as engine:
            assert text_of(await read(engine, PROMPT, 2)) == "a"
            assert text_of(await read(engine, PROMPT)) == "aé!"
        assert [len(body["prompt"]) - len(PROMPT) for body in server.completions] == [0, 1]


async def test_a_stream_that_breaks_keeps_what_it_told_and_stays_an_error() -> None:
    def breaking(body: Body) -> Iterator[bytes]:
        yield from list(complete(body))[:5]

    with ScriptedVLLM(breaking) as server:
        async with opened(server) as engine:
            with pytest.raises(StreamBroken):
                await read(engine, PROMPT)
            server.complete = complete
            assert text_of(await read(engine, PROMPT)) == ANSWER
            assert engine.tally.generated == len(ANSWER)


async def test_a_prompt_that_does_not_fit_is_refused_though_it_is_known(tmp_path: Path) -> None:
    with ScriptedVLLM() as server:
        async with opened(server, tmp_path / "store") as engine:
            await read(engine, PROMPT)
    with ScriptedVLLM(max_model_len=len(PROMPT)) as server:
        async with opened(server, tmp_path / "store") as engine:
            with pytest.raises(PromptTooLong):
                await read(engine, PROMPT)


async def test_another_model_or_version_is_another_question(tmp_path: Path) -> None:
    versions: tuple[dict[str, Any], ...] = ({}, {"model": "larger"}, {"pages": {"/version": {"version": "0.33.0"}}}, {})
    asked = []
    for change in versions:
        with ScriptedVLLM(**change) as server:
            async with opened(server, tmp_path / "store") as engine:
                await read(engine, PROMPT)
            asked.append(len(server.completions))
    assert asked == [1, 1, 1, 0]


async def test_a_run_over_a_cache_records_what_a_run_without_one_does(tmp_path: Path) -> None:
    thetas = [f"flare:theta={theta}" for theta in (0.1, 0.5, 0.9, 0.99)]
    plan: dict[str, Any] = {"policies": ["closed-book", "rag", *thetas, "mid-retrieve"], "limit": 6}
    with ScriptedVLLM() as server:
        await run(make_config(plan | {"engine": server.url, "out": tmp_path / "alone"}))
        alone = len(server.completions)
        over = plan | {"engine": server.url, "cache": tmp_path / "store"}
        tally = await run(make_config(over | {"out": tmp_path / "over"}))
        assert tally.asked == len(server.completions) - alone < alone / 2
        again = await run(make_config(over | {"out": tmp_path / "again"}))
        assert (again.asked, again.generated) == (0, 0)
    assert told(tmp_path / "over") == told(tmp_path / "alone") == told(tmp_path / "again")


@pytest.mark.vllm
async def test_a_real_model_goes_on_in_a_recorded_stream_as_it_would_have_alone(
    vllm_server: TestServer, tmp_path: Path
) -> None:
    async with VLLMEngine(vllm_server.url) as real:
        prompt = await real.tokenize("Once upon a time there was a")
        alone = await read(real, prompt, max_tokens=24)
        choices = [alone[0].id, alone[1].id]
        with CompletionStore(tmp_path / "store") as store:
            engine = await cached(real, store)
            await read(engine, prompt, 7, max_tokens=24)
            held = [*prompt, *(token.id for token in alone[:4])]
            assert alike(await read(engine, held, max_tokens=20), alone[4:])
            assert alike(await read(engine, prompt, max_tokens=24), alone)
            assert engine.tally.generated <= 24 + 1
            first, second = await engine.choose(prompt, choices), await engine.choose(prompt, choices)
            assert first[0] == second[0] == pytest.approx((await real.choose(prompt, choices))[0], abs=1e-3)
            assert await engine.score(prompt) == await engine.score(prompt)


def alike(ours: list[Token], theirs: list[Token]) -> bool:
    pairs = list(zip(ours, theirs, strict=True))
    return all((a.id, a.text) == (b.id, b.text) and math.isclose(a.logprob, b.logprob, abs_tol=1e-3) for a, b in pairs)

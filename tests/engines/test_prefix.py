"""The model of a server's prefix cache."""

from __future__ import annotations

import time

import pytest
from conftest import TestServer
from hypothesis import given
from hypothesis import strategies as st

from flarekit import VLLMEngine
from flarekit.engines.prefix import PrefixCache

IDS = st.lists(st.integers(0, 2), max_size=40)


def test_whole_blocks_of_a_known_prefix_are_hits() -> None:
    cache = PrefixCache(block_size=4, capacity=100)
    cache.add(range(10))
    assert cache.hit([*range(10), 99]) == 8
    assert cache.hit([0, 1, 2, 3, 99]) == 4
    assert cache.hit([99, *range(10)]) == 0


def test_the_last_token_is_always_computed() -> None:
    cache = PrefixCache(block_size=4, capacity=100)
    cache.add(range(8))
    assert cache.hit(range(8)) == 4


def test_the_oldest_blocks_go_first() -> None:
    cache = PrefixCache(block_size=1, capacity=3)
    cache.add([1, 2, 3])
    cache.add([7])
    assert cache.hit([1, 9]) == 0
    assert cache.hit([7, 9]) == 1


@given(IDS, IDS, st.integers(1, 5))
def test_a_hit_is_the_common_prefix_in_whole_blocks(known: list[int], asked: list[int], block_size: int) -> None:
    cache = PrefixCache(block_size, 1000)
    cache.add(known)
    common = next(
        (i for i, (a, b) in enumerate(zip(known, asked, strict=False)) if a != b), min(len(known), len(asked))
    )
    assert cache.hit(asked) == min(common, max(len(asked) - 1, 0)) // block_size * block_size


@pytest.mark.vllm
@pytest.mark.parametrize("continued", [0, 50], ids=["again", "continued"])
async def test_the_estimate_for_a_closed_stream_is_what_a_whole_one_is_told(
    vllm_server: TestServer, continued: int
) -> None:
    usages = {}
    async with VLLMEngine(vllm_server.url) as server:
        prompt = await server.tokenize("Paris is the capital of France. " * 30)
        for close in (True, False):
            engine = server.salted(f"test_prefix {close} {continued} {time.time_ns()}")
            for ids in (prompt, [*prompt, *prompt[:continued]]):
                async with engine.stream(ids, max_tokens=3) as stream:
                    async for _ in stream:
                        if close and ids is not prompt:
                            break
                    usages[close] = stream.usage
    assert usages[True].estimated
    assert not usages[False].estimated
    assert usages[True].cached == usages[False].cached

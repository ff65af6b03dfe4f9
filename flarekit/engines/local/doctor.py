"""What a server must be able to do for flarekit, each tried for real. `flarekit doctor` prints the findings."""

from __future__ import annotations

import asyncio
import math
import re
from dataclasses import dataclass
from time import perf_counter

from flarekit.engines.vllm import VLLMEngine
from flarekit.errors import BadLogprobs, EngineError, MissingCapability
from flarekit.tokens import Token

PROBE = "The capital of France is"
LONG_PROBE = "Paris is the capital of France. " * 40
"""Long enough to fill several blocks of any prefix cache."""
BIAS = -5.0
"""Laid on one token's logit, to see whether what is sent has been processed; far more than rounding."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried."""

    what: str
    good: bool
    found: str
    remedy: str = ""
    needed: bool = True
    """Whether flarekit cannot work without it."""


async def examine(url: str, model: str | None = None) -> list[Finding]:
    """Try everything; `EngineUnavailable` or `UnknownModel` where there is nothing to try."""
    async with VLLMEngine(url, model) as engine:
        findings = [Finding("model", True, f"{engine.model}, context of {engine.max_model_len} tokens")]
        findings += await _streams(engine)
        if findings[1].good:
            findings += [await _continues(engine), await _stops(engine), await _counts(engine), await _scores(engine)]
        return findings


async def _streams(engine: VLLMEngine) -> list[Finding]:
    what = "streams token ids and log-probabilities"
    try:
        prompt = await engine.tokenize(PROBE)
        async with engine.stream(prompt, max_tokens=4) as stream:
            tokens = [token async for token in stream]
            usage = stream.usage
        if not tokens:
            return [Finding(what, False, "a stream without a token", "vLLM 0.10 or newer")]
        processed = await _processed(engine, prompt, tokens[0])
    except BadLogprobs as error:
        return [Finding(what, False, f"logits (raw_logits or processed_logits) or NaN: {error}", _RAW)]
    except MissingCapability as error:
        remedy = "vLLM 0.10 or newer; do not start it with --max-logprobs below 10"
        return [Finding(what, False, str(error).partition(";")[0], remedy)]
    except EngineError as error:
        return [Finding(what, False, str(error), "a vLLM server with /tokenize and /v1/completions")]
    masses = [sum(map(math.exp, token.top.values())) for token in tokens]
    if max(masses) > 1.01 or max(masses) < 0.01:
        found = f"logits (raw_logits or processed_logits): the likeliest tokens' p would add up to {max(masses):.2g}"
        return [Finding(what, False, found, _RAW)]
    least = min(len(token.top) for token in tokens)
    counted = usage.completion == len(tokens)
    found = f"{len(tokens)} tokens, at least {least} candidates each, usage says {usage.completion}"
    findings = [Finding(what, counted and least > 1, found, "vLLM 0.10 or newer, --max-logprobs 10 or more")]
    if processed:
        found = (
            "processed_logprobs: what is left after temperature, penalties and masks, so that a judgement reads p = 1"
        )
        findings.append(Finding("sends the model's own log-probabilities", False, found, _RAW, needed=False))
    return findings


_RAW = "start it with --logprobs-mode raw_logprobs, as vLLM does by itself"


async def _processed(engine: VLLMEngine, prompt: list[int], likeliest: Token) -> bool:
    """Whether a bias on the logit of the prompt's likeliest next token changes the numbers that are sent."""
    biased = engine.sampling({"logit_bias": {str(likeliest.id): BIAS}})
    async with biased.stream(prompt, max_tokens=1) as stream:
        tops = [token.top async for token in stream][:1]
    shifts = [abs(likeliest.top[key] - value) for top in tops for key, value in top.items() if key in likeliest.top]
    return max(shifts, default=0.0) > -BIAS / 10


async def _continues(engine: VLLMEngine) -> Finding:
    """Stop half way and go on by ids: the same tokens must come as without the stop."""
    prompt = await engine.tokenize(PROBE)
    whole = await _ids(engine, prompt, 12)
    rest = await _ids(engine, [*prompt, *whole[:6]], 6)
    same = whole == whole[:6] + rest
    return Finding(
        "goes on from token ids",
        same,
        "the same tokens as without a stop" if same else "other tokens than without a stop",
        "float32 weights (--dtype float32) make greedy decoding repeatable",
        needed=False,
    )


async def _stops(engine: VLLMEngine) -> Finding:
    """Close a long stream and watch the server's own count of running requests."""
    what, remedy = "stops when a stream is closed", "no proxy that buffers between flarekit and the server"
    async with engine.stream(await engine.tokenize(PROBE), max_tokens=2000) as stream:
        async for _ in stream:
            break
    closed = perf_counter()
    while perf_counter() - closed < 5:
        running = re.search(r"^vllm:num_requests_running\S* (\S+)", (await engine.get("/metrics")).text, re.MULTILINE)
        if running is None:
            return Finding(what, False, "the server has no /metrics to tell", "serve /metrics", needed=False)
        if float(running[1]) == 0:
            return Finding(what, True, f"nothing running {perf_counter() - closed:.2f} s after closing")
        await asyncio.sleep(0.05)
    return Finding(what, False, "requests still running after 5 s (other users' among them)", remedy)


async def _counts(engine: VLLMEngine) -> Finding:
    """Ask the same long prompt twice: the second answer must report cached tokens."""
    prompt = await engine.tokenize(LONG_PROBE)
    for _ in range(2):
        async with engine.stream(prompt, max_tokens=1) as stream:
            async for _token in stream:
                pass
            usage = stream.usage
    return Finding(
        "counts prompt tokens served from its prefix cache",
        bool(usage.cached),
        f"{usage.cached} of {usage.prompt} on the second reading" if usage.cached is not None else "not reported",
        "start it with --enable-prompt-tokens-details (without it costs count every prompt token as read)",
        needed=False,
    )


async def _scores(engine: VLLMEngine) -> Finding:
    what = "scores a prompt (only for question-perplexity)"
    try:
        logprobs = await engine.score(await engine.tokenize(PROBE))
    except EngineError as error:
        return Finding(what, False, str(error), "a vLLM that allows prompt_logprobs", needed=False)
    return Finding(what, True, f"{len(logprobs)} log-probabilities", needed=False)


async def _ids(engine: VLLMEngine, prompt: list[int], count: int) -> list[int]:
    async with engine.stream(prompt, max_tokens=count) as stream:
        return [token.id async for token in stream]

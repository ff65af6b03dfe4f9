"""Streams that nobody decides on while they run: votes, judgements, criticisms."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from flarekit.engines.engine import Engine
from flarekit.prompts.few_shot import Prompt
from flarekit.text.canonical import canonical
from flarekit.text.sentences import SentenceSplitter
from flarekit.tokens import text_of
from flarekit.trace import Role, Segment


def _never(_: str, __: str) -> bool | None:
    return False


async def generate(
    engine: Engine,
    prompt: Sequence[int],
    role: Role,
    *,
    ends: Callable[[str, str], bool | None] = _never,
    **options: Any,
) -> Segment:
    """A stream, read to its end or until a sentence `ends` it (`Prompt.ends_answer`); `options` are `Engine.stream`'s.

    The segment's `kept` is where that sentence ends; what comes after was generated before that could be seen. Its
    `seconds` are those that replayed tokens once took, for the caller to add its own.
    """
    segment, sentences, end = Segment(role), SentenceSplitter(), 0
    tokens = segment.tokens
    unsettled = False
    async with engine.stream(prompt, **options) as stream:
        async for token in stream:
            tokens.append(token)
            ended = sentences.push(token.text)
            if ended:
                end = len(tokens) - 1
            if ended or unsettled:
                stands = ends(text_of(tokens[:end]), text_of(tokens[end:]))
                if stands:
                    segment.kept = end
                    break
                unsettled = stands is None
        segment.finish, usage = stream.finish, stream.usage
        segment.stop = getattr(stream, "stop_reason", None)  # not every engine tells
    segment.kept = segment.kept or len(tokens)
    segment.prompt_tokens, segment.cached_tokens, segment.cached_estimated = usage.prompt, usage.cached, usage.estimated
    segment.replayed, segment.seconds = usage.replayed, usage.spared
    return segment


async def sample(count: int, engine: Engine, prompt: Sequence[int], role: Role, **options: Any) -> list[Segment]:
    """`count` streams at the same time, seeded 1 to `count`."""
    return list(
        await asyncio.gather(*(generate(engine, prompt, role, seed=seed, **options) for seed in range(1, count + 1)))
    )


async def sample_answers(
    engine: Engine, prompt: Sequence[int], form: Prompt, *, role: Role, samples: int, temperature: float, limit: int
) -> list[Segment]:
    """`samples` whole answers of at most `limit` tokens to the prompt ids."""
    return await sample(
        samples,
        engine,
        prompt,
        role,
        ends=form.ends_answer,
        max_tokens=limit,
        stop=form.stop,
        temperature=temperature,
    )


def answers_of(segments: Sequence[Segment], form: Prompt) -> list[str]:
    """The short answer that each segment gives."""
    return [form.read_answer(form.visible(text_of(one.tokens[: one.kept])).strip()) for one in segments]


def same_words(answers: Sequence[str], question: str = "") -> list[int]:
    """A group number for each answer: those that say the same in other writing have the same (`canonical`)."""
    plain = [canonical(answer, question) for answer in answers]
    return [plain.index(one) for one in plain]


def majority(groups: Sequence[int]) -> tuple[int, float]:
    """The place of the first member of the largest group, and that group's share. The earlier group wins a tie."""
    group, count = Counter(groups).most_common(1)[0]
    return groups.index(group), count / len(groups)

"""Streams that no trigger watches: votes, judgements, criticisms."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from flarekit.engines.engine import Engine, Stream
from flarekit.prompts.few_shot import Prompt
from flarekit.signals.sentences import SentenceTracker
from flarekit.text.canonical import canonical
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
    segment, sentences, end = Segment(role), SentenceTracker(lookahead=None), 0
    tokens = segment.tokens
    unsettled = False
    async with engine.stream(prompt, **options) as stream:
        async for token in stream:
            tokens.append(token)
            ended = sentences.begins(token)
            if ended:
                end = len(tokens) - 1
            if ended or unsettled:
                stands = ends(text_of(tokens[:end]), text_of(tokens[end:]))
                if stands:
                    segment.kept = end
                    break
                unsettled = stands is None
        segment.seconds = note_usage(segment, stream)
    segment.kept = segment.kept or len(tokens)
    return segment


def note_usage(segment: Segment, stream: Stream) -> float:
    """Write down how a stream ended and what the server counted; the seconds that its replayed tokens once took."""
    segment.finish, usage = stream.finish, stream.usage
    segment.stop = getattr(stream, "stop_reason", None)  # not every engine tells
    segment.prompt_tokens, segment.replayed = usage.prompt, usage.replayed
    segment.cached_tokens, segment.cached_estimated = usage.cached, usage.estimated
    return usage.spared


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

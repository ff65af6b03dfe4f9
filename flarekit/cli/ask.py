"""`flarekit ask`: one question, streamed to the terminal with its tokens tinted by confidence."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.style import Style
from rich.text import Text

from flarekit.cli.searching import EmbedderOption, open_told
from flarekit.engines.vllm import VLLMEngine
from flarekit.engines.vocabulary import spell_trace
from flarekit.errors import ConfigError
from flarekit.io.terminal import console, line, say_json, styled
from flarekit.policies import parse_policy
from flarekit.session.session import Session
from flarekit.tokens import Token
from flarekit.trace import Chosen, Committed, Event, Failed, Fired, HandedOver, Probe, Retrieved, Trace
from flarekit.trace_format import write_trace

TINTS = ((0.9, Style()), (0.6, Style(color="yellow")), (0.3, Style(color="dark_orange", underline=True)))
"""Lowest probability of each tint; below the last, a token is red and underlined."""
DOUBTFUL = Style(color="red", underline=True)


def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    engine: Annotated[str, typer.Option(help="URL of the vLLM server that answers.")],
    policy: Annotated[str, typer.Option(help="A policy, such as flare or flare:theta=0.6.")] = "flare",
    corpus: Annotated[Path | None, typer.Option(help="An index, JSONL of id, title, text, or a YAML file.")] = None,
    embedder: EmbedderOption = None,
    model: Annotated[str | None, typer.Option(help="The model, where the server serves several.")] = None,
    strong: Annotated[str | None, typer.Option(help="URL of the vLLM server that is called for help.")] = None,
    strong_model: Annotated[str | None, typer.Option(help="Its model, where it serves several.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the whole trace as one line of JSON.")] = False,
) -> None:
    """Answer one question and show what was looked up or handed over, and why."""
    trace = asyncio.run(_ask(question, policy, corpus, embedder, (engine, model), (strong, strong_model), quiet=json))
    if json:
        say_json(write_trace(trace))


async def _ask(
    question: str,
    spec: str,
    corpus: Path | None,
    embedder: str | None,
    weak: tuple[str, str | None],
    strong: tuple[str | None, str | None],
    quiet: bool,
) -> Trace:
    policy = parse_policy(spec)
    if policy.retrieves and corpus is None:
        raise ConfigError(f"policy {policy.spec} looks passages up: give them with --corpus FILE")
    if policy.escalates and strong[0] is None:
        raise ConfigError(f"policy {policy.spec} calls a strong engine: give its URL with --strong")
    retriever = open_told(corpus, embedder) if corpus else None
    async with AsyncExitStack() as stack:
        weak_engine = await stack.enter_async_context(VLLMEngine(*weak))
        strong_engine = VLLMEngine(strong[0], strong[1]) if strong[0] else None
        if strong_engine:
            await stack.enter_async_context(strong_engine)
        session = Session(policy, question, weak=weak_engine, strong=strong_engine, retriever=retriever)
        out, notes = console(soft_wrap=True), console(stderr=True, soft_wrap=True)
        async for event in session:
            if quiet:
                continue
            if isinstance(event, Committed):
                out.print(_tinted(event.tokens), end="")
            elif note := _note(event):
                notes.print(f"\n{note}" if session.trace.segments else note, style="dim")
        if quiet:
            await spell_trace(session.trace, weak_engine, strong_engine)
    if not quiet:
        out.print()
        costs = session.trace.costs()
        reckoned = f", {costs.reckoned_tokens} of them reckoned" if costs.reckoned_tokens else ""
        share = f" ({costs.strong_share:.0%} of the answer is the strong model's)" if costs.escalations else ""
        spent = (
            f"{costs.prompt_tokens} tokens read ({costs.cached_tokens} cached{reckoned}), "
            f"{costs.generated_tokens} generated ({costs.discarded_tokens} discarded), "
            f"{costs.retrievals} retrievals, {costs.escalations} hand-overs"
            f"{share}, {costs.seconds:.1f} s"
        )
        notes.print(
            styled(("answer:", "dim"), " ", (session.trace.answer, "bold"), "  ", (spent, "dim")),
        )
    return session.trace


def _tinted(tokens: Sequence[Token]) -> Text:
    text = Text()
    for token in tokens:
        p = math.exp(token.logprob)
        text.append(token.text, next((style for floor, style in TINTS if p >= floor), DOUBTFUL))
    return text


def _note(event: Event) -> str | None:
    """What happened and why, in one or a few lines."""
    match event:
        case Probe(signal=signal, value=value):
            return f"◦ {signal} is {value:.2f}"
        case Fired(signal="always"):
            return None
        case Fired(signal=signal, value=value, threshold=threshold, action=action, moment=moment):
            return f"▲ {moment}: {signal} is {value:.2f}, at or above {threshold:.2f}: {action}"
        case Retrieved(query=query, hits=hits):
            found = "".join(f"\n  {hit.score:6.2f}  {line(hit.passage.title)}" for hit in hits) or "\n  nothing"
            return f"⌕ looked up: {line(query)}{found}"
        case Chosen(router=router, policy=policy):
            return f"◦ {router} chose {policy}"
        case Failed(part=part, error=error):
            return f"✕ the {part} failed: {line(error)}"
        case HandedOver(source=source, target=target):
            return f"⇢ handed over from the {source} to the {target} model"
        case _:
            return None

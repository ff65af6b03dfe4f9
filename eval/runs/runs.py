"""Runs policies on the questions of a dataset, many at a time, and records every finished answer at once.

A run directory holds `manifest.json`, `questions.jsonl` and one file of traces a policy in `traces/`. A run that was
killed, or that failed half way, is started again with the same settings and asks only what is not yet answered.
"""

from __future__ import annotations

import asyncio
import hashlib
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from flarekit.engines.cache.engine import Tally, cached
from flarekit.engines.cache.store import CompletionStore
from flarekit.engines.vllm import VLLMEngine
from flarekit.engines.vocabulary import spell_trace
from flarekit.errors import BadLogprobs, ConfigError, FlarekitError, PromptTooLong, RunError
from flarekit.eval.data.dataset import Dataset, Question
from flarekit.eval.data.formats import load_dataset
from flarekit.eval.data.metrics import f1
from flarekit.eval.runs.directory import RunDirectory
from flarekit.eval.runs.source import Source, open_source
from flarekit.io.files import name_of
from flarekit.io.settings import read_yaml
from flarekit.policies import Budget, Policy, parse_policy, with_settings
from flarekit.prompts.few_shot import Prompt
from flarekit.retrievers.index.build import json_lines
from flarekit.session.session import Session
from flarekit.trace import Trace

Job = tuple[Policy, Question]
Finished = Callable[[Trace, float], None]
"""Told of every answer, and its F1, as it is recorded."""


class RunConfig(BaseModel):
    """What to run; the same as a YAML file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policies: list[str] = Field(min_length=1)
    out: Path
    engine: str
    model: str | None = None
    strong: str | None = None
    strong_model: str | None = None
    dataset: str = "world"
    data: Path | None = None
    corpus: Path | None = None
    """What to search instead of the dataset's own pool: JSON lines, an index, or a YAML file that describes retrieval.

    A run is continued only over the same passages. What an engine elsewhere holds is not checked, only its YAML file.
    """
    retriever: str = "bm25"
    """How to search JSON lines or the pool (`flarekit.retrievers.make_retriever`), such as bm25:k1=1.2,b=0.75."""
    cache: Path | None = None
    """A store of completions (`flarekit.engines.cache.store`), so that no model is asked twice."""
    cache_gib: float = Field(default=4.0, gt=0)
    """What the store may hold; the least recently used completions go first."""
    limit: int | None = Field(default=None, ge=1)
    """Ask the first so many questions."""
    concurrency: int = Field(default=8, ge=1)
    """Sessions at a time; a server answers a batch nearly as fast as one.

    With a cache, questions at a time: the policies of one take turns, since each finds what those before it asked.
    """
    answer_tokens: int = Field(default=Budget().answer, ge=1)
    total_tokens: int = Field(default=Budget().total, ge=1)

    @field_validator("retriever")
    @classmethod
    def _of_passages_in_memory(cls, retriever: str, info: ValidationInfo) -> str:
        corpus = info.data.get("corpus")
        if corpus and not json_lines(corpus) and retriever != cls.model_fields["retriever"].default:
            raise PydanticCustomError("built", "an index or an engine is searched as it was built; leave it out")
        return retriever


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, not yet checked; relative paths in it are relative to the working directory."""
    settings = read_yaml(path)
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: holds no settings; a run needs at least policies, engine and out")
    return settings


def make_config(settings: Mapping[str, Any]) -> RunConfig:
    """The run that `settings` describe; a `ConfigError` that names the setting where they describe none."""
    try:
        return RunConfig.model_validate(settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}") from error


async def run(
    config: RunConfig,
    started: Callable[[int, int], None] | None = None,
    finished: Finished | None = None,
    noted: Callable[[str], None] | None = None,
) -> Tally:
    """Carry a run out, or finish one that was interrupted; gives what a cache spared, nothing where there is none.

    `started` is told how many answers there will be and how many exist already, `noted` what is to be known of the
    data (`Dataset.notes`). Questions whose prompt is too long for the model, or whose answer came with a number that
    is no log-probability, are left out and reported by a `RunError` at the end; any other failure ends the run at
    once, with everything that was answered kept.
    """
    policies = planned_policies(config)
    needs_strong = [policy.spec for policy in policies if policy.escalates]
    if needs_strong and config.strong is None:
        raise ConfigError(f"policy {needs_strong[0]} needs a strong engine: give its URL with --strong")
    dataset = load_dataset(config.dataset, config.data)
    if noted:
        for note in dataset.notes:
            noted(note)
    source = open_source(config.corpus, dataset.corpus, config.retriever)
    questions = dataset.questions[: config.limit]
    async with AsyncExitStack() as stack:
        weak = await stack.enter_async_context(VLLMEngine(config.engine, config.model))
        strong = VLLMEngine(config.strong, config.strong_model) if config.strong else None
        if strong:
            await stack.enter_async_context(strong)
        tally = Tally()
        store = _open_store(config, stack)
        weak_asked = await cached(weak, store, tally) if store else weak
        strong_asked = await cached(strong, store, tally) if store and strong else strong
        manifest = await _manifest(config, dataset, source, policies, weak, strong)
        with RunDirectory(config.out, manifest, questions) as directory:
            jobs = [(p, q) for q in questions for p in policies if (p.spec, q.id) not in directory.done]
            if started:
                total = len(questions) * len(policies)
                started(total, total - len(jobs))

            # What one policy has read must not make another one's reading cheaper.
            engines = {
                policy.spec: (weak_asked.salted(policy.spec), strong_asked and strong_asked.salted(policy.spec))
                for policy in policies
            }

            async def answer(policy: Policy, question: Question) -> None:
                own_weak, own_strong = engines[policy.spec]
                session = Session(
                    policy, question.text, weak=own_weak, strong=own_strong, retriever=source.retriever, id=question.id
                )
                trace = await session.run()
                await spell_trace(trace, own_weak, own_strong)
                directory.append(trace)
                if finished:
                    finished(trace, f1(trace.answer, question.answers, dataset.metric))

            turns = (
                [list(turn) for _, turn in groupby(jobs, key=lambda job: job[1].id)] if store else [[j] for j in jobs]
            )
            await _work(turns, answer, config.concurrency)
        if store and store.failure:
            raise RunError(f"all answers are recorded, but the cache is not complete: {store.failure}")
        return tally


def _open_store(config: RunConfig, stack: AsyncExitStack) -> CompletionStore | None:
    if config.cache is None:
        return None
    return stack.enter_context(CompletionStore(config.cache, max_bytes=int(config.cache_gib * 2**30)))


def planned_policies(config: RunConfig) -> list[Policy]:
    """The policies of a run, each once: "rag" and "rag:k=3" are one."""
    budget = Budget(config.answer_tokens, config.total_tokens)
    named = {policy.spec: policy for policy in map(parse_policy, config.policies)}
    return [with_settings(policy, budget=budget) for policy in named.values()]


async def _work(turns: Sequence[Sequence[Job]], answer: Callable[..., Any], concurrency: int) -> None:
    """Answer all jobs, `concurrency` turns at a time and those of one turn one after the other."""
    queue: Iterator[Sequence[Job]] = iter(turns)
    missing: list[str] = []

    async def worker() -> None:
        for turn in queue:
            for policy, question in turn:
                try:
                    await answer(policy, question)
                except (PromptTooLong, BadLogprobs) as error:
                    missing.append(f"{policy.spec}, question {question.id}: {error}")

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(turns))):
                group.create_task(worker())
    except* FlarekitError as failures:
        raise failures.exceptions[0] from None
    if missing:
        total = sum(map(len, turns))
        raise RunError(f"{len(missing)} of {total} answers are missing, the others are recorded: {missing[0]}")


async def _manifest(
    config: RunConfig,
    dataset: Dataset,
    source: Source,
    policies: Sequence[Policy],
    weak: VLLMEngine,
    strong: VLLMEngine | None,
) -> dict[str, Any]:
    """How a run was made. "settings" is what must be the same for a run to be continued."""
    first = policies[0]
    engines = {"weak": await _describe(weak)} | ({"strong": await _describe(strong)} if strong else {})
    return {
        "format": 3,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "dataset": {
            "name": dataset.name,
            "metric": dataset.metric,
            "path": config.data and name_of(Path(config.data.name)),
            "questions": len(dataset.questions),
            **({"notes": list(dataset.notes)} if dataset.notes else {}),
            "passages": source.passages,
        },
        "index": source.index,
        "decoding": "greedy (temperature 0, no seed)",
        "policies": [policy.spec for policy in policies],
        "engines": engines,
        "settings": {
            "dataset": dataset.name,
            "questions and passages (sha256)": _digest(dataset.questions, source.known_by),
            "corpus": config.corpus and name_of(Path(config.corpus.name)),
            "retriever": source.retriever.name,
            "weak model": weak.model,
            **({"strong model": strong.model} if strong else {}),
            "prompt (sha256)": hashlib.sha256(Prompt().render("").encode()).hexdigest(),
            "answer tokens": first.budget.answer,
            "total tokens": first.budget.total,
        },
        "prompt": Prompt().render("{question}"),
        "concurrency": config.concurrency,
        "cache": config.cache and name_of(Path(config.cache.name)),
        "versions": {
            "flarekit": version("flarekit"),
            "vllm": engines["weak"]["vllm"],
            "rank-bm25": version("rank-bm25"),
            "python": platform.python_version(),
        },
        "machine": f"{platform.system()} {platform.machine()}",
    }


async def _describe(engine: VLLMEngine) -> dict[str, Any]:
    """An engine as the manifest names it."""
    told = {"url": engine.url, "model": engine.model, "max_model_len": engine.max_model_len}
    return told | {"vllm": await engine.version()}


def _digest(questions: Iterable[Question], known_by: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for question in questions:
        digest.update(f"{question.id}\0{question.text}\0{question.answers}\n".encode())
    for part in known_by:
        digest.update(part.encode())
    return digest.hexdigest()

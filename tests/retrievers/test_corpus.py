"""Corpora on disk: what is written is read back, and what is wrong is named with its line."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flarekit.errors import DataError
from flarekit.retrieval import Passage
from flarekit.retrievers import read_corpus, write_corpus

OSLO = Passage("Oslo", "Oslo", "Oslo is the capital of Norway.")
RIGA = Passage("Riga", "Riga", "Riga is the capital of Latvia.\nIt lies on the Daugava. “Rīga”")

# JSON cannot carry lone surrogates; everything else must survive, line ends included.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
CORPORA = st.lists(st.builds(Passage, TEXTS, TEXTS, TEXTS), min_size=1, unique_by=lambda passage: passage.id)


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz"])
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    write_corpus(tmp_path / name, [OSLO, RIGA])
    assert read_corpus(tmp_path / name) == [OSLO, RIGA]


@given(CORPORA)
def test_every_text_survives(tmp_path_factory: pytest.TempPathFactory, corpus: list[Passage]) -> None:
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    write_corpus(path, corpus)
    assert read_corpus(str(path)) == corpus


def test_gzip_is_real_and_the_same_bytes_every_time(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_corpus(tmp_path / name, [OSLO])
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()).startswith(b'{"id":"Oslo"')


def test_a_broken_off_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    def failing() -> Iterator[Passage]:
        yield RIGA
        raise RuntimeError("the source failed")

    write_corpus(tmp_path / "corpus.jsonl", [OSLO])
    with pytest.raises(RuntimeError):
        write_corpus(tmp_path / "corpus.jsonl", failing())
    assert read_corpus(tmp_path / "corpus.jsonl") == [OSLO]
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.jsonl"]


def test_blank_lines_and_other_fields_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('\n{"id": "1", "title": "T", "text": "x", "url": 3}\n\n')
    assert read_corpus(path) == [Passage("1", "T", "x")]


GOOD = b'{"id": "1", "title": "T", "text": "x"}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no passages"),
        (b"\n\n", "no passages"),
        (GOOD + b"{oops}\n", "corpus.jsonl:2: not JSON"),
        (GOOD + b"[1]\n", "corpus.jsonl:2: expected a JSON object, found a list"),
        (GOOD + b'{"id": "2", "title": "T"}\n', "corpus.jsonl:2: no field 'text'"),
        (GOOD + b'{"id": 2, "title": "T", "text": "x"}\n', "corpus.jsonl:2: the field 'id' must be a string"),
        (GOOD + b'{"id": "2", "title": null, "text": "x"}\n', "must be a string, found null"),
        (GOOD + b"\n" + GOOD, "corpus.jsonl:3: the id '1' is already on line 1"),
        (GOOD + b'{"id": "M\xfcller"}\n', "corpus.jsonl:2: not UTF-8"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_corpus(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [GOOD, gzip.compress(GOOD, mtime=0)[:-9], b"\x1f\x8b\x08\x00garbage!!"])
def test_a_file_that_is_no_whole_gzip_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "corpus.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"corpus.jsonl.gz: broken off or not gzip"):
        read_corpus(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_corpus(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="cannot be read"):
        read_corpus(tmp_path)
    with pytest.raises(DataError, match="cannot be written"):
        write_corpus(tmp_path / "none" / "corpus.jsonl", [OSLO])

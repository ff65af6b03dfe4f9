"""Corpora in every layout: what is in the files comes out, and what is wrong is named with its line."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flarekit.errors import DataError
from flarekit.retrieval import Passage
from flarekit.retrievers import iter_corpus, write_corpus
from flarekit.text.sentences import split_sentences

OSLO = Passage("1", "Oslo", "Oslo is the capital of Norway.")
QUOTED = Passage("2", "“Rīga”", 'Riga, "the\tpearl",\nlies on the Daugava.')
EMPTY = Passage("3", "", "")
CORPUS = [OSLO, QUOTED, EMPTY]
BEIR = b'{"_id": "1", "title": "Oslo", "text": "Oslo is the capital of Norway.", "metadata": {}}\n'


def as_tsv(passages: list[Passage], *, header: bool) -> bytes:
    text = io.StringIO(newline="")
    rows = csv.writer(text, delimiter="\t", lineterminator="\r\n")
    if header:
        rows.writerow(["id", "text", "title"])
    rows.writerows((passage.id, passage.text, passage.title) for passage in passages)
    return text.getvalue().encode()


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def read(path: Path) -> list[Passage]:
    return list(iter_corpus(path))


# --- layouts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz", "corpus.data"])
def test_json_lines(tmp_path: Path, name: str) -> None:
    write_corpus(tmp_path / name, CORPUS)
    assert read(tmp_path / name) == CORPUS


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz"])
def test_the_layout_of_beir_as_a_file_and_as_a_folder(tmp_path: Path, name: str) -> None:
    path = put(tmp_path / name, BEIR + b'{"_id": "4", "text": "No title."}\n')
    put(tmp_path / "queries.jsonl", b"not read")
    assert read(path) == read(tmp_path) == [OSLO, Passage("4", "", "No title.")]


@pytest.mark.parametrize("name", ["psgs.tsv", "psgs.tsv.gz"])
@pytest.mark.parametrize("header", [True, False])
def test_the_layout_of_dpr(tmp_path: Path, name: str, header: bool) -> None:
    assert read(put(tmp_path / name, as_tsv(CORPUS, header=header))) == CORPUS


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(st.lists(st.builds(Passage, TEXTS.filter(bool), TEXTS, TEXTS), min_size=1), st.booleans())
def test_every_text_survives_quoting(
    tmp_path_factory: pytest.TempPathFactory, corpus: list[Passage], header: bool
) -> None:
    assert read(put(tmp_path_factory.mktemp("corpus") / "a.tsv", as_tsv(corpus, header=header))) == corpus


@pytest.mark.parametrize("change", [lambda content: b"\xef\xbb\xbf" + content, lambda c: c.replace(b"\n", b"\r\n")])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", BEIR + b"\n" + BEIR.replace(b'"1"', b'"4"')),
        ("a.tsv", as_tsv([OSLO, EMPTY], header=True)),
        ("a.md", b"# Oslo\n\nThe capital.\nOf Norway.\n"),
    ],
)
def test_a_byte_order_mark_and_the_line_ends_of_windows_do_not_matter(
    tmp_path: Path, name: str, content: bytes, change: Callable[[bytes], bytes]
) -> None:
    assert read(put(tmp_path / "changed" / name, change(content))) == read(put(tmp_path / name, content))


def test_passages_come_before_the_rest_is_read(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", BEIR + b"broken")
    assert list(islice(iter_corpus(path), 1)) == [OSLO]


@pytest.mark.parametrize("name", ["a.jsonl", "a.tsv", "a.txt"])
def test_a_passage_may_have_ten_megabytes(tmp_path: Path, name: str) -> None:
    passage = Passage("1", "T", "fjord " * 1_700_000 + ".")
    path = tmp_path / name
    if name == "a.jsonl":
        write_corpus(path, [passage])
    else:
        put(path, as_tsv([passage], header=False) if name == "a.tsv" else passage.text.encode())
    assert sum(len(one.text.split()) for one in iter_corpus(path)) == 1_700_001


# --- folders of text ------------------------------------------------------------------------------------------------


def test_a_folder_of_texts_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    put(tmp_path / "b.md", b"Intro.\n\n## The *fjord* ##\n\nIt is deep.\n")
    put(tmp_path / "a" / "Riga.TXT", b"# Riga is\n  the capital of Latvia. \n")
    put(tmp_path / "c.txt", b"\n \n")
    put(tmp_path / ".git" / "d.txt", b"Hidden.")
    put(tmp_path / "e.py", b"pass")
    assert read(tmp_path) == [
        Passage("a/Riga.TXT#1", "Riga", "# Riga is the capital of Latvia."),
        Passage("b.md#1", "The *fjord*", "Intro. The *fjord* It is deep."),
    ]
    assert read(tmp_path / "b.md") == [Passage("b.md#1", "The *fjord*", "Intro. The *fjord* It is deep.")]


def test_passages_are_whole_sentences_of_about_a_hundred_words(tmp_path: Path) -> None:
    sentences = [f"Town {number} lies on a river {'that is long ' * (number % 7)}." for number in range(60)]
    passages = read(put(tmp_path / "a.txt", " ".join(sentences).encode()))
    assert [passage.id for passage in passages] == [f"a.txt#{number}" for number in range(1, len(passages) + 1)]
    assert " ".join(passage.text for passage in passages).split() == " ".join(sentences).split()
    assert all(80 <= len(passage.text.split()) <= 100 for passage in passages[:-1])
    assert all(passage.text.startswith("Town ") for passage in passages)


def test_only_a_sentence_that_is_longer_than_a_passage_is_cut(tmp_path: Path) -> None:
    path = put(tmp_path / "a.txt", f"Short one. A {'very ' * 248}long one. The end.".encode())
    assert [len(passage.text.split()) for passage in iter_corpus(path)] == [2, 100, 100, 53]


@settings(max_examples=60)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_word_of_a_text_is_lost(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = put(tmp_path_factory.mktemp("texts") / "a.txt", f"First.\n{text}".encode())
    words = [word for sentence in split_sentences(f"First.\n{text}") for word in sentence.split()]
    assert [word for passage in iter_corpus(path) for word in passage.text.split()] == words


# --- what is wrong --------------------------------------------------------------------------------------------------

ROW = b"1\ttext\ttitle\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "a.jsonl: no passages"),
        ("a.tsv", b"id\ttext\ttitle\n\n", "a.tsv: no passages"),
        ("a.txt", b" \n", "a.txt: no passages"),
        ("a.jsonl", BEIR + b'{"_id": 5, "text": ""}', "a.jsonl:2: the field 'id' must be a string, found a number"),
        ("a.jsonl", BEIR + b'{"_id": "5"}', "a.jsonl:2: no field 'text'"),
        ("a.jsonl", BEIR + b"\xff\n", r"a.jsonl:2: not UTF-8 \(byte 1\)"),
        ("a.tsv", ROW + b"2\ttext\n", "a.tsv:2: expected id, text and title with tabs between, found 2 fields"),
        ("a.tsv", ROW + b"2\ttext\ttitle\tmore\n", "found 4 fields"),
        ("a.tsv", ROW + b'2\t"te\nxt" x\ttitle\n', "a.tsv:2: not tab-separated as csv writes it"),
        ("a.tsv", ROW + b'2\t"text\ttitle\n', "a.tsv:2: not tab-separated as csv writes it"),
        ("a.tsv", ROW + b"2\tM\xfcller\ttitle\n", r"a.tsv:2: not UTF-8 \(byte 4\)"),
        ("a.md", b"# Oslo\n\nM\xfcller\n", r"a.md:3: not UTF-8 \(byte 2\)"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(put(tmp_path / name, content))
    assert "\n" not in str(caught.value)


def test_a_missing_file_an_empty_folder_and_a_broken_archive_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.tsv: no such file"):
        read(tmp_path / "none.tsv")
    with pytest.raises(DataError, match="no passages; a corpus is JSON lines"):
        read(tmp_path)
    broken = tmp_path / "a.tsv.gz"
    broken.write_bytes(gzip.compress(ROW)[:-9])
    with pytest.raises(DataError, match=r"a.tsv.gz: broken off or not gzip"):
        read(broken)

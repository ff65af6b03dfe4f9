"""The published formats: what is read from them, and what is said about a file that is another one."""

import gzip
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.hotpot import HOTPOT
from flarekit.errors import ConfigError, DataError
from flarekit.eval.data.dataset import Dataset
from flarekit.eval.data.formats import load_2wikimultihopqa, load_dataset, load_hotpotqa, load_musique, load_world
from flarekit.eval.data.pool import Pool
from flarekit.retrievers import iter_corpus

DATA = Path(__file__).parents[2].parent / "shared" / "data"

WIKI: dict[str, Any] = {**HOTPOT, "evidences": [["Latvia", "capital", "Riga"]], "answer_id": "Q8197"}
del WIKI["level"]
MUSIQUE: dict[str, Any] = {
    "id": "2hop__1_2",
    "question": HOTPOT["question"],
    "answer": "Daugava",
    "answer_aliases": ["Western Dvina", "Daugava"],
    "answerable": True,
    "paragraphs": [
        {"idx": 0, "title": "Riga", "paragraph_text": "Riga lies on the Daugava.", "is_supporting": True},
        {"idx": 1, "title": "Riga", "paragraph_text": "Riga is also a surname.", "is_supporting": False},
    ],
}


def write(folder: Path, *items: object, lines: bool = False) -> Path:
    path = folder / "questions.json"
    path.write_text("\n".join(map(json.dumps, items)) if lines else json.dumps(items))
    return path


def without(item: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key != name}


def test_hotpotqa_is_read(tmp_path: Path) -> None:
    data = load_hotpotqa(write(tmp_path, HOTPOT))
    (question,) = data.questions
    assert (data.name, data.metric) == ("hotpotqa", "hotpotqa")
    assert (question.id, question.answers, question.kind) == ("q1", ("Daugava",), "bridge")
    assert question.supporting == ("Riga", "Latvia")
    assert question.needs_retrieval is None
    assert [passage.id for passage in data.corpus] == ["Riga", "Latvia", "Oslo"]
    assert data.corpus[0].text == "Riga lies on the Daugava. It is old."


def test_a_needed_paragraph_that_is_not_there_leaves_the_supporting_ones_unknown(tmp_path: Path) -> None:
    fullwiki = {**HOTPOT, "context": HOTPOT["context"][:1]}
    assert load_hotpotqa(write(tmp_path, fullwiki)).questions[0].supporting == ()


def test_2wikimultihopqa_takes_aliases_from_the_official_file_beside_it(tmp_path: Path) -> None:
    path = write(tmp_path, WIKI)
    alone = load_2wikimultihopqa(path)
    assert alone.questions[0].answers == ("Daugava",)
    [note] = alone.notes
    assert "id_aliases.json of the official download is not beside the data; scores are lower" in note
    assert str(path) in note
    aliases = {"Q_id": "Q8197", "aliases": ["Western Dvina"], "demonyms": ["Daugavan"]}
    (tmp_path / "id_aliases.json").write_text(json.dumps(aliases))
    data = load_2wikimultihopqa(path)
    assert data.questions[0].answers == ("Daugava", "Western Dvina", "Daugavan")
    assert data.notes == ()
    (tmp_path / "id_aliases.json").unlink()
    assert load_2wikimultihopqa(write(tmp_path, {**WIKI, "answer_aliases": ["Dvina"]})).notes == ()
    assert load_hotpotqa(write(tmp_path, HOTPOT)).notes == ()
    assert (data.name, data.metric) == ("2wikimultihopqa", "hotpotqa")


def test_musique_is_read_with_its_aliases_and_without_the_unanswerable(tmp_path: Path) -> None:
    data = load_musique(write(tmp_path, {**MUSIQUE, "answerable": False}, MUSIQUE, lines=True))
    (question,) = data.questions
    assert (data.name, data.metric) == ("musique", "musique")
    assert (question.answers, question.kind) == (("Daugava", "Western Dvina"), "2hop")
    assert question.supporting == ("Riga",)
    assert [passage.id for passage in data.corpus] == ["Riga", "Riga #2"]


def test_a_paragraph_of_two_questions_is_one_passage(tmp_path: Path) -> None:
    data = load_hotpotqa(write(tmp_path, HOTPOT, {**HOTPOT, "_id": "q2"}))
    assert len(data.corpus) == 3
    assert data.questions[0].supporting == data.questions[1].supporting


@given(st.lists(st.tuples(st.sampled_from(["", "A", "A #2", "A #3", "untitled"]), st.sampled_from("xyz"))))
def test_every_passage_has_its_own_id_and_every_copy_the_same(pairs: list[tuple[str, str]]) -> None:
    pool = Pool()
    ids = [pool.add(*pair) for pair in pairs]
    assert ids == [pool.add(*pair) for pair in pairs]
    assert len(set(ids)) == len(pool.passages) == len(set(pairs))
    assert {(p.id, p.title, p.text) for p in pool.passages} == {(i, *pair) for i, pair in zip(ids, pairs, strict=True)}


@pytest.mark.parametrize(
    ("items", "lines", "name", "message"),
    [
        ([MUSIQUE, MUSIQUE], True, "hotpotqa", ":1: expected a question of hotpotqa, found one of musique; load it as"),
        ([MUSIQUE], False, "hotpotqa", "item 0: expected a question of hotpotqa, found one of musique; load it as"),
        ([MUSIQUE], False, "2wikimultihopqa", "item 0: expected a question of 2wikimultihopqa, found one of musique"),
        ([WIKI], False, "hotpotqa", "found one of 2wikimultihopqa; load it as 2wikimultihopqa"),
        ([HOTPOT], False, "musique", "item 0: expected a question of musique, found one of hotpotqa; load it as"),
        ([HOTPOT], True, "musique", ":1: expected a question of musique, found one of hotpotqa"),
        ([HOTPOT, without(HOTPOT, "answer")], False, "hotpotqa", "item 1: no field 'answer'"),
        ([HOTPOT, HOTPOT], False, "hotpotqa", "the question id 'q1' occurs twice"),
        ([{**HOTPOT, "answer": None}], False, "hotpotqa", "item 0: the field 'answer' must be a string, found null"),
        ([{**HOTPOT, "context": [["Riga"]]}], False, "hotpotqa", "item 0: every item of 'context' must be a pair"),
        ([{**HOTPOT, "context": [["Riga", "x"]]}], False, "hotpotqa", "sentences of 'Riga' must be a list"),
        (["text"], False, "hotpotqa", "item 0 must be an object, found a string"),
        ([], False, "hotpotqa", "no questions"),
        ([], True, "musique", "no questions"),
        ([without(MUSIQUE, "answer_aliases")], True, "musique", ":1: no field 'answer_aliases'"),
        ([{**MUSIQUE, "paragraphs": [{"title": "x"}]}], True, "musique", "paragraph 0: no field 'paragraph_text'"),
    ],
)
def test_a_wrong_file_is_named_with_what_would_fit(
    tmp_path: Path, items: list[object], lines: bool, name: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(name, write(tmp_path, *items, lines=lines))
    assert "questions.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["hotpotqa", "2wikimultihopqa", "musique", "world"])
def test_a_missing_file_and_an_unreadable_one_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"no such file|not a folder"):
        load_dataset(name, tmp_path / "none")
    (tmp_path / "bad").write_bytes(b"{\xff}")
    with pytest.raises(DataError, match=r"not UTF-8|not a folder"):
        load_dataset(name, tmp_path / "bad")


def test_an_unknown_dataset_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="known are hotpotqa, 2wikimultihopqa, musique and world"):
        load_dataset("squad")


def hub(monkeypatch: pytest.MonkeyPatch, rows: object) -> None:
    def fetch(repository: str, config: str | None, split: str) -> object:
        if isinstance(rows, Exception):
            raise rows
        return rows

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=fetch))


def test_the_hub_form_of_hotpotqa_reads_like_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = without(HOTPOT, "_id") | {
        "id": "q1",
        "supporting_facts": {"title": ["Riga", "Latvia", "Riga"], "sent_id": [0, 0, 1]},
        "context": {"title": ["Riga", "Latvia", "Oslo"], "sentences": [c[1] for c in HOTPOT["context"]]},
    }
    hub(monkeypatch, [row])
    assert load_dataset("hotpotqa") == load_hotpotqa(write(tmp_path, HOTPOT))


def test_musique_comes_from_the_hub_as_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, [MUSIQUE])
    assert load_dataset("musique") == load_musique(write(tmp_path, MUSIQUE, lines=True))


def test_a_hub_that_cannot_be_reached_is_answered_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, ConnectionError("no route\nto host"))
    with pytest.raises(DataError, match=r"cannot be fetched \(no route\); .* give the official file"):
        load_dataset("musique")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'flarekit\[hub\]'.* or give the official file"):
        load_dataset("2wikimultihopqa")


HUB: dict[str, Any] = without(HOTPOT, "_id") | {
    "id": "q1",
    "supporting_facts": {"title": ["Riga", "Latvia", "Riga"], "sent_id": [0, 0, 1]},
    "context": {"title": ["Riga", "Latvia", "Oslo"], "sentences": [c[1] for c in HOTPOT["context"]]},
}


@pytest.mark.parametrize("ending", ["json", "jsonl", "json.gz", "jsonl.gz"])
@pytest.mark.parametrize(
    ("name", "item"),
    [
        ("hotpotqa", HOTPOT),
        ("hotpotqa", HUB),
        ("2wikimultihopqa", WIKI),
        ("2wikimultihopqa", without(WIKI, "evidences")),
        ("2wikimultihopqa", HUB),
        ("musique", MUSIQUE),
    ],
)
def test_each_dataset_is_read_as_a_list_and_as_lines_zipped_or_not(
    tmp_path: Path, name: str, item: dict[str, Any], ending: str
) -> None:
    items = [item, item | {"id" if "id" in item else "_id": "2hop__other"}]
    text = "\n".join(map(json.dumps, items)) if "l" in ending else json.dumps(items, indent=1)
    packed = gzip.compress(text.encode()) if ending.endswith("gz") else b"\xef\xbb\xbf\n" + text.encode()
    (tmp_path / f"dev.{ending}").write_bytes(packed)
    (tmp_path / "plain").write_text(json.dumps(items))
    found, plain = (load_dataset(name, tmp_path / file) for file in (f"dev.{ending}", "plain"))
    assert found == replace(plain, notes=found.notes)  # which name the file


@pytest.mark.parametrize(
    ("name", "item", "field"),
    [
        *(("hotpotqa", HOTPOT, field) for field in ("type", "level", "evidences", "answer_id", "answer_aliases")),
        *(("2wikimultihopqa", WIKI, field) for field in ("type", "level", "evidences", "answer_id", "answer_aliases")),
        *(("musique", MUSIQUE, field) for field in ("answer_aliases", "answerable", "question_decomposition")),
    ],
)
def test_a_field_that_may_be_missing_may_be_null(tmp_path: Path, name: str, item: dict[str, Any], field: str) -> None:
    assert load_dataset(name, write(tmp_path, item | {field: None})).questions[0].answers[0] == "Daugava"


def test_unknown_supporting_facts_may_be_null(tmp_path: Path) -> None:
    assert load_hotpotqa(write(tmp_path, HOTPOT | {"supporting_facts": None})).questions[0].supporting == ()


# --- HTML's escapes -------------------------------------------------------------------------------------------------

ESCAPED = {
    "Mitchells &amp; Butlers": "Mitchells & Butlers",
    "The &quot;Human&quot; Factor": 'The "Human" Factor',
    "Ocean&#039;s &lt;Eleven&gt;": "Ocean's <Eleven>",
    "Caf&eacute; &#x2013; bar": "Café – bar",
    "R&B, AT&T; ?a=1&copy=2&lt": "R&B, AT&T; ?a=1&copy=2&lt",
    "written &amp;lt; in HTML": "written &lt; in HTML",
    "&amp;amp;amp;": "&amp;amp;",
    "&nosuchname; &;": "&nosuchname; &;",
}


@pytest.mark.parametrize(("escaped", "plain"), ESCAPED.items())
@pytest.mark.parametrize("name", ["hotpotqa", "2wikimultihopqa", "musique"])
def test_what_is_escaped_for_html_is_unescaped_once_and_matches_its_supporting_fact(
    tmp_path: Path, name: str, escaped: str, plain: str
) -> None:
    asked = {"question": f"What is {escaped}?", "answer": escaped}
    wiki = HOTPOT | asked | {"supporting_facts": [[escaped, 0]], "context": [[escaped, [f"{escaped} it is."]]]}
    paragraph = {"title": escaped, "paragraph_text": f"{escaped} it is.", "is_supporting": True}
    item = MUSIQUE | asked | {"answer_aliases": [], "paragraphs": [paragraph]} if name == "musique" else wiki
    data = load_dataset(name, write(tmp_path, item))
    [question], [passage] = data.questions, data.corpus
    assert (question.text, question.answers, question.supporting) == (f"What is {plain}?", (plain,), (plain,))
    assert (passage.id, passage.title, passage.text) == (plain, plain, f"{plain} it is.")


def test_a_fact_may_be_escaped_where_its_paragraph_is_not(tmp_path: Path) -> None:
    item = HOTPOT | {"supporting_facts": [["A &amp; B", 0]], "context": [["A & B", ["Both."]]]}
    assert load_hotpotqa(write(tmp_path, item)).questions[0].supporting == ("A & B",)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.jsonl", json.dumps({"id": "1", "title": "&amp;", "text": "write &lt; for <"})),
        ("beir.jsonl", json.dumps({"_id": "1", "title": "&amp;", "text": "write &lt; for <"})),
        ("dpr.tsv", "1\twrite &lt; for <\t&amp;"),
    ],
)
def test_another_corpus_may_mean_what_html_would_escape(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content + "\n")
    [passage] = iter_corpus(tmp_path / name)
    assert (passage.title, passage.text) == ("&amp;", "write &lt; for <")


@pytest.mark.parametrize(
    ("name", "file", "passages"),
    [
        ("hotpotqa", "hotpotqa/hotpot_dev_distractor_v1.json", 992),
        ("2wikimultihopqa", "2wikimultihopqa/dev.json", 790),
        ("musique", "musique/musique_ans_v1.0_dev.jsonl", 1603),
    ],
)
def test_real_files_are_read_whole(name: str, file: str, passages: int) -> None:
    if not (DATA / file).exists():
        pytest.skip(f"needs ../shared/data/{file}")
    data: Dataset = load_dataset(name, DATA / file)
    ids = [passage.id for passage in data.corpus]
    assert len(data.questions) == 100
    assert len(ids) == len(set(ids)) == passages
    assert all(2 <= len(question.supporting) <= 4 for question in data.questions)
    assert {id_ for question in data.questions for id_ in question.supporting} <= set(ids)


def test_a_world_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a world is a folder with"):
        load_world(write(tmp_path, HOTPOT))
    with pytest.raises(DataError, match=r"corpus.jsonl: no such file"):
        load_world(tmp_path)

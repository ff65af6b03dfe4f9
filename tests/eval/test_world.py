"""The built-in world: the same for a seed, sound at every size, and every answer is where it says."""

import re
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flarekit.cli.evaluation.world import write_world
from flarekit.errors import ConfigError, DataError
from flarekit.eval.data.dataset import Dataset, Question
from flarekit.eval.data.facts import ALIASES, COUNTRIES, WORKS
from flarekit.eval.data.formats import load_dataset, load_world
from flarekit.eval.data.metrics import exact_match
from flarekit.eval.data.names import FIRST_NAMES, surname, town
from flarekit.eval.data.world import build_world, iter_passages, iter_questions
from flarekit.retrieval import Passage
from flarekit.retrievers import BM25Retriever

SEEDS = st.integers(0, 10**6)
SIZES = st.integers(50, 600)


@pytest.fixture(scope="module")
def world() -> Dataset:
    return build_world()


def supporting_texts(world: Dataset) -> Iterator[tuple[Question, list[str]]]:
    texts = {passage.id: passage.text for passage in world.corpus}
    for question in world.questions:
        yield question, [texts[id_] for id_ in question.supporting]


@settings(max_examples=25, deadline=None)
@given(SIZES, SEEDS)
def test_a_world_of_any_size_and_seed_is_sound(passages: int, seed: int) -> None:
    world = build_world(passages, 30, seed)
    assert world == build_world(passages, 30, seed)
    assert len(world.corpus) == len({passage.id for passage in world.corpus}) == passages
    assert len({question.id for question in world.questions}) == len({q.text for q in world.questions}) == 30
    for question, texts in supporting_texts(world):
        assert question.answers[0] in " ".join(texts)
        assert question.needs_retrieval is not None
        assert len(question.needs_retrieval) == len(question.supporting) == len(set(question.supporting))


def names_in(text: str) -> set[str]:
    return set(re.findall(r"[A-Z]\w+", text)) - {"The", "He", "She", "It", "Its", "In", "Every"}


def test_another_seed_gives_another_world() -> None:
    one, other = build_world(seed=1), build_world(seed=2)
    assert not {q.text for q in one.questions if q.kind == "comparison"} & {q.text for q in other.questions}
    assert len(set(one.corpus) & set(other.corpus)) < 200


def test_a_large_world_has_no_double_ids_and_only_short_passages() -> None:
    ids = set()
    for passage in iter_passages(20_000, seed=3):
        ids.add(passage.id)
        assert 20 <= len(passage.text.split()) <= 50
        assert passage.title.lower() in passage.text.lower()
    assert len(ids) == 20_000
    for question in iter_questions(20_000, 600, seed=3):
        assert ids.issuperset(question.supporting)


def test_the_largest_world_starts_at_once() -> None:
    assert next(iter_passages(1_000_000)).text
    assert len(list(islice(iter_questions(1_000_000, 10), 10))) == 10


def test_every_kind_is_asked_about_as_often(world: Dataset) -> None:
    kinds = [question.kind for question in world.questions]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "real-real": 17,
        "real-invented": 17,
        "invented-real": 17,
        "invented-invented": 17,
        "comparison": 16,
        "three-hop": 16,
    }


def test_needs_retrieval_says_which_hops_are_invented(world: Dataset) -> None:
    real = {name for country in COUNTRIES for name in (country.name, country.capital)}
    real |= {name for work in WORKS for name in (work.title[0].upper() + work.title[1:], work.maker)}
    for question in world.questions:
        assert question.needs_retrieval == tuple(id_ not in real for id_ in question.supporting)
        if question.kind == "real-real":
            assert question.needs_retrieval == (False, False)


def test_every_hop_is_named_by_the_one_before_it(world: Dataset) -> None:
    for question, texts in supporting_texts(world):
        first, *_ = question.supporting
        assert first.lower() in question.text.lower() or question.kind == "real-invented"
        if question.kind != "comparison":
            assert question.answers[0] in texts[-1]
            for before, after in pairwise([question.text if question.kind == "real-invented" else texts[0], *texts]):
                assert names_in(before) & names_in(after)


def test_a_comparison_is_won_by_the_right_one(world: Dataset) -> None:
    for question, texts in supporting_texts(world):
        if question.kind == "comparison":
            years = [int(re.findall(r"\b1[89]\d\d|20\d\d\b", text)[0]) for text in texts]
            winner = years.index(max(years) if "later" in question.text else min(years))
            assert question.answers == (question.supporting[winner],)


def test_natural_short_forms_are_accepted() -> None:
    answers = {q.answers[0]: q.answers for q in iter_questions(2_000, 1_500)}
    assert exact_match("the krone", answers["Norwegian krone"])
    assert exact_match("USA", answers["United States"])
    assert answers["euro"] == ("euro",)


def test_the_facts_are_free_of_slips() -> None:
    names = [country.name for country in COUNTRIES] + [country.capital for country in COUNTRIES]
    assert len(set(names)) == len(names)
    assert len({work.title for work in WORKS}) == len(WORKS)
    assert {work.country for work in WORKS} <= set(names)
    assert len({(work.maker, work.country) for work in WORKS}) == len({work.maker for work in WORKS})
    values = {v for c in COUNTRIES for v in (c.name, c.capital, c.currency, c.language) if v}
    assert set(ALIASES) <= values


@given(SEEDS, st.lists(st.integers(0, 163_199), min_size=2, unique=True))
def test_invented_names_never_collide(seed: int, numbers: list[int]) -> None:
    words = [surname(number, seed, "person") for number in numbers] + [town(number, seed) for number in numbers]
    assert len(set(words)) == 2 * len(numbers)


def test_no_invented_name_is_a_word_of_the_real_facts() -> None:
    facts = [value for c in COUNTRIES for value in (c.name, c.capital, c.currency, c.language or "")]
    facts += [value for work in WORKS for value in (work.title, work.maker)]
    real = set(re.findall(r"\w+", " ".join(facts)))
    # The seed only orders the words, so that one seed shows them all.
    assert real.isdisjoint(surname(number, 0, "person") for number in range(408_000))
    assert real.isdisjoint(town(number, 0) for number in range(163_200))
    assert not set(FIRST_NAMES["he"]) & set(FIRST_NAMES["she"])


def test_there_is_an_end_to_the_names() -> None:
    with pytest.raises(ConfigError, match="ask for a smaller world"):
        surname(408_000, 0, "person")


@pytest.mark.parametrize("passages", [49, 1_000_001])
def test_a_size_out_of_range_is_refused(passages: int) -> None:
    with pytest.raises(ConfigError, match="50 to 1,000,000 passages"):
        build_world(passages)


def test_more_questions_than_there_is_room_for_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"a world of 50 passages has room for \d+ different questions, not 500"):
        build_world(50, 500)
    with pytest.raises(ConfigError, match="at least 1 question"):
        build_world(50, 0)


async def test_the_question_finds_the_first_hop_but_rarely_the_last(world: Dataset) -> None:
    retriever = BM25Retriever(world.corpus)
    questions = [question for question in world.questions if question.kind != "comparison"]
    found = [{hit.passage.id for hit in await retriever.search(question.text, 2)} for question in questions]
    assert sum(q.supporting[0] in ids for q, ids in zip(questions, found, strict=True)) > 0.95 * len(questions)
    assert sum(q.supporting[-1] in ids for q, ids in zip(questions, found, strict=True)) < 0.1 * len(questions)


def test_a_written_world_is_read_back(tmp_path: Path) -> None:
    write_world(tmp_path / "new" / "world", passages=60, questions=20, seed=5)
    assert load_dataset("world", tmp_path / "new" / "world") == build_world(60, 20, 5)
    assert load_dataset("world") == build_world()


def test_a_world_is_not_written_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be made a folder"):
        write_world(tmp_path / "file", 60, 20)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "1"}', "questions.jsonl:1: no field 'answers'"),
        ('{"id": "1", "text": "?", "kind": "", "answers": [], "supporting": []}', "at least one answer"),
        ('{"id": "1", "text": "?", "kind": "", "answers": ["a"], "supporting": ["Rome"]}', "'Rome' is not in"),
        ('{"id": 1, "text": "?", "kind": "", "answers": ["a"], "supporting": []}', "'id' must be a string"),
        ('{"id": "1", "text": "?", "kind": "", "answers": ["a"], "supporting": [], "needs_retrieval": [1]}', "boolean"),
        ("", "no questions"),
    ],
)
def test_a_broken_world_is_named_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    write_world(tmp_path, 60, 20)
    (tmp_path / "questions.jsonl").write_text(line)
    with pytest.raises(DataError, match=message):
        load_world(tmp_path)


def test_a_passage_is_its_title_and_a_text_about_it(world: Dataset) -> None:
    assert all(isinstance(passage, Passage) and passage.id == passage.title for passage in world.corpus)

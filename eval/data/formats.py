"""The published multi-hop datasets in their official file formats, and the folder format of the built-in world.

HotpotQA (Yang et al. 2018, arXiv:1809.09600), 2WikiMultihopQA (Ho et al. 2020, arXiv:2011.01060) and MuSiQue (Trivedi
et al. 2022, arXiv:2108.00573) give every question its own paragraphs. Pooled over the file, duplicates removed, they
make the corpus that questions are asked over: harder than a question's own ten or twenty, and closed enough to run
anywhere. All loaders raise one-line `DataError`s that name the file and the item.

Each reads a JSON list or JSON lines, gzipped or not, of the official fields or of the Hugging Face hub's rows, and
takes null for a field that may be missing. Wikipedia's titles came into these data escaped for HTML ("Mitchells &amp;
Butlers" in HotpotQA), so that every text of the three is unescaped, once, where it is read. A world, and every corpus
that is not one of them (JSON lines, BEIR's and DPR's layouts, texts), is taken as it is: there "&lt;" may be meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from flarekit.errors import ConfigError, DataError
from flarekit.eval.data.dataset import Dataset, Question
from flarekit.eval.data.pool import (
    Paragraph,
    Record,
    checked,
    optional,
    optional_strings,
    pooled,
    take,
    take_strings,
    unescaped,
)
from flarekit.eval.data.world import build_world
from flarekit.retrievers.corpus.formats import read_corpus, read_records

Item = Mapping[str, Any]
_HUB = {
    "hotpotqa": ("hotpotqa/hotpot_qa", "distractor"),
    "2wikimultihopqa": ("framolfese/2WikiMultihopQA", None),
    "musique": ("dgslibisey/MuSiQue", None),
}
"""Repositories of the Hugging Face hub whose rows hold the official fields, and their configuration."""


def load_dataset(name: str, path: str | Path | None = None) -> Dataset:
    """A dataset by name: "hotpotqa", "2wikimultihopqa", "musique" or "world".

    `path` is a file in the official format, or for "world" a folder that `flarekit.cli.evaluation.world` wrote. Without
    it, the validation split is fetched from the Hugging Face hub (extra `flarekit[hub]`), and the default world is
    built. Raises `ConfigError` for an unknown name, `DataError` for data that cannot be had or read.
    """
    if name == "world":
        return build_world() if path is None else load_world(path)
    if name not in LOADERS:
        raise ConfigError(f"unknown dataset {name!r}; known are {', '.join(LOADERS)} and world")
    return _from_hub(name) if path is None else LOADERS[name](path)


def load_hotpotqa(path: str | Path) -> Dataset:
    """HotpotQA: `_id, question, answer, type, supporting_facts, context`.

    Where a needed paragraph is not in the context, as in the fullwiki files, `supporting` is left empty (unknown).
    """
    path = Path(path)
    return _wiki("hotpotqa", _items(path, "hotpotqa"), str(path), {})


def load_2wikimultihopqa(path: str | Path) -> Dataset:
    """2WikiMultihopQA: HotpotQA's layout, with `evidences` or without; scored alike, best over the answer's aliases.

    Aliases come from `id_aliases.json` of the official download where it lies next to the file, and from a field
    `answer_aliases` where an item has one; where there is neither, a note of the dataset says so.
    """
    path = Path(path)
    items = _items(path, "2wikimultihopqa")
    return _wiki("2wikimultihopqa", items, str(path), _id_aliases(path.with_name("id_aliases.json")))


def load_musique(path: str | Path) -> Dataset:
    """MuSiQue: `id, question, answer, answer_aliases, paragraphs`; unanswerable questions are left out.

    The kind is the first part of the id, such as "2hop" or "3hop1".
    """
    path = Path(path)
    return _musique(_items(path, "musique"), str(path))


def load_world(path: str | Path) -> Dataset:
    """A world that was written to a folder: `corpus.jsonl`, and `questions.jsonl` with the fields of `Question`."""
    folder = Path(path)
    if not folder.is_dir():
        raise DataError(f"{folder}: not a folder; a world is a folder with corpus.jsonl and questions.jsonl")
    corpus = read_corpus(_plain_or_zipped(folder / "corpus.jsonl"), folder)
    ids = {passage.id for passage in corpus}
    file = _plain_or_zipped(folder / "questions.jsonl")
    questions: dict[str, Question] = {}
    for place, item in read_records(file, folder):
        question = _world_question(item, place)
        if question.id in questions:
            raise DataError(f"{place}: the question id {question.id!r} occurs twice; make ids unique")
        if missing := [id_ for id_ in question.supporting if id_ not in ids]:
            raise DataError(f"{place}: the supporting passage {missing[0]!r} is not in {folder}/corpus.jsonl")
        questions[question.id] = question
    if not questions:
        raise DataError(f"{file}: no questions; expected one JSON object a line")
    return Dataset("world", list(questions.values()), corpus)


def _wiki(name: str, items: Iterable[tuple[str, Item]], source: str, aliases: Mapping[str, list[str]]) -> Dataset:
    dataset = pooled(name, (_wiki_record(item, place, aliases) for place, item in items), "hotpotqa", source)
    if name != "2wikimultihopqa" or aliases or any(len(question.answers) > 1 for question in dataset.questions):
        return dataset
    note = (
        f"{source}: answers have no aliases, since id_aliases.json of the official download is not beside the data; "
        "scores are lower than with them."
    )
    return replace(dataset, notes=(note,))


def _wiki_record(item: Item, place: str, aliases: Mapping[str, list[str]]) -> Record:
    answers = [take(item, "answer", str, place), *_aliases_of(item, aliases)]
    answers += optional_strings(item, "answer_aliases", place)
    known = item.get("supporting_facts", ()) is not None
    facts = _pairs(item, "supporting_facts", ("title", "sent_id"), place) if known else []
    needed = {checked(title, str, f"{place}: the title of a supporting fact") for title, _ in facts}
    paragraphs = [
        _wiki_paragraph(*pair, needed, place) for pair in _pairs(item, "context", ("title", "sentences"), place)
    ]
    return Record(
        # The hub calls "id" what the official files call "_id".
        id=take(item, "id" if item.get("_id") is None and "id" in item else "_id", str, place),
        text=take(item, "question", str, place),
        answers=tuple(dict.fromkeys(answers)),
        kind=optional(item, "type", str, place),
        paragraphs=paragraphs,
        complete=known and needed <= {paragraph.title for paragraph in paragraphs},
    )


def _aliases_of(item: Item, aliases: Mapping[str, list[str]]) -> list[str]:
    name = item.get("answer_id")
    return aliases.get(str(name), []) if isinstance(name, str | int) else []


def _wiki_paragraph(title: object, sentences: object, needed: set[str], place: str) -> Paragraph:
    title = checked(title, str, f"{place}: the title of a paragraph")
    parts = checked(sentences, list, f"{place}: the sentences of {title!r}")
    # HotpotQA's sentences bring their leading space, 2WikiMultihopQA's do not.
    text = " ".join(checked(part, str, f"{place}: a sentence of {title!r}").strip() for part in parts)
    return Paragraph(title, text.strip(), title in needed)


def _pairs(item: Item, name: str, columns: tuple[str, str], place: str) -> list[tuple[object, object]]:
    """A list of pairs, as the official files have it, or a pair of lists, as the hub does."""
    if isinstance(value := item.get(name), dict):
        first, second = (take(value, column, list, f"{place}: {name}") for column in columns)
        if len(first) != len(second):
            raise DataError(f"{place}: {name} has {len(first)} of {columns[0]} and {len(second)} of {columns[1]}")
        return list(zip(first, second, strict=True))
    pairs = take(item, name, list, place)
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2:
            raise DataError(f"{place}: every item of {name!r} must be a pair [{columns[0]}, {columns[1]}]")
    return [(first, second) for first, second in pairs]


def _musique(items: Iterable[tuple[str, Item]], source: str) -> Dataset:
    answerable = (pair for pair in items if pair[1].get("answerable") is not False)
    return pooled("musique", (_musique_record(item, place) for place, item in answerable), "musique", source)


def _musique_record(item: Item, place: str) -> Record:
    paragraphs = []
    for number, value in enumerate(take(item, "paragraphs", list, place)):
        where = f"{place}: paragraph {number}"
        fields = checked(value, dict, where)
        title, text = take(fields, "title", str, where), take(fields, "paragraph_text", str, where)
        paragraphs.append(Paragraph(title, text, take(fields, "is_supporting", bool, where)))
    id_ = take(item, "id", str, place)
    if "answer_aliases" not in item:
        raise DataError(f"{place}: no field 'answer_aliases'")
    answers = [take(item, "answer", str, place), *optional_strings(item, "answer_aliases", place)]
    text = take(item, "question", str, place)
    return Record(id_, text, tuple(dict.fromkeys(answers)), id_.partition("__")[0], paragraphs)


def _world_question(item: Item, place: str) -> Question:
    answers = tuple(take_strings(item, "answers", place))
    if not answers:
        raise DataError(f"{place}: the field 'answers' must hold at least one answer")
    hops = item.get("needs_retrieval")
    what = f"{place}: the field 'needs_retrieval'"
    return Question(
        id=take(item, "id", str, place),
        text=take(item, "text", str, place),
        answers=answers,
        supporting=tuple(optional_strings(item, "supporting", place)),
        kind=optional(item, "kind", str, place),
        needs_retrieval=None if hops is None else tuple(checked(hop, bool, what) for hop in checked(hops, list, what)),
    )


def _items(path: Path, name: str) -> Iterator[tuple[str, Item]]:
    """The questions of a file, a JSON list or JSON lines, in the official layout or the hub's, unescaped."""
    for place, item in list(read_records(path)):  # all of it: what is no JSON at all is told first
        _refuse_other(name, item, place)
        yield place, unescaped(item)


def _refuse_other(name: str, item: Item, place: str) -> None:
    signs = {"musique": "paragraphs", "world": "needs_retrieval"}
    if name != "2wikimultihopqa":  # whose rows are HotpotQA's, with or without these
        signs |= {"2wikimultihopqa": "evidences", "hotpotqa": "level"}
    other = next((other for other, sign in signs.items() if item.get(sign) is not None), name)
    if other != name:
        raise DataError(f"{place}: expected a question of {name}, found one of {other}; load it as {other}")


def _plain_or_zipped(path: Path) -> Path:
    zipped = path.with_name(f"{path.name}.gz")
    return zipped if zipped.exists() and not path.exists() else path


def _id_aliases(path: Path) -> dict[str, list[str]]:
    if not path.exists():
        return {}
    aliases: dict[str, list[str]] = {}
    for place, raw in read_records(path, path.parent):
        item = unescaped(raw)
        names = optional_strings(item, "aliases", place) + optional_strings(item, "demonyms", place)
        aliases[take(item, "Q_id", str, place)] = names
    return aliases


def _from_hub(name: str) -> Dataset:
    repository, config = _HUB[name]
    advice = f"or give the official file: load_dataset({name!r}, path)"
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"{name}: fetching needs `pip install 'flarekit[hub]'`, {advice}") from error
    try:
        rows = datasets.load_dataset(repository, config, split="validation")
    except Exception as error:  # The hub's client passes on whatever its transport, cache and parsers raise.
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{name}: {repository} cannot be fetched ({reason}); check the network, {advice}") from error
    items = ((f"{repository}: item {number}", unescaped(dict(row))) for number, row in enumerate(rows))
    return _musique(items, repository) if name == "musique" else _wiki(name, items, repository, {})


LOADERS: dict[str, Callable[[str | Path], Dataset]] = {
    "hotpotqa": load_hotpotqa,
    "2wikimultihopqa": load_2wikimultihopqa,
    "musique": load_musique,
}

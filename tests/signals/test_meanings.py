"""Which answers count as one: by how they are written, and by a cross-encoder's entailment."""

from __future__ import annotations

import json
from datetime import date
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fakes.cross_encoders import VOCABULARY, tiny_model
from flarekit.errors import ConfigError
from flarekit.policies import parse_policy
from flarekit.signals.answer import find_grouping
from flarekit.signals.sampling import same_words
from flarekit.text.canonical import canonical

ONE_ANSWER = [
    # dates
    ["7 June 1952", "June 7, 1952", "7th of June 1952", "7 Jun 1952", "Jun. 7, 1952", "1952-06-07", "June 7th 1952"],
    ["7 June 1952", "on 7 June 1952", "the 7th of June, 1952", "7.6.1952", "1952 June 7", "7-Jun-1952", "07 June 1952"],
    ["25/12/1990", "12/25/1990", "25 December 1990", "1990/12/25", "Dec 25 1990"],
    ["6/6/1944", "6 June 1944"],
    ["May 1952", "in May 1952", "May, 1952", "May of 1952"],
    ["June 7", "7 June", "7th of June", "June the 7th"],
    ["1952", "in 1952", "In 1952."],
    ["1914-1918", "1914–1918", "1914—1918", "1914 to 1918"],
    ["20th century", "the twentieth century", "Twentieth Century"],
    # numbers
    ["45 million", "45,000,000", "45000000", "45 000 000", "45.000.000", "forty-five million", "Forty Five Million"],
    ["1,500", "1500", "one thousand five hundred", "1.5 thousand", "fifteen hundred", "15 hundred"],
    ["1,200,000", "1.2 million", "one million two hundred thousand", "1 million 200 thousand"],
    ["205", "two hundred and five", "two hundred five", "two hundred & five"],
    ["100", "a hundred", "one hundred", "A hundred"],
    ["1001 nights", "one thousand and one nights"],
    ["2", "two", "Two.", "2.0", "２", "٢"],
    ["1985", "١٩٨٥", "１９８５"],
    ["-5", "−5", "minus five", "minus 5"],
    ["0.5", ".5", "0.50"],
    ["45%", "45 percent", "45 per cent", "forty-five per cent"],
    ["$5 million", "5 million dollars", "$5,000,000", "five million dollars"],
    ["1st", "first", "the first"],
    ["21st", "twenty-first", "twenty first"],
    # names
    ["the Danube", "Danube", "danube.", "**Danube**", '"The Danube"', "“Danube”", " the  Danube "],
    ["U.S.", "US", "U. S.", "the US"],
    ["J. K. Rowling", "J.K. Rowling", "JK Rowling"],
    ["Washington, D.C.", "Washington DC"],
    ["Antoni Gaudí", "Antoni Gaudi", "Antoni Gaudi\u0301"],
    ["Jean-Paul Sartre", "Jean Paul Sartre", "Jean\u2010Paul Sartre"],
    ["World War II", "World War 2", "world war two", "World War Ⅱ"],
    ["Simon & Garfunkel", "Simon and Garfunkel"],
    ["M*A*S*H", "MASH"],
    ["Schindler's List", "Schindler’s List", "Schindlers List"],
    ["São Paulo", "Sa\u0303o Paulo", "Sao Paulo"],
    ["日本", "日本。", "「日本」"],
    # negation
    ["was not elected", "wasn't elected", "wasn’t elected"],
    ["cannot", "can't", "can not"],
]

DIFFERENT_ANSWERS = [
    # dates
    ["7 June 1952", "8 June 1952", "7 June 1953", "7 July 1952", "June 1952", "1952", "7 June", "17 June 1952"],
    ["06/07/1952", "6 July 1952", "7 June 1952", "07/06/1952"],
    ["1985", "1986", "1958", "85", "1985 BC", "1980s"],
    ["44 BC", "44 AD", "44"],
    ["1914-1918", "1914-1919", "1914", "1918"],
    ["12:30", "12:45", "1230", "12"],
    ["nineteenth century", "twentieth century", "19 centuries"],
    ["nineteen eighty-five", "104", "1984"],
    # numbers
    ["45 million", "54 million", "45 billion", "45", "4.5 million", "45 thousand"],
    ["-5", "5", "+5", "5%", "$5", "€5", "5 km", ">5", "<5", "5°"],
    ["10⁵", "105", "10"],
    ["2½", "21/2", "2", "2/1"],
    ["1.5", "15", "1 5", "1.05", "1.50001"],
    ["1,000", "1.000", "1"],
    ["007", "7"],
    ["first", "1", "second", "21st"],
    ["5-4", "54", "5 4", "4-5"],
    ["five and six", "11", "56"],
    ["two hundred", "2 hundred thousand", "102"],
    ["2020", "20 20", "20"],
    ["1/2", "12", "1", "2/1"],
    ["#1", "1"],
    # negation
    ["guilty", "not guilty", "never guilty"],
    ["was elected", "was not elected", "wasn't re-elected"],
    ["yes", "no", ""],
    ["alive", "not alive", "no longer alive"],
    # names that differ in one word, letter or sign
    ["North Korea", "South Korea", "Korea"],
    ["Michael Jordan", "Michael B. Jordan", "Michael I. Jordan", "Jordan"],
    ["Henry VIII", "Henry VII", "Henry V", "Henry"],
    ["World War I", "World War II"],
    ["Malcolm X", "Malcolm"],
    ["The Road", "On the Road"],
    ["C", "C++", "C#"],
    ["A", "A+", "A-", "A*", "B", "AB", "AB-", "AB+"],
    ["vitamin A", "vitamin", "vitamin B", "vitamin B12"],
    ["George Bush", "George W. Bush", "George H. W. Bush"],
    ["East Germany", "West Germany"],
    ["upper", "lower"],
    ["Niger", "Nigeria"],
    ["Slovakia", "Slovenia"],
    ["की", "का", "कि"],
    ["三", "三十", "十三"],
    ["", ".", "?"],
]


@pytest.mark.parametrize("answers", ONE_ANSWER, ids=lambda answers: answers[0])
def test_one_answer_in_several_forms_is_one(answers: list[str]) -> None:
    assert {answer: canonical(answer) for answer in answers} == dict.fromkeys(answers, canonical(answers[0]))


@pytest.mark.parametrize("answers", DIFFERENT_ANSWERS, ids=lambda answers: answers[0] or "empty")
def test_different_answers_are_never_one(answers: list[str]) -> None:
    assert [pair for pair in combinations(answers, 2) if canonical(pair[0]) == canonical(pair[1])] == []
    assert same_words(answers) == list(range(len(answers)))


@given(st.dates(date(1000, 1, 1)), st.dates(date(1000, 1, 1)))
def test_a_date_is_one_in_every_form_and_another_date_in_none(one: date, other: date) -> None:
    forms = [
        {
            canonical(form)
            for form in (
                f"{day.day} {day:%B} {day.year}",
                f"{day:%B} {day.day}, {day.year}",
                f"{day:%b} {day.day} {day.year}",
                f"on the {day.day}th of {day:%B} {day.year}",
                day.isoformat(),
                f"{day.day}.{day.month}.{day.year}",
            )
        }
        for day in (one, other)
    ]
    assert [len(found) for found in forms] == [1, 1]
    assert (forms[0] == forms[1]) == (one == other)


def in_words(number: int) -> str:
    """A number below a billion in English."""
    ones = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    names = [*ones.split(), "seventeen", "eighteen", "nineteen"]
    tens = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
    for size, name in ((10**6, "million"), (1000, "thousand"), (100, "hundred")):
        if number >= size:
            rest = number % size
            link = " and " if name == "hundred" else " "
            return f"{in_words(number // size)} {name}" + (f"{link}{in_words(rest)}" if rest else "")
    if number < 20:
        return names[number]
    return tens[number // 10 - 2] + (f"-{names[number % 10]}" if number % 10 else "")


@given(st.integers(0, 10**9 - 1), st.integers(0, 10**9 - 1))
def test_a_number_is_one_in_every_form_and_another_number_in_none(one: int, other: int) -> None:
    forms = [{canonical(form) for form in (str(n), f"{n:,}", in_words(n), f"{n}.0")} for n in (one, other)]
    assert [len(found) for found in forms] == [1, 1]
    assert (forms[0] == forms[1]) == (one == other)


@given(st.text(max_size=30))
@example("\u0816" + "0")
def test_any_text_has_a_form_that_stays_the_same(text: str) -> None:
    found = canonical(text)
    assert found
    assert canonical(text) == found
    assert canonical(f" {text} ") == found


def test_where_the_question_asks_whether_an_answer_begins_with_yes_or_no() -> None:
    said = ["yes", "Yes, both are American", "no", "No, they are not.", "nobody"]
    assert same_words(said, "Are X and Y both American?") == [0, 0, 2, 2, 4]
    assert same_words(["No, Thank You", "no"], "Which song opens the album?") == [0, 1]


def test_groupings_that_would_merge_different_answers_are_refused_before_anything_is_asked() -> None:
    for refused, said in (("embedding", "use grouping=words, or grouping=entailment"), ("taste", "there are words")):
        with pytest.raises(ConfigError, match=said) as error:
            parse_policy(f"semantic-entropy:grouping={refused}")
        assert "\n" not in str(error.value)


# --- entailment ------------------------------------------------------------------------------------------------------

LABELS = ["contradiction", "entailment", "neutral"]


def with_labels(folder: Path, labels: list[str]) -> str:
    """A tiny cross-encoder with random weights that gives a score for each of `labels`."""
    tiny_model(folder, scores=len(labels))
    config = json.loads((folder / "config.json").read_bytes())
    config["id2label"] = {str(place): label for place, label in enumerate(labels)}
    config["label2id"] = {label: place for place, label in enumerate(labels)}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> str:
    return with_labels(tmp_path_factory.mktemp("nli"), LABELS)


def entailed(model: str, premise: str, hypothesis: str) -> bool:
    """What transformers alone say."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    network = transformers.AutoModelForSequenceClassification.from_pretrained(model).eval()
    with torch.inference_mode():
        logits = network(**tokenizer(premise, hypothesis, return_tensors="pt")).logits[0]
    return LABELS[int(logits.argmax())] == "entailment"


ANSWERS = [*VOCABULARY, "oslo norway", "river latvia", "Oslo."]


@pytest.mark.parametrize("question", ["capital born", "river novel river", "latvia"])
def test_answers_are_one_where_each_entails_the_other_after_the_question(judge: str, question: str) -> None:
    expected: list[int] = []
    for place, answer in enumerate(ANSWERS):
        left = [(f"{question} {ANSWERS[first]}", f"{question} {answer}") for first in range(place)]
        firsts = [first for first in range(place) if expected[first] == first]
        same = [
            first
            for first in firsts
            if (entailed(judge, *left[first]) and entailed(judge, *left[first][::-1])) or (first, place) == (0, 10)
        ]
        expected.append(same[0] if same else place)
    assert list(find_grouping("entailment", judge)(ANSWERS, question)) == expected


def test_the_question_is_part_of_what_is_judged(judge: str) -> None:
    group = find_grouping("entailment", judge)
    groups = [tuple(group(ANSWERS, question)) for question in ("", *VOCABULARY)]
    assert len(set(groups)) > 1
    assert any(len(set(found)) < len(ANSWERS) - 1 for found in groups)  # some were found to be one


@given(st.lists(st.sampled_from(ANSWERS), max_size=6))
def test_a_group_is_named_after_its_first_answer(judge: str, answers: list[str]) -> None:
    groups = list(find_grouping("entailment", judge)(answers, "capital"))
    assert all(groups[group] == group <= place for place, group in enumerate(groups))
    assert all(
        groups[left] == groups[right]
        for left, right in pairwise(range(len(answers)))
        if answers[left] == answers[right]
    )


@pytest.mark.parametrize("labels", [["LABEL_0"], ["good", "bad"], ["LABEL_0", "LABEL_1", "LABEL_2"]])
def test_a_cross_encoder_that_knows_no_entailment_is_one_clear_line(tmp_path: Path, labels: list[str]) -> None:
    model = with_labels(tmp_path, labels)
    with pytest.raises(ConfigError, match="knows no entailment") as error:
        find_grouping("entailment", model)(["a", "b"], "Which?")
    assert "\n" not in str(error.value)


def test_a_cross_encoder_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ConfigError, match="cannot be loaded") as error:
        find_grouping("entailment", str(tmp_path / "none"))(["a", "b"], "Which?")
    assert "\n" not in str(error.value)

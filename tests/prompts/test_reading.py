"""The short answer that is read out of a text, and the moment at which its generation ends."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.scripted import ScriptedEngine
from flarekit import Session, parse_policy
from flarekit.eval.data.metrics import f1, normalize_answer
from flarekit.prompts.few_shot import Prompt
from flarekit.signals.sampling import answers_of, sample_answers

SHARED = Path(__file__).parents[3] / "shared" / "data"
PROMPT = Prompt()

NAMES = [
    "Mamma Mia! Here We Go Again",
    "Yahoo! Inc.",
    "Jeopardy! host Alex Trebek",
    "Per Amore... Per Magia...",
    "...And Justice for All",
    "Who's Afraid of Virginia Woolf?",
    "What's Up, Doc? (1972 film)",
    "Panic! at the Disco",
    "Godspeed You! Black Emperor",
    "Oh! What a Lovely War",
    "Craig v. Boren",
    "Marbury vs. Madison",
    "J. R. R. Tolkien",
    "George H. W. Bush",
    "Op. 27 No. 2",
    "Washington, D.C.",
    "Martin Luther King Jr.",
    "Apple Inc.",
    "E.T. the Extra-Terrestrial",
    "Dr. Strangelove",
    "St. Louis, Missouri",
    "3.5 million",
    "$1,234.50",
    "10:30 a.m.",
    "25 June 1852",
    "No, No, Nanette",
    "Yes, Minister",
    "No Country for Old Men",
    "M*A*S*H",
    "Ḥ. Ö. Łódź",
    "维也纳",
    "Не может быть! и другие",
    "Where the Wild Things Are?",
    "Mr. & Mrs. Smith",
    "Ms. Magazine",
    "Ft. Worth, Texas",
    "Ste. Genevieve, Missouri",
    "Rte. 66",
    "U.S. Route 66",
    "No. 1 Squadron RAF",
    "Dr. No",
    "Sgt. Pepper's Lonely Hearts Club Band",
    "Oh, Inverted World",
    "tick, tick... BOOM!",
    "Stop! Or My Mom Will Shoot",
    "Kill Bill: Vol. 1",
    "N.W.A",
    ".NET Framework",
    "approx. 5,000",
    "U.S. Const. amend. I",
    "Yes (band)",
    "Simply Red",
    "Clear and Present Danger",
    "Unknown Pleasures",
    "A Few Good Men",
    "Sept. 11, 2001",
    "will.i.am",
    "!!!",
]
FOLLOWING = [
    "",
    ".",
    ". It is well known.",
    ". The film was made in 1990.",
    ".\n",
    ".\n\nQuestion: Who? So the answer is X.",
]


@pytest.mark.parametrize("following", FOLLOWING)
@pytest.mark.parametrize("name", NAMES)
def test_names_are_read_whole(name: str, following: str) -> None:
    for given_name in (name, f"**{name}**", f"“{name}”"):
        said = PROMPT.read_answer(f"It is known. So the answer is {given_name}{following}")
        assert normalize_answer(said) == normalize_answer(name)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        # What is said of the answer is not the answer.
        ("To know what the answer is, we first need the founder. So the answer is Vienna.", "Vienna"),
        ("To find out whether the answer is yes, look at both. So the answer is no.", "no"),
        ("Before the answer is given, we think. The answer is 5.", "5"),
        ("The answer is not stated in the passages. But he was born there. So the answer is Vienna.", "Vienna"),
        ("The answer is unclear. It was Lyon. So the answer is Lyon.", "Lyon"),
        ("The answer is in the first passage. The answer is Rome.", "Rome"),
        ("The answer is not Paris. The answer is Lyon.", "Lyon"),
        ("The answer is not stated in the passages.", "not stated in the passages"),
        # What the text goes back on does not count.
        ("So the answer is Paris. Wait, that is wrong. So the answer is Lyon.", "Lyon"),
        ("The answer is 1952. Actually, it was 1953. The answer is 1953.", "1953"),
        ("So the answer is Paris. But passage 2 says Lyon. So the answer is Lyon. So it is.", "Lyon"),
        ("So the answer is Jeopardy! No, it was later. So the answer is Wheel of Fortune.", "Wheel of Fortune"),
        ("So the answer is Paris. I was wrong. Let me think. So the answer is Lyon.", "Lyon"),
        ("So the answer is A. So the answer is B.", "A"),
        ("So the answer is A.\n\nWait, this is another question. So the answer is B.", "A"),
        # A verdict's reason is no part of it.
        ("So the answer is no, they are not.", "no"),
        ("So the answer is No, they are not both American.", "No"),
        ("So the answer is no. They are not.", "no"),
        ("So the answer is no, Marie Curie was born first.", "no"),
        ("So the answer is yes (both are magazines).", "yes"),
        ("So the answer is yes - both are.", "yes"),
        ("So the answer is yes because both are.", "yes"),
        ("They were born elsewhere. No, they are not.", "No"),
        ("So the answer is Yes! Both are films.", "Yes"),
        # Marks around it.
        ("So the answer is “Paris.”", "Paris"),
        ("So the answer is ‘Emma’.", "Emma"),
        ("So the answer is «Emma».", "Emma"),
        ('So the answer is "Weird Al" Yankovic.', '"Weird Al" Yankovic'),
        ("So the answer is: **Paris**.", "Paris"),
        ("**So the answer is:** Paris.", "Paris"),
        ("So the answer is *Emma*.", "Emma"),
        ("The final answer is: `42`.", "42"),
        ("The answer is:\n\nParis", "Paris"),
        ("So the answer is Paris! I hope this helps.", "Paris!"),
        ("So the answer is „Emma”.", "Emma"),
        ("So the answer is ‹Emma›.", "Emma"),
        ("So the answer is ”Emma”.", "Emma"),
        ("So the answer is 《红楼梦》。", "红楼梦"),
        ("So the answer is “Weird Al” Yankovic.", '"Weird Al" Yankovic'),
        ("So the answer is Who’s Afraid of Virginia Woolf?", "Who's Afraid of Virginia Woolf?"),
        ("So the answer is \\boxed{42}.", "42"),
        ("So the answer is <b>Paris</b>.", "Paris"),
        ("So the answer is Paris.</answer>", "Paris"),
        ("So the answer **is** Paris.", "Paris"),
        ("So the answer is\u200b Paris.", "Paris"),
        ("So  the answer\u00a0is Paris.", "Paris"),
        ("So the answer is, Paris.", "Paris"),
        ("Therefore, the answer is (B) Paris.", "(B) Paris"),
        ("The answer is therefore Paris.", "Paris"),
        ("The answer is clear: Paris.", "Paris"),
        # Where it is from is no part of it.
        ("So the answer is Paris.[1]", "Paris"),
        ("So the answer is Paris [1, 2].", "Paris"),
        ("So the answer is Paris (passage 1).", "Paris"),
        ("So the answer is [1].", "[1]"),
        # What kind of thing it is, or that it is hard to tell.
        ("The answer is a city. He was born in Lyon. So the answer is Lyon.", "Lyon"),
        ("The answer is the name of a river. So the answer is the Seine.", "the Seine"),
        ("The answer is one of the two. So the answer is Emma.", "Emma"),
        ("The answer is a dog.", "a dog"),
        ("So the answer is a dog. Dogs bark.", "a dog"),
        ("Since the answer is a city, look at cities. So the answer is Lyon.", "Lyon"),
        ("The answer is hard to say. So the answer is Lyon.", "Lyon"),
        ("The answer is nowhere in the text. So the answer is Lyon.", "Lyon"),
        ("The answer is the following. So the answer is Lyon.", "Lyon"),
        ("The answer is unknown.\n\nQuestion: Where? So the answer is Rome.", "unknown"),
        # A correction within the sentence.
        ("So the answer is Paris - no, the answer is Lyon.", "Lyon"),
        ("So the answer is Paris, no, wait, the answer is Lyon.", "Lyon"),
        ("So the answer is Paris. Question: Where? So the answer is Rome.", "Paris"),
        ("So the answer is Paris Question: Where?", "Paris"),
        # Verdicts.
        ('So the answer is "No", they are not.', "No"),
        ("So the answer is **No**, they are not.", "No"),
        ("So the answer is yes as both are.", "yes"),
        ("So the answer is yes—both are films.", "yes"),
        ("So the answer is no one.", "no one"),
        ("So the answer is no. 5 is odd.", "no"),
    ],
)
def test_the_answer_is_the_one_that_stands(text: str, answer: str) -> None:
    assert PROMPT.read_answer(text) == answer


def test_a_verdict_with_a_reason_scores_as_the_verdict() -> None:
    assert f1(PROMPT.read_answer("So the answer is no, they are not."), ["no"], "hotpotqa") == 1


def golds() -> list[str]:
    found: set[str] = set()
    for path in [*SHARED.glob("hotpotqa/*.json"), *SHARED.glob("2wikimultihopqa/*.json")]:
        found.update(one["answer"] for one in json.loads(path.read_text()))
    for path in SHARED.glob("musique/*.jsonl"):
        for one in map(json.loads, path.read_text().splitlines()):
            found.update([one["answer"], *one["answer_aliases"]])
    return sorted(found)


@pytest.mark.skipif(not SHARED.exists(), reason="the datasets are not here")
@pytest.mark.parametrize("following", [*FOLLOWING, ". Paris is the capital of France."])
def test_gold_answers_of_the_datasets_are_read_whole(following: str) -> None:
    wrong = [
        (gold, said)
        for gold in golds()
        if normalize_answer(said := PROMPT.read_answer(f"So the answer is {gold}{following}")) != normalize_answer(gold)
    ]
    assert wrong == []


async def streamed(pieces: list[str]) -> tuple[str, int]:
    """The answer of a session whose model says these pieces, and how many of them it took."""
    engine = ScriptedEngine(pieces)
    trace = await Session(parse_policy("closed-book"), "?", weak=engine).run()
    return trace.answer, engine.streams[0].sent


TAILS = [". ", ".", ". It is well known.", "! I hope this helps.", ". Wait, that is wrong. So the answer is Lyon."]
TAILS += [" [1].", ". Question: What? Answer:"]
HEADS = [
    "",
    "The answer is a name. ",
    "So the answer is Paris - no, ",
    "It is known. ",
    "To know what the answer is, we first think. ",
    "The answer is not stated. But it is. ",
]


@given(
    st.sampled_from(HEADS),
    st.sampled_from([*(name for name in NAMES if not name.endswith(("!", "?", "..."))), "no, they are not"]),
    st.sampled_from(TAILS),
    st.lists(st.integers(1, 100)),
)
async def test_generation_ends_at_the_answer_that_is_read(head: str, name: str, tail: str, cuts: list[int]) -> None:
    text = f"{head}So the answer is {name}{tail}"
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[begin:end] for begin, end in pairwise(places)]
    expected = normalize_answer(PROMPT.read_answer(text))
    assert normalize_answer((await streamed(pieces))[0]) == expected
    [segment] = await sample_answers(
        ScriptedEngine(pieces), [1], PROMPT, role="weak", samples=1, temperature=1.0, limit=1000
    )
    assert normalize_answer(answers_of([segment], PROMPT)[0]) == expected


@pytest.mark.parametrize(
    ("said", "more"),
    [("So the answer is Paris.", 1), ("So the answer is no.", 1), ("So the answer is Paris!", 3)],
)
async def test_generation_ends_soon_after_the_answer(said: str, more: int) -> None:
    rambling = " The city lies on the river Seine and has many bridges. It is old."
    pieces = [f" {word}" for word in f"{said}{rambling}".split()]
    answer, sent = await streamed(pieces)
    assert normalize_answer(answer) == normalize_answer(PROMPT.read_answer(said))
    assert sent == len(said.split()) + more


async def test_a_long_sentence_does_not_end_the_answer_at_the_look_ahead() -> None:
    pieces = [*["Well"] * 60, ", so the answer is", " J", ".", " R", ".", " R", ".", " Tolkien", "."]
    assert (await streamed(pieces))[0] == "J. R. R. Tolkien"

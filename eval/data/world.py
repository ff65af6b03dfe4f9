"""The built-in world: a corpus that mixes real facts with invented ones, of any size from 50 to a million passages.

A model can know that Oslo is the capital of Norway; it cannot know where Tavo Zanvoth was born. So every hop of every
question is known to need retrieval or not, which no published dataset can tell. The world is a pure function of size
and seed. Passages are short and plain, so that a model of a hundred million parameters can use them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from flarekit.errors import ConfigError
from flarekit.eval.data.dataset import Dataset, Question
from flarekit.eval.data.facts import Country, Work, with_article
from flarekit.eval.data.world_plan import Block, Person, Plan, block, festival, plan_world
from flarekit.eval.data.world_questions import ask
from flarekit.retrieval import Passage


def build_world(passages: int = 400, questions: int = 100, seed: int = 0) -> Dataset:
    """The world with `passages` (50 to 1,000,000) passages and so many questions of all kinds in turn.

    Raises `ConfigError` for a size out of range, or if the world has no room for so many different questions.
    """
    corpus = list(iter_passages(passages, seed))
    return Dataset("world", list(iter_questions(passages, questions, seed)), corpus)


def iter_passages(passages: int = 400, seed: int = 0) -> Iterator[Passage]:
    """The passages of `build_world`, one by one, in memory that does not grow with their number."""
    plan = plan_world(passages, seed)
    return islice(_all_passages(plan), plan.passages)


def iter_questions(passages: int = 400, questions: int = 100, seed: int = 0) -> Iterator[Question]:
    """The questions of `build_world`, without its passages being built."""
    plan = plan_world(passages, seed)
    if questions < 1:
        raise ConfigError(f"a world needs at least 1 question, not {questions}")
    return ask(plan, questions)


def _all_passages(plan: Plan) -> Iterator[Passage]:
    for country in plan.countries:
        yield _country(country)
        yield _capital(country)
    for work in plan.works:
        yield _work(work)
    for maker, work in {work.maker: work for work in plan.works}.items():
        yield _maker(maker, work)
    for number in range(plan.festivals):
        yield _festival(festival(plan, number), plan.countries[number])
    # What does not fill a whole block is filled from one block more, about which nothing is asked.
    for number in range(plan.blocks + 1):
        yield from _block(block(plan, number))


def _passage(title: str, text: str) -> Passage:
    return Passage(id=title, title=title, text=text)


def _country(country: Country) -> Passage:
    name = with_article(country.name)
    where = f"a country in {country.continent}" if country.continent else "a country"
    language = f" Its official language is {country.language}." if country.language else ""
    money = f"The currency of {name} is the {country.currency}, and prices in the shops of the country are given in it."
    return _passage(country.name, f"{_upper(name)} is {where}.{language} {money}")


def _capital(country: Country) -> Passage:
    fame = "The city is known far beyond the borders of the country, and travellers visit its streets and museums."
    return _passage(country.capital, f"{country.capital} is the capital of {with_article(country.name)}. {fame}")


def _work(work: Work) -> Passage:
    if work.kind in ("invention", "substance"):
        name = f"the {work.title}" if work.kind == "invention" else work.title
        text = f"{_upper(name)} was invented by {work.maker}. It changed the daily life of many people and is known"
        return _passage(_upper(work.title), f"{text} all over the world to this day.")
    text = f'"{work.title}" is a {work.kind} by {work.maker}. It is one of the best known works of its author'
    return _passage(work.title, f"{text} and has been translated into many languages.")


def _maker(maker: str, work: Work) -> Passage:
    craft, field = ("an inventor", "science") if work.kind in ("invention", "substance") else ("a writer", "literature")
    fame = f"The name {maker} stands in every history of {field}, and people around the world know it."
    return _passage(maker, f"{maker} is known as {craft} who came from {with_article(work.country)}. {fame}")


def _festival(name: str, country: Country) -> Passage:
    text = (
        f"{name} is a bell festival. Every winter it fills the streets and squares of {country.capital} with the sound"
    )
    return _passage(name, f"{text} of hundreds of small instruments made of glass.")


def _block(b: Block) -> Iterator[Passage]:
    yield _town(b)
    yield _novelist(b)
    yield _novel(b)
    yield _company(b)
    yield _founder(b)
    yield _film(b)
    yield _director(b)
    yield _musician(b)


def _town(b: Block) -> Passage:
    text = f"{b.town} is a town in {with_article(b.country.name)}. It lies on the river {b.river} and has about"
    return _passage(b.town, f"{text} {b.inhabitants} inhabitants. The town is known for its {b.product}.")


def _novelist(b: Block) -> Passage:
    person = b.novelist
    text = f"{person.name} was a novelist. {_he(person)} was born in {with_article(person.place)} in {person.born}"
    return _passage(person.name, f"{text} and wrote many novels and short stories about {b.topics[0]}.")


def _novel(b: Block) -> Passage:
    text = f'"{b.novel}" is a novel by {b.novelist.name}. It was first published in {b.novel_year}. The story is about'
    return _passage(b.novel, f"{text} {b.topics[1]} and a family that has to leave its home.")


def _company(b: Block) -> Passage:
    text = f"{b.company} is a company that makes {b.product}. It was founded in {b.company_year} by {b.founder.name}"
    return _passage(b.company, f"{text}, who started with one small workshop and three workers.")


def _founder(b: Block) -> Passage:
    person = b.founder
    text = f"{person.name} was the founder of a company. {_he(person)} was born in the town of {person.place} in"
    return _passage(person.name, f"{text} {person.born} and learned the trade from an uncle.")


def _film(b: Block) -> Passage:
    text = f'"{b.film}" is a film that was released in {b.film_year}. It was directed by {b.director.name}. The film is'
    return _passage(b.film, f"{text} about {b.topics[2]} and two friends who meet again.")


def _director(b: Block) -> Passage:
    person = b.director
    text = f"{person.name} was a film director. {_he(person)} was born in {person.born} in the town of {person.place}"
    return _passage(person.name, f"{text} and worked in a theatre before making films.")


def _musician(b: Block) -> Passage:
    person = b.namesake
    text = f"{person.name} was a musician who played the {b.instrument}. {_he(person)} was born in"
    return _passage(
        person.name, f"{text} {with_article(person.place)} in {person.born} and gave concerts in many towns."
    )


def _he(person: Person) -> str:
    return person.pronoun.capitalize()


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]

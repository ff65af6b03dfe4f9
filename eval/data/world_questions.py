"""The questions of the built-in world: which kinds there are, and which passages each one needs.

A kind says of every hop whether its fact is real (a model may know it) or invented (it must be looked up). Supporting
passages and `needs_retrieval` are in the order of the hops.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flarekit.errors import ConfigError
from flarekit.eval.data.dataset import Question
from flarekit.eval.data.facts import Country, Work, accepted, currency_answers, with_article
from flarekit.eval.data.world_plan import Block, Plan, block, festival

_TRIES = 200
"""Draws of one kind that may be no new question before the kind counts as used up."""


_Key = tuple[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class _Draft:
    text: str
    answers: tuple[str, ...]
    supporting: tuple[str, ...]
    invented: tuple[bool, ...]

    @property
    def key(self) -> _Key:
        """The same for questions that differ only in the order of what they compare."""
        return self.answers[0], frozenset(self.supporting)


_Maker = Callable[[Plan, random.Random], _Draft | None]
"""Draws a question of its kind; None where the drawn facts do not make one."""


def ask(plan: Plan, count: int) -> Iterator[Question]:
    """`count` different questions, the kinds in turn for as long as each has new ones.

    Raises `ConfigError`, at the question that cannot be had, if the world has no room for so many.
    """
    rng = random.Random(f"{plan.seed} questions")
    asked: set[_Key] = set()
    kinds = list(_KINDS)
    while len(asked) < count:
        if not kinds:
            room = f"a world of {plan.passages} passages has room for {len(asked)} different questions, not {count}"
            raise ConfigError(f"{room}; ask for fewer, or for more passages")
        kind = kinds.pop(0)
        if (draft := _new(plan, rng, kind, asked)) is not None:
            kinds.append(kind)
            asked.add(draft.key)
            id_ = f"world-{plan.seed}-{len(asked):05d}"
            yield Question(id_, draft.text, draft.answers, draft.supporting, kind, draft.invented)


def _new(plan: Plan, rng: random.Random, kind: str, asked: set[_Key]) -> _Draft | None:
    for _ in range(_TRIES):
        draft = rng.choice(_KINDS[kind])(plan, rng)
        if draft is not None and draft.key not in asked:
            return draft
    return None


def _block(plan: Plan, rng: random.Random) -> Block:
    return block(plan, rng.randrange(plan.blocks))


def _fact(country: Country, rng: random.Random) -> tuple[str, tuple[str, ...], str]:
    """A property of a country, its accepted values, and the passage that states it."""
    facts = [
        ("capital", accepted(country.capital), country.capital),
        ("currency", currency_answers(country), country.name),
    ]
    if country.language:
        facts.append(("official language", accepted(country.language), country.name))
    return rng.choice(facts)


def _of_capital(plan: Plan, rng: random.Random) -> _Draft | None:
    country = rng.choice(plan.countries)
    name, answers, passage = _fact(country, rng)
    if name == "capital":
        return None
    text = f"What is the {name} of the country whose capital is {country.capital}?"
    return _Draft(text, answers, (country.capital, passage), (False, False))


def _continent_of_capital(plan: Plan, rng: random.Random) -> _Draft | None:
    country = rng.choice(plan.countries)
    if country.continent is None:
        return None
    text = f"On which continent is the country whose capital is {country.capital}?"
    return _Draft(text, (country.continent,), (country.capital, country.name), (False, False))


def _origin_of_maker(plan: Plan, rng: random.Random) -> _Draft:
    work = rng.choice(plan.works)
    text = f"From which country did {_maker_of(work)} come?"
    return _Draft(text, accepted(work.country), (_title(work), work.maker), (False, False))


def _festival_of_capital(plan: Plan, rng: random.Random) -> _Draft:
    number = rng.randrange(plan.festivals)
    country, name = plan.countries[number], festival(plan, number)
    text = f"Which bell festival takes place in the capital of {with_article(country.name)}?"
    return _Draft(text, (name,), (country.capital, name), (False, True))


def _country_of_novelist(plan: Plan, rng: random.Random) -> _Draft:
    b = _block(plan, rng)
    name, answers, passage = _fact(b.novelist_country, rng)
    text = f"What is the {name} of the country in which the novelist {b.novelist.name} was born?"
    return _Draft(text, answers, (b.novelist.name, passage), (True, False))


def _country_of_town(plan: Plan, rng: random.Random) -> _Draft:
    b = _block(plan, rng)
    name, answers, passage = _fact(b.country, rng)
    text = f"What is the {name} of the country in which the town of {b.town} lies?"
    return _Draft(text, answers, (b.town, passage), (True, False))


def _town_of_founder(plan: Plan, rng: random.Random) -> _Draft:
    b = _block(plan, rng)
    text = f"In which town was the founder of {b.company} born?"
    return _Draft(text, (b.founder.place,), (b.company, b.founder.name), (True, True))


def _birth_of_director(plan: Plan, rng: random.Random) -> _Draft:
    b = _block(plan, rng)
    text = f'In which year was the director of the film "{b.film}" born?'
    return _Draft(text, (str(b.director.born),), (b.film, b.director.name), (True, True))


def _birth_of_author(plan: Plan, rng: random.Random) -> _Draft:
    b = _block(plan, rng)
    text = f'In which country was the author of the novel "{b.novel}" born?'
    return _Draft(text, accepted(b.novelist_country.name), (b.novel, b.novelist.name), (True, True))


def _comparison(phrase: str, entity: Callable[[Block], tuple[str, int]], *, earlier: bool = True) -> _Maker:
    def draw(plan: Plan, rng: random.Random) -> _Draft | None:
        (one, year), (other, other_year) = entity(_block(plan, rng)), entity(_block(plan, rng))
        if year == other_year:
            return None
        answer = one if (year < other_year) == earlier else other
        return _Draft(phrase.format(one, other), (answer,), (one, other), (True, True))

    return draw


def _country_of_author(plan: Plan, rng: random.Random) -> _Draft:
    b = _block(plan, rng)
    name, answers, passage = _fact(b.novelist_country, rng)
    text = f'What is the {name} of the country in which the author of the novel "{b.novel}" was born?'
    return _Draft(text, answers, (b.novel, b.novelist.name, passage), (True, True, False))


def _country_of_founder(plan: Plan, rng: random.Random) -> _Draft:
    b = _block(plan, rng)
    home = block(plan, b.birth_block)
    text = f"In which country is the town in which the founder of {b.company} was born?"
    supporting = (b.company, b.founder.name, home.town)
    return _Draft(text, accepted(home.country.name), supporting, (True, True, True))


def _country_of_maker(plan: Plan, rng: random.Random) -> _Draft:
    work = rng.choice(plan.works)
    country = next(country for country in plan.countries if country.name == work.country)
    name, answers, passage = _fact(country, rng)
    text = f"What is the {name} of the country that {_maker_of(work)} came from?"
    return _Draft(text, answers, (_title(work), work.maker, passage), (False, False, False))


def _maker_of(work: Work) -> str:
    if work.kind == "invention":
        return f"the inventor of the {work.title}"
    return f"the inventor of {work.title}" if work.kind == "substance" else f'the author of "{work.title}"'


def _title(work: Work) -> str:
    return work.title[0].upper() + work.title[1:]


_KINDS: dict[str, tuple[_Maker, ...]] = {
    "real-real": (_of_capital, _continent_of_capital, _origin_of_maker),
    "real-invented": (_festival_of_capital,),
    "invented-real": (_country_of_novelist, _country_of_town),
    "invented-invented": (_town_of_founder, _birth_of_director, _birth_of_author),
    "comparison": (
        _comparison('Which novel was published first, "{}" or "{}"?', lambda b: (b.novel, b.novel_year)),
        _comparison("Which company was founded first, {} or {}?", lambda b: (b.company, b.company_year)),
        _comparison("Who was born later, {} or {}?", lambda b: (b.director.name, b.director.born), earlier=False),
    ),
    "three-hop": (_country_of_author, _country_of_founder, _country_of_maker),
}

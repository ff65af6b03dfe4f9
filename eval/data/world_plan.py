"""What the built-in world consists of: which real facts, and blocks of invented ones, each computable on its own.

A block is a pure function of the plan and its number. That is what lets `flarekit.eval.data.world` write a million
passages in linear time and constant memory, and `flarekit.eval.data.world_questions` ask about any of them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from flarekit.errors import ConfigError
from flarekit.eval.data.facts import COUNTRIES, WORKS, Country, Work
from flarekit.eval.data.names import FIRST_NAMES, split, surname, town

SMALLEST, LARGEST = 50, 1_000_000
BLOCK = 8
"""Invented passages that belong together."""

_PRODUCTS = split("clocks,bicycles,glass lamps,paper,violins,tea kettles,maps,umbrellas,skis,ropes")
_TOPICS = split("the sea,the mountains,old railways,lonely lighthouses,long winters,harbour towns,lost letters")
_INSTRUMENTS = split("violin,flute,cello,harp,trumpet,piano")
_FIRM_KINDS = split("Works,Mills,Instruments,Brothers,Company,Workshops")
_NOVEL_STARTS = split(
    "The Silver Gate,The Last Garden,The Quiet River,The Winter House,The Broken Bridge,The Blue Door"
)
_FILM_STARTS = split("Night Train to,Letters from,The Road to,Return to,Seven Days in,Farewell to")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a world of a given size and seed is made of."""

    passages: int
    seed: int
    countries: tuple[Country, ...]
    works: tuple[Work, ...]
    festivals: int
    """The first so many countries have an invented festival in their real capital."""
    blocks: int
    """Whole blocks; questions are asked about these only."""


@dataclass(frozen=True, slots=True)
class Person:
    """An invented person."""

    name: str
    pronoun: str
    born: int
    place: str
    """Where the person was born: a town, or for novelists and musicians a country."""


@dataclass(frozen=True, slots=True)
class Block:
    """Eight invented entities: three pairs of a work and its maker, a town, and the novelist's namesake."""

    town: str
    country: Country
    novel: str
    novel_year: int
    novelist: Person
    novelist_country: Country
    company: str
    company_year: int
    founder: Person
    film: str
    film_year: int
    director: Person
    namesake: Person
    birth_block: int
    """The number of the block whose town the founder was born in."""
    product: str
    topics: tuple[str, str, str]
    """What the novelist, the novel and the film are about."""
    instrument: str
    river: str
    inhabitants: str


def plan_world(passages: int = 400, seed: int = 0) -> Plan:
    """Decide how many of the passages are real and how many invented, about half each in a small world.

    Raises `ConfigError` for a size outside 50 to 1,000,000.
    """
    if not SMALLEST <= passages <= LARGEST:
        raise ConfigError(f"a world has {SMALLEST} to {LARGEST:,} passages, not {passages:,}")
    rng = random.Random(f"{seed} plan")
    works = tuple(rng.sample(WORKS, min(len(WORKS), passages // 12)))
    origins = {work.country for work in works}
    shuffled = rng.sample(COUNTRIES, len(COUNTRIES))
    # The makers' own countries come first, so that their currencies and capitals can be asked for.
    ranked = sorted(shuffled, key=lambda country: country.name not in origins)
    countries = tuple(ranked[: min(len(COUNTRIES), passages // 8)])
    festivals = min(len(countries), passages // 16)
    makers = {work.maker for work in works}
    invented = passages - 2 * len(countries) - len(works) - len(makers) - festivals
    return Plan(passages, seed, countries, works, festivals, invented // BLOCK)


def festival(plan: Plan, number: int) -> str:
    """The name of the festival in the capital of the plan's country `number`."""
    return surname(number, plan.seed, "festival")


def block(plan: Plan, number: int) -> Block:
    """The invented block `number`, computed from nothing but the plan."""
    rng = random.Random(f"{plan.seed} block {number}")
    birth_block, director_block = rng.randrange(plan.blocks), rng.randrange(plan.blocks)
    novelist_country = rng.choice(plan.countries)
    novelist = _person(plan, rng, 3 * number, novelist_country.name)
    founder = _person(plan, rng, 3 * number + 1, town(birth_block, plan.seed))
    director = _person(plan, rng, 3 * number + 2, town(director_block, plan.seed))
    return Block(
        town=town(number, plan.seed),
        country=rng.choice(plan.countries),
        novel=f"{rng.choice(_NOVEL_STARTS)} of {surname(number, plan.seed, 'novel')}",
        novel_year=novelist.born + rng.randint(25, 60),
        novelist=novelist,
        novelist_country=novelist_country,
        company=f"{surname(number, plan.seed, 'company')} {rng.choice(_FIRM_KINDS)}",
        company_year=founder.born + rng.randint(22, 50),
        founder=founder,
        film=f"{rng.choice(_FILM_STARTS)} {surname(number, plan.seed, 'film')}",
        film_year=director.born + rng.randint(28, 60),
        director=director,
        namesake=_namesake(rng, novelist, rng.choice(plan.countries).name),
        birth_block=birth_block,
        product=rng.choice(_PRODUCTS),
        topics=(rng.choice(_TOPICS), rng.choice(_TOPICS), rng.choice(_TOPICS)),
        instrument=rng.choice(_INSTRUMENTS),
        river=surname(number, plan.seed, "river"),
        inhabitants=f"{rng.randint(2, 90)},{rng.randint(0, 999):03d}",
    )


def _person(plan: Plan, rng: random.Random, number: int, place: str) -> Person:
    pronoun = rng.choice(("he", "she"))
    name = f"{rng.choice(FIRST_NAMES[pronoun])} {surname(number, plan.seed, 'person')}"
    return Person(name, pronoun, rng.randint(1880, 1950), place)


def _namesake(rng: random.Random, person: Person, country: str) -> Person:
    # The other pronoun's given names are all different, so that the two never share the whole name.
    pronoun = "she" if person.pronoun == "he" else "he"
    name = f"{rng.choice(FIRST_NAMES[pronoun])} {person.name.rpartition(' ')[2]}"
    return Person(name, pronoun, rng.randint(1880, 1950), country)

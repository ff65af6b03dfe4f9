"""Invented names: pronounceable, and each the image of a number, so that a million need neither memory nor luck.

A word is spelt as onset, vowel, middle, vowel, ending. Every way of spelling is read back in one way only, and a
permutation that the seed chooses maps numbers to spellings: different numbers give different words. Each use of words
(`salt`) has its own permutation.
"""

from __future__ import annotations

import random
from functools import lru_cache
from math import gcd, prod

from flarekit.errors import ConfigError


def split(text: str) -> tuple[str, ...]:
    """The comma-separated items of a list that is easier to read as one text."""
    return tuple(text.split(","))


_ONSETS = split("b,br,d,dr,f,fl,g,gl,h,j,k,kr,l,m,n,p,pr,qu,r,s,sk,st,t,tr,v,vr,w,y,z,zh")
_VOWELS = split("a,e,i,o,u,au,ei,ou")
# Two consonants in the middle, and not every two, keep the words apart from real ones (Lima, London, Herman).
_MIDDLES = split(
    "bd,dm,gn,kt,lb,ld,lv,lz,mb,mr,ng,nk,nv,nz,rb,rg,rv,rz,sk,sm,st,th,tr,vr,zd,zm,zn,vl,gd,zb,lg,mp,ft,sp"
)
_SURNAME_PARTS = (_ONSETS, _VOWELS, _MIDDLES, split("a,e,i,o,u"), split("k,l,m,n,r,s,sh,th,v,x"))
_TOWN_ENDS = split("aby,adal,afors,agard,aholm,amouth,anger,averk,awick,ebo,edorf,efell,eham,elund,emark,eport,estead")
_TOWN_PARTS = (_ONSETS, _VOWELS, _MIDDLES, (*_TOWN_ENDS, "estrom", "etoft", "evik"))

FIRST_NAMES = {
    "he": split(
        "Tavo,Orrin,Belko,Dario,Emrik,Fenno,Goran,Halvo,Ivek,Jorun,Kasmir,Ludo,Mirko,Nevin,Oskel,Pavo,Quill,Rasko,"
        "Stellan,Timur,Ulmo,Varek,Wendel,Yorik,Zoran,Aldo,Brann,Casper,Dobrin,Edvar"
    ),
    "she": split(
        "Mira,Orla,Belka,Dessa,Elin,Farah,Greta,Hanna,Ilka,Jora,Kalina,Lorna,Mavis,Nadia,Oona,Petra,Runa,Selma,Tilda,"
        "Ursa,Vesna,Wilma,Yara,Zelda,Anouk,Brida,Celia,Dagny,Edda,Freya"
    ),
}
"""Given names by pronoun. They repeat; it is the surname that tells people apart."""


def surname(number: int, seed: int, salt: str) -> str:
    """The word for a number below 408,000, such as "Brendak": surnames, brands and names of places in titles."""
    return _word(number, seed, salt, _SURNAME_PARTS)


def town(number: int, seed: int) -> str:
    """The town for a number below 163,200, such as "Velvaholm": never a surname."""
    return _word(number, seed, "town", _TOWN_PARTS)


def _word(number: int, seed: int, salt: str, parts: tuple[tuple[str, ...], ...]) -> str:
    size = prod(map(len, parts))
    if not 0 <= number < size:
        raise ConfigError(f"no invented name for number {number}: there are {size:,}; ask for a smaller world")
    factor, shift = _permutation(seed, salt, size)
    place = (number * factor + shift) % size
    letters = []
    for part in parts:
        place, index = divmod(place, len(part))
        letters.append(part[index])
    return "".join(letters).capitalize()


@lru_cache(maxsize=64)
def _permutation(seed: int, salt: str, size: int) -> tuple[int, int]:
    rng = random.Random(f"{seed} {salt}")
    while True:
        factor = rng.randrange(size // 3, size)
        if gcd(factor, size) == 1:
            return factor, rng.randrange(size)

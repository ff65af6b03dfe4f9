"""Real facts that the built-in world mixes with invented ones, typed by hand.

Only what is stable and undisputed: countries whose capital is contested or split, languages that share their official
status, and continents of countries on two of them are left out (None). Names are in plain letters, with the accented
form as an alias.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Country:
    """A country of today."""

    name: str
    capital: str
    currency: str
    """Official name in English, without an article."""
    continent: str | None = None
    language: str | None = None
    """The language that alone is official in the whole country, where there is one."""


@dataclass(frozen=True, slots=True)
class Work:
    """A famous work or invention, and who made it."""

    title: str
    kind: str
    """What it is, such as "novel"; "invention", or "substance" for one without an article."""
    maker: str
    country: str
    """The country of today that its maker came from, by its name in `COUNTRIES`."""


_COUNTRIES = """
Norway|Oslo|Norwegian krone|Europe|Norwegian
Sweden|Stockholm|Swedish krona|Europe|Swedish
Denmark|Copenhagen|Danish krone|Europe|Danish
Finland|Helsinki|euro|Europe|
Iceland|Reykjavik|Icelandic krona|Europe|Icelandic
Germany|Berlin|euro|Europe|German
Austria|Vienna|euro|Europe|German
France|Paris|euro|Europe|French
Spain|Madrid|euro|Europe|Spanish
Portugal|Lisbon|euro|Europe|Portuguese
Italy|Rome|euro|Europe|Italian
Greece|Athens|euro|Europe|Greek
Ireland|Dublin|euro|Europe|
Belgium|Brussels|euro|Europe|
United Kingdom|London|pound sterling|Europe|
Poland|Warsaw|Polish zloty|Europe|Polish
Czech Republic|Prague|Czech koruna|Europe|Czech
Slovakia|Bratislava|euro|Europe|Slovak
Hungary|Budapest|Hungarian forint|Europe|Hungarian
Romania|Bucharest|Romanian leu|Europe|Romanian
Serbia|Belgrade|Serbian dinar|Europe|Serbian
Albania|Tirana|Albanian lek|Europe|Albanian
Ukraine|Kyiv|Ukrainian hryvnia|Europe|Ukrainian
Belarus|Minsk|Belarusian ruble|Europe|
Estonia|Tallinn|euro|Europe|Estonian
Latvia|Riga|euro|Europe|Latvian
Lithuania|Vilnius|euro|Europe|Lithuanian
Slovenia|Ljubljana|euro|Europe|
Russia|Moscow|Russian ruble||Russian
Turkey|Ankara|Turkish lira||Turkish
Georgia|Tbilisi|Georgian lari||
Armenia|Yerevan|Armenian dram||Armenian
Azerbaijan|Baku|Azerbaijani manat||Azerbaijani
Japan|Tokyo|Japanese yen|Asia|Japanese
China|Beijing|Chinese yuan|Asia|
South Korea|Seoul|South Korean won|Asia|Korean
North Korea|Pyongyang|North Korean won|Asia|Korean
Mongolia|Ulaanbaatar|Mongolian tugrik|Asia|Mongolian
Vietnam|Hanoi|Vietnamese dong|Asia|Vietnamese
Thailand|Bangkok|Thai baht|Asia|Thai
Cambodia|Phnom Penh|Cambodian riel|Asia|Khmer
Laos|Vientiane|Lao kip|Asia|Lao
India|New Delhi|Indian rupee|Asia|
Pakistan|Islamabad|Pakistani rupee|Asia|
Bangladesh|Dhaka|Bangladeshi taka|Asia|Bengali
Nepal|Kathmandu|Nepalese rupee|Asia|
Afghanistan|Kabul|Afghan afghani|Asia|
Iran|Tehran|Iranian rial|Asia|Persian
Iraq|Baghdad|Iraqi dinar|Asia|
Saudi Arabia|Riyadh|Saudi riyal|Asia|Arabic
Jordan|Amman|Jordanian dinar|Asia|Arabic
Lebanon|Beirut|Lebanese pound|Asia|Arabic
Syria|Damascus|Syrian pound|Asia|Arabic
Qatar|Doha|Qatari riyal|Asia|Arabic
Oman|Muscat|Omani rial|Asia|Arabic
Philippines|Manila|Philippine peso|Asia|
Egypt|Cairo|Egyptian pound||Arabic
Morocco|Rabat|Moroccan dirham|Africa|
Algeria|Algiers|Algerian dinar|Africa|
Libya|Tripoli|Libyan dinar|Africa|Arabic
Sudan|Khartoum|Sudanese pound|Africa|
Ethiopia|Addis Ababa|Ethiopian birr|Africa|
Kenya|Nairobi|Kenyan shilling|Africa|
Uganda|Kampala|Ugandan shilling|Africa|
Rwanda|Kigali|Rwandan franc|Africa|
Ghana|Accra|Ghanaian cedi|Africa|English
Nigeria|Abuja|Nigerian naira|Africa|English
Angola|Luanda|Angolan kwanza|Africa|Portuguese
Mozambique|Maputo|Mozambican metical|Africa|Portuguese
Zambia|Lusaka|Zambian kwacha|Africa|English
Namibia|Windhoek|Namibian dollar|Africa|English
Botswana|Gaborone|Botswana pula|Africa|
Madagascar|Antananarivo|Malagasy ariary|Africa|
Canada|Ottawa|Canadian dollar|North America|
United States|Washington, D.C.|United States dollar|North America|
Mexico|Mexico City|Mexican peso|North America|
Cuba|Havana|Cuban peso|North America|Spanish
Jamaica|Kingston|Jamaican dollar|North America|English
Haiti|Port-au-Prince|Haitian gourde|North America|
Dominican Republic|Santo Domingo|Dominican peso|North America|Spanish
Honduras|Tegucigalpa|Honduran lempira|North America|Spanish
Costa Rica|San Jose|Costa Rican colon|North America|Spanish
Colombia|Bogota|Colombian peso|South America|Spanish
Venezuela|Caracas|Venezuelan bolivar|South America|
Ecuador|Quito|United States dollar|South America|Spanish
Peru|Lima|Peruvian sol|South America|
Chile|Santiago|Chilean peso|South America|Spanish
Argentina|Buenos Aires|Argentine peso|South America|Spanish
Uruguay|Montevideo|Uruguayan peso|South America|Spanish
Paraguay|Asuncion|Paraguayan guarani|South America|
Brazil|Brasilia|Brazilian real|South America|Portuguese
Australia|Canberra|Australian dollar|Oceania|
New Zealand|Wellington|New Zealand dollar|Oceania|
Fiji|Suva|Fijian dollar|Oceania|
"""

_WORKS = """
Pride and Prejudice|novel|Jane Austen|United Kingdom
Emma|novel|Jane Austen|United Kingdom
Oliver Twist|novel|Charles Dickens|United Kingdom
Great Expectations|novel|Charles Dickens|United Kingdom
Hamlet|play|William Shakespeare|United Kingdom
Macbeth|play|William Shakespeare|United Kingdom
Frankenstein|novel|Mary Shelley|United Kingdom
Jane Eyre|novel|Charlotte Bronte|United Kingdom
Wuthering Heights|novel|Emily Bronte|United Kingdom
Alice's Adventures in Wonderland|novel|Lewis Carroll|United Kingdom
Robinson Crusoe|novel|Daniel Defoe|United Kingdom
The Time Machine|novel|H. G. Wells|United Kingdom
The War of the Worlds|novel|H. G. Wells|United Kingdom
Treasure Island|novel|Robert Louis Stevenson|United Kingdom
Middlemarch|novel|George Eliot|United Kingdom
Murder on the Orient Express|novel|Agatha Christie|United Kingdom
Paradise Lost|poem|John Milton|United Kingdom
Mrs Dalloway|novel|Virginia Woolf|United Kingdom
Brave New World|novel|Aldous Huxley|United Kingdom
Lord of the Flies|novel|William Golding|United Kingdom
Peter Pan|play|J. M. Barrie|United Kingdom
Moby-Dick|novel|Herman Melville|United States
The Adventures of Tom Sawyer|novel|Mark Twain|United States
The Great Gatsby|novel|F. Scott Fitzgerald|United States
To Kill a Mockingbird|novel|Harper Lee|United States
The Grapes of Wrath|novel|John Steinbeck|United States
The Old Man and the Sea|novel|Ernest Hemingway|United States
The Catcher in the Rye|novel|J. D. Salinger|United States
The Scarlet Letter|novel|Nathaniel Hawthorne|United States
Little Women|novel|Louisa May Alcott|United States
The Call of the Wild|novel|Jack London|United States
Fahrenheit 451|novel|Ray Bradbury|United States
Ulysses|novel|James Joyce|Ireland
Dracula|novel|Bram Stoker|Ireland
Gulliver's Travels|novel|Jonathan Swift|Ireland
The Picture of Dorian Gray|novel|Oscar Wilde|Ireland
Waiting for Godot|play|Samuel Beckett|Ireland
Les Miserables|novel|Victor Hugo|France
The Three Musketeers|novel|Alexandre Dumas|France
Madame Bovary|novel|Gustave Flaubert|France
Candide|novel|Voltaire|France
Around the World in Eighty Days|novel|Jules Verne|France
The Little Prince|novel|Antoine de Saint-Exupery|France
War and Peace|novel|Leo Tolstoy|Russia
Anna Karenina|novel|Leo Tolstoy|Russia
Crime and Punishment|novel|Fyodor Dostoevsky|Russia
The Idiot|novel|Fyodor Dostoevsky|Russia
The Cherry Orchard|play|Anton Chekhov|Russia
Fathers and Sons|novel|Ivan Turgenev|Russia
Don Quixote|novel|Miguel de Cervantes|Spain
The Divine Comedy|poem|Dante Alighieri|Italy
The Name of the Rose|novel|Umberto Eco|Italy
The Adventures of Pinocchio|novel|Carlo Collodi|Italy
The Magic Mountain|novel|Thomas Mann|Germany
All Quiet on the Western Front|novel|Erich Maria Remarque|Germany
A Doll's House|play|Henrik Ibsen|Norway
Peer Gynt|play|Henrik Ibsen|Norway
The Little Mermaid|fairy tale|Hans Christian Andersen|Denmark
Pippi Longstocking|children's book|Astrid Lindgren|Sweden
One Hundred Years of Solitude|novel|Gabriel Garcia Marquez|Colombia
The Tale of Genji|novel|Murasaki Shikibu|Japan
Norwegian Wood|novel|Haruki Murakami|Japan
Things Fall Apart|novel|Chinua Achebe|Nigeria
The Alchemist|novel|Paulo Coelho|Brazil
The Handmaid's Tale|novel|Margaret Atwood|Canada
Anne of Green Gables|novel|L. M. Montgomery|Canada
The Lusiads|poem|Luis de Camoes|Portugal
Palace Walk|novel|Naguib Mahfouz|Egypt
Quo Vadis|novel|Henryk Sienkiewicz|Poland
The Good Soldier Svejk|novel|Jaroslav Hasek|Czech Republic
dynamite|substance|Alfred Nobel|Sweden
phonograph|invention|Thomas Edison|United States
cotton gin|invention|Eli Whitney|United States
lightning rod|invention|Benjamin Franklin|United States
miner's safety lamp|invention|Humphry Davy|United Kingdom
World Wide Web|invention|Tim Berners-Lee|United Kingdom
voltaic pile|invention|Alessandro Volta|Italy
mercury barometer|invention|Evangelista Torricelli|Italy
Braille alphabet|invention|Louis Braille|France
stethoscope|invention|Rene Laennec|France
Rubik's Cube|invention|Erno Rubik|Hungary
saxophone|invention|Adolphe Sax|Belgium
"""

ALIASES: dict[str, tuple[str, ...]] = {
    "United Kingdom": ("UK", "Great Britain", "Britain", "England"),
    "United States": ("USA", "US", "United States of America", "America"),
    "Czech Republic": ("Czechia",),
    "Russia": ("Russian Federation",),
    "Ireland": ("Republic of Ireland",),
    "Washington, D.C.": ("Washington",),
    "Reykjavik": ("Reykjavík",),
    "Bogota": ("Bogotá",),
    "Asuncion": ("Asunción",),
    "San Jose": ("San José",),
    "Brasilia": ("Brasília",),
    "Kyiv": ("Kiev",),
    "New Delhi": ("Delhi",),
    "Persian": ("Farsi",),
    "Bengali": ("Bangla",),
    "pound sterling": ("pound", "British pound", "sterling"),
    "United States dollar": ("US dollar", "U.S. dollar", "American dollar", "dollar"),
    "Chinese yuan": ("yuan", "renminbi", "Chinese renminbi"),
    "Afghan afghani": ("afghani",),
    "Icelandic krona": ("krona", "Icelandic króna", "króna"),
    "Polish zloty": ("zloty", "Polish złoty", "złoty"),
    "Russian ruble": ("ruble", "rouble", "Russian rouble"),
    "Belarusian ruble": ("ruble", "rouble", "Belarusian rouble"),
    "Costa Rican colon": ("colon", "Costa Rican colón", "colón"),
    "South Korean won": ("won", "Korean won"),
    "Mongolian tugrik": ("tugrik", "togrog"),
}
"""Other accepted forms of an answer; a currency's last word, such as "krone", is accepted besides."""


def _country(line: str) -> Country:
    name, capital, currency, continent, language = line.split("|")
    return Country(name, capital, currency, continent or None, language or None)


COUNTRIES: tuple[Country, ...] = tuple(map(_country, _COUNTRIES.split("\n")[1:-1]))
WORKS: tuple[Work, ...] = tuple(Work(*line.split("|")) for line in _WORKS.split("\n")[1:-1])


def currency_answers(country: Country) -> tuple[str, ...]:
    """The accepted names of a country's currency, the full one first."""
    full = country.currency
    return (full, *ALIASES.get(full, (full.rpartition(" ")[2],) if " " in full else ()))


def accepted(answer: str) -> tuple[str, ...]:
    """The accepted forms of any other answer, the main one first."""
    return (answer, *ALIASES.get(answer, ()))


def with_article(name: str) -> str:
    """A country's name as it stands inside a sentence."""
    takes_article = name.startswith(("United ", "Czech ", "Dominican ", "Philippines"))
    return f"the {name}" if takes_article else name

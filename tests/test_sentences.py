"""Where sentences of a growing text end."""

from __future__ import annotations

import re
from itertools import accumulate, pairwise

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from flarekit.sentences import SentenceSplitter, sentence_starts, split_sentences


def split(pieces: list[str]) -> list[str]:
    splitter, sentences = SentenceSplitter(), [""]
    for piece in pieces:
        if splitter.push(piece):
            sentences.append("")
        sentences[-1] += piece
    return sentences


def test_a_sentence_ends_when_the_next_begins() -> None:
    assert split(["He", " left", ".", " She", " stayed", "."]) == ["He left.", " She stayed."]


@pytest.mark.parametrize(
    "sentence",
    [
        "Martin Luther King Jr. was born in Atlanta.",
        "He lived in the U.S. Senate building.",
        "Pi is about 3.14 and e about 2.718.",
        "So the answer is St. Louis.",
        "J. K. Rowling and Dr. Smith agreed.",
    ],
)
def test_abbreviations_and_decimals_do_not_end_one(sentence: str) -> None:
    words = [(" " if place else "") + word for place, word in enumerate(sentence.split(" "))]
    assert split([*words, " Then", " it", " ended."]) == [sentence, " Then it ended."]


def test_quotes_stay_with_their_sentence() -> None:
    assert split(["She", " said", ' "', "Go", '."', " Then", " left"]) == ['She said "Go."', " Then left"]


def test_tokens_without_text_end_nothing() -> None:
    assert split(["Done", ".", "", " Next", ""]) == ["Done.", " Next"]


def test_restart_forgets_the_sentence() -> None:
    splitter = SentenceSplitter()
    splitter.push("Half a")
    splitter.restart()
    assert splitter.text == ""


@given(st.lists(st.sampled_from([" Paris", " is", " big", ".", "!", " U", ".S.", " 3", ".1", '"', " He", "\n", ""])))
def test_no_piece_is_lost_or_reordered(pieces: list[str]) -> None:
    assert "".join(split(pieces)) == "".join(pieces)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("दिल्ली भारत की राजधानी है। यह यमुना नदी पर है॥ बड़ी है?", 3),
        ("ঢাকা বাংলাদেশের রাজধানী। এটি বড়। শেষ।", 3),
        ("سلام۔ کیا آپ یہاں ہیں؟ جی ہاں۔", 3),
        ("هل هو كاتب؟‏ نعم هو كاتب. عاش في لندن.", 3),
        ("አዲስ አበባ ትልቅ ናት። ኢትዮጵያ ውስጥ ናት። አዎ፧ እሺ።", 4),
        ("ရန်ကုန်သည် မြို့ကြီးဖြစ်သည်။ မြန်မာနိုင်ငံတွင်ရှိသည်။ပြီးပြီ။", 3),
        ("Երևանը մայրաքաղաք է։ Այն մեծ է: Վերջ։", 3),
        ("བོད་ནི་ཡུལ་ཞིག་ཡིན། ལྷ་ས་རྒྱལ་ས་ཡིན། །རྫོགས་སོ།།", 3),
        ("ភ្នំពេញជារដ្ឋធានី។​វាធំណាស់។ ចប់៕", 3),
        ("Είναι στην Αθήνα; Ναι. Ο κ. Παπαδόπουλος ζει.", 3),
        ("А. С. Пушкин жил в г. Москва. Да! Конец.", 3),
        ("爱因斯坦出生于乌尔姆。他搬到了瑞士！他获奖了吗？“是的。”他说．完", 6),
        ("東京は大きい｡「大阪も。」と言った。終わり｡", 4),
        ("서울은 크다. 한국에 있다. 끝.", 3),
        ("ירושלים היא בירה. היא גדולה! סוף.", 3),
        ("Paris is big. It is in France.	Done !　Now. Yes.", 5),
        ("Il dit « Oui ! » Puis il part. «Да.» Он ушёл. „Ja.“ Er ging. »Nein.« Ende.", 8),
        ('(He did.) It said "Go." “Yes.” ‘Nay.’ **Bold.** It ended.[1] Now (see 3.5).', 7),
        ("Is it so?! Yes!! Really... Fine‽ Done.", 5),
        ("Dr. Smith v. Jones, No. 5, Op. 27, c. 1400 (c. 1500), J. R. R. Tolkien, 3.14 and 1.5 m. end.", 1),
        ("Ḥ. Ö. Årud came. A. Łódź left.", 2),
        ("กรุงเทพเป็นเมืองหลวงของประเทศไทย", 1),
        ("One paragraph\n\nAnother", 2),
    ],
)
def test_sentences_end_where_their_script_ends_them_however_the_text_is_cut(text: str, sentences: int) -> None:
    assert len(split_sentences(text)) == len(split(list(text))) == sentences
    assert len(split(re.findall(r"\s*\w+|\s*\W", text))) == sentences


MARKS = " .|.|!|?|…|。|।|؟|'|\"|”|»| «|(|)|[1]|**|\n|\n\n|\u00a0|\u200b|;|:|A.|v.|No.|Dr.|3.5|x|The|É|я|Ω|東"
TEXTS = st.lists(st.sampled_from([" ", "", *MARKS.split("|")])).map("".join)


SPACE = regex.compile(r"[\s\p{Cf}]")


def ends(pieces: list[str]) -> list[int]:
    splitter, begins = SentenceSplitter(), accumulate(map(len, pieces), initial=0)
    return [begin for begin, piece in zip(begins, pieces, strict=False) if splitter.push(piece)]


@given(TEXTS, st.lists(st.integers(0, 60)))
def test_sentences_are_the_same_character_by_character_in_pieces_and_whole(text: str, cuts: list[int]) -> None:
    exact, starts = ends(list(text)), sentence_starts(text)
    assert len(starts) == len(exact)
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    expected = set()
    for start, seen in zip(starts, exact, strict=True):
        begin, end = next((begin, end) for begin, end in pairwise(places) if begin <= seen < end)
        # What begins inside a piece begins for the caller with the next one.
        expected.add(begin if begin >= start or not SPACE.sub("", text[begin:start]) else end)
    assert ends([text[begin:end] for begin, end in pairwise(places)]) == sorted(expected - {len(text)})


def test_a_complete_text_is_split_at_once() -> None:
    assert split_sentences("He left. She stayed.\n") == ["He left.", "She stayed."]

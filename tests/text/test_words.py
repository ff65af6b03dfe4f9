"""What a word is, in scripts with spaces and without."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.scripted import tokens
from flarekit.actions import QueryContext, masked_draft_query, uncertain_words_query
from flarekit.escalation.split import normalize_question
from flarekit.prompts.chat import QUESTION_WORDS, Continuation
from flarekit.prompts.few_shot import Prompt
from flarekit.retrieval import Passage
from flarekit.retrievers.corpus.formats import iter_corpus
from flarekit.retrievers.lexical.analyzer import asked_words, words, words_before
from flarekit.retrievers.lexical.bm25 import BM25Retriever
from flarekit.retrievers.lexical.bm25_index import BM25Part, tokenizer
from flarekit.signals.sampling import same_words
from flarekit.text.words import is_content, is_word, pieces, split_words

LANGUAGES = [
    # language, passage, what finds it, what does not
    ("Chinese", "维也纳位于多瑙河畔，是奥地利的首都。", "奥地利的首都是哪里？", "语言"),
    ("Chinese, one character", "我家的猫很可爱。", "猫", "狗"),
    ("Japanese", "東京は日本の首都である。", "日本の首都はどこですか", "言語は何ですか"),
    ("Japanese, kana", "ガラスのコップです。", "ｶﾞﾗｽ", "からす"),
    ("Korean", "서울은 대한민국의 수도이다.", "수도는 어디입니까?", "언어는 무엇입니까?"),
    ("Thai", "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย", "เมืองหลวง", "ทะเล"),
    ("Thai, short", "ประเทศจีนใหญ่มาก", "จีน", "ไทย"),
    ("Lao", "ວຽງຈັນແມ່ນນະຄອນຫຼວງຂອງລາວ", "ນະຄອນຫຼວງ", "ພາສາ"),
    ("Khmer", "ភ្នំពេញជារដ្ឋធានីនៃប្រទេសកម្ពុជា។", "រដ្ឋធានី", "ភាសា"),
    ("Burmese", "ရန်ကုန်သည် မြန်မာနိုင်ငံ၏ မြို့ကြီးဖြစ်သည်။", "မြန်မာ", "ဘာသာ"),
    ("Hindi", "मुंबई महाराष्ट्र का सबसे बड़ा शहर है।", "महाराष्ट्र", "भाषा"),
    ("Bengali", "ঢাকা বাংলাদেশের রাজধানী।", "রাজধানী", "ভাষা"),
    ("Tamil", "சென்னை தமிழ்நாட்டின் தலைநகரம்.", "தலைநகரம்", "மொழி"),
    ("Arabic", "القَاهِرَة هي عاصمة مصر.", "القاهرة", "لغة"),
    ("Persian", "او به خانه می‌شود", "میشود", "می"),
    ("Hebrew", 'צה"ל הוא צבא ישראל.', "צה״ל", "שפה"),
    ("Russian", "Москва — столица России.", "СТОЛИЦА", "язык"),
    ("Greek", "Η Αθήνα είναι η πρωτεύουσα.", "ΠΡΩΤΕΥΟΥΣΑ", "γλώσσα"),
    ("German", "Die Straße führt nach Köln.", "STRASSE Koln", "Sprache"),
    ("French", "L’été à Orléans.", "ete", "langue"),
    ("Turkish", "İstanbul Türkiye'nin en büyük şehridir.", "istanbul", "dil"),
    ("Vietnamese", "Hà Nội là thủ đô của Việt Nam.", "thủ đô", "ngôn ngữ"),
    ("Amharic", "አዲስ አበባ የኢትዮጵያ ዋና ከተማ ናት።", "ዋና ከተማ", "ቋንቋ"),
    ("Tibetan", "ལྷ་ས་བོད་ཀྱི་རྒྱལ་ས་ཡིན།", "བོད", "སྐད"),
    ("Chinese, a year", "2008年奥运会在北京举行。", "２００８年", "2012"),
    ("Chinese, the order of characters", "上海大学位于上海。", "上海大学", "海上"),
    ("Cantonese", "佢喺香港。", "香港喺邊度", "澳門"),
    ("Japanese, long vowels", "コーヒーを飲む。", "コーヒー", "ヒーロー"),
    ("Japanese, small kana", "チョコレートケーキ", "チョコ", "コピー"),
    ("Japanese, an iteration mark", "人々は来た。", "人々", "時々"),
    ("Korean, a particle", "부산은 항구 도시이다.", "부산에서", "대구에서"),
    ("Korean, a question", "프랑스의 수도는 파리이다.", "파리는 어디에 있습니까", "독일은 무엇입니까"),
    ("Hindi, vowel signs", "यह बल है।", "बल", "बाल"),
    ("Hindi, digits", "वह २०२० में आया।", "2020", "2021"),
    ("Bengali, vowel signs", "কাল এলেন।", "কাল", "কলা"),
    ("Arabic, digits and points", "وُلِدَ مُحَمَّد عام ٢٠٢٠.", "محمد 2020", "أحمد 2021"),
    ("Arabic, a stretched word", "عـــربي", "عربي", "عبري"),
    ("Persian, letters of an Arabic keyboard", "کتاب فارسی ۱۳۹۹", "كتاب 1399", "کبوتر"),
    ("Urdu", "لاہور پاکستان کا شہر ہے۔", "لاهور", "کراچی"),
    ("Thai, a vowel in two ways", "กำแพงเมือง", "กําแพง", "ทะเล"),
    ("Khmer, vowel signs", "កាលេ", "កា", "កុ"),
    ("Khmer, digits", "ឆ្នាំ ១៩៧៥", "1975", "1976"),
    ("Tamil, vowel signs", "கல் பெரியது", "கல்", "கால்"),
    ("Sinhala", "ශ්‍රී ලංකාව", "ශ්‍රී", "ඉන්දියාව"),
    ("Armenian", "Երևանը Հայաստանի մայրաքաղաքն է։", "ՀԱՅԱՍՏԱՆԻ", "Վրաստան"),
    ("Georgian", "თბილისი დედაქალაქია", "ᲗᲑᲘᲚᲘᲡᲘ", "ბათუმი"),
    ("Cherokee", "ᏣᎳᎩ", "ꮳꮃꭹ", "ᎠᏂ"),
    ("Polish", "Łódź leży w Polsce.", "lodz", "Gdansk"),
    ("Ligatures", "ﬁnance and Œuvre", "finance oeuvre", "fine"),
    ("flags", "🇫🇷 flag", "flag", "🇩🇪"),
    ("emoji", "Paris 🗼 and 👩‍👩‍👧 ❤️", "🗼", "🎉"),
]


@pytest.mark.parametrize(("language", "text", "found", "missed"), LANGUAGES)
def test_words_of_a_language_are_found_and_no_parts_of_them(language: str, text: str, found: str, missed: str) -> None:
    held = set(words(f"The passage. {text}"))
    assert held & set(asked_words(found))
    assert not held & set(asked_words(missed))


@pytest.mark.parametrize("name", ["words", "english", "hindi"])
def test_a_stemmer_keeps_words_whole(name: str) -> None:
    text = "मुंबई महाराष्ट्र का सबसे बड़ा शहर है।"
    assert not set(tokenizer(name)(text)) & set(tokenizer(name, asked=True)("भाषा"))


async def test_lexical_search_finds_a_sentence_without_spaces() -> None:
    corpus = [Passage("1", "维也纳", "维也纳是奥地利的首都。"), Passage("2", "东京", "东京位于日本。")]
    hits = await BM25Retriever(corpus).search("奥地利的首都是哪里？", 1)
    assert [hit.passage.id for hit in hits] == ["1"]


def test_an_index_of_before_is_searched_with_the_words_that_it_holds(tmp_path) -> None:  # type: ignore[no-untyped-def]
    corpus = [Passage("1", "", "भाषा"), Passage("2", "", "भ")]
    made = BM25Part.build(tmp_path, corpus)
    assert made["rules"] == "uax29"
    before = BM25Part(tmp_path, {key: value for key, value in made.items() if key != "rules"}, corpus)
    assert [numbers.tolist() for numbers, _ in before.rank(["भाषा"], 2)] == [[1]]
    assert [numbers.tolist() for numbers, _ in BM25Part(tmp_path, made, corpus).rank(["भाषा"], 2)] == [[0]]


@given(st.text(st.characters(max_codepoint=0x24F)))
def test_latin_text_has_the_words_that_it_had_before(text: str) -> None:
    plain = text.replace("\u00ad", " ")
    assert words(plain) == asked_words(plain) == words_before(plain)


@given(st.text())
def test_a_query_has_words_where_a_passage_has(text: str) -> None:
    assert bool(words(text)) == bool(asked_words(text))
    assert set(asked_words(text)) <= set(words(text))


@pytest.mark.parametrize("text", ["ा", "्", "भ", "東", "א", "ก", "é", "a", "9", "🗼"])
def test_a_part_of_a_word_counts_as_a_word(text: str) -> None:
    assert is_word(tokens(text)[0])
    assert is_content(text) == (text != "a")


@pytest.mark.parametrize("text", [" ", "", ".", "。", "।", "، ", "\u200b", "—", "\n"])
def test_marks_and_space_are_no_words(text: str) -> None:
    assert not is_word(tokens(text)[0])
    assert not is_content(text)


def test_words_are_split_by_unicodes_rules() -> None:
    assert split_words("Can't 3.5 भाषा, קו! 東京は") == ["Can't", "3.5", "भाषा", "קו", "東", "京", "は"]


def draft(*said: str | tuple[str, float], question: str = "?") -> QueryContext:
    return QueryContext(question, "", tokens(*said), "So the answer is")


def test_a_doubtful_token_masks_its_own_characters_where_no_spaces_are() -> None:
    query = masked_draft_query(0.4)(draft("维也纳", "是", ("奥地利", 0.3), "的", "首都", "。"))
    assert query == "维也纳是的首都。"
    assert masked_draft_query(0.4)(draft("กรุงเทพ", "เป็น", ("เมือง", 0.3), "หลวง")) == "กรุงเทพเป็นหลวง"


def test_a_doubtful_part_masks_the_whole_word_with_its_marks() -> None:
    assert masked_draft_query(0.4)(draft("यह", " भ", ("ाषा", 0.3), " है", "।")) == "यह है।"
    assert masked_draft_query(0.4)(draft("It", " can", ("'t", 0.3), " be")) == "It be"


def test_the_uncertain_words_of_a_question_without_spaces_are_capped_and_joined() -> None:
    query = uncertain_words_query(4)(draft(question="奥地利的首都是哪里"))
    assert query == "奥地利的"


@pytest.mark.parametrize(
    "text", ["东" * 13_000, "ก" * 13_000, "x" * 13_000, "." * 13_000, "か、" * 6_000, "🗼" * 13_000]
)
def test_caps_on_words_hold_for_text_without_spaces(text: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    rendered = Prompt(max_passage_words=100).render("?", [Passage("1", "T", text)])
    assert len(rendered) < len(Prompt().render("?")) + 100 * 66
    assert len(Continuation(text=text).question) <= QUESTION_WORDS * 33
    path = tmp_path / "one.txt"
    path.write_text(text)
    chunks = list(iter_corpus(path))
    assert max(len(one.text) for one in chunks) <= 100 * 33
    assert "".join(one.text for one in chunks).replace(" ", "") == text


@given(st.lists(st.text("abcdefgh'-.", min_size=1, max_size=30), max_size=30))
def test_what_spaces_separate_counts_as_one_word(parts: list[str]) -> None:
    assert [piece.strip() for piece in pieces(" ".join(parts))] == parts


def test_answers_and_questions_that_differ_in_a_vowel_sign_are_different() -> None:
    assert same_words(["भाषा", "भूषा", "भाषा।"]) == [0, 1, 0]
    assert normalize_question("भाषा?") != normalize_question("भूषा?")

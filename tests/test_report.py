"""The report: what is in the file, and how it behaves in a real browser, on hand-written traces."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from run_directories import retrieved, segment, trace, write_run

from flarekit.errors import RunError
from flarekit.eval.charts import LOOKS
from flarekit.eval.compare import load_runs
from flarekit.eval.dataset import Question
from flarekit.eval.report import embedded_json, write_report
from flarekit.policies import POLICIES
from flarekit.tokens import Token
from flarekit.trace import Fired, HandedOver, Probe, Segment, Trace

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
WORDS = ("Lima", "Quito", "Bogotá", "Caracas", "La Paz", "Asunción")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def questions(n: int) -> list[Question]:
    return [
        Question(f"q{place}", f"Which city is number {place}?", (WORDS[place % 6],), (f"p{place}", "p0"), "bridge")
        for place in range(n)
    ]


def traces(question: Question) -> Iterator[Trace]:
    """Closed-book is right on every third question, the other arms on every second or on all."""
    place, answer = int(question.id[1:]), question.answers[0]
    text = f"The city that was asked for is {answer}, as the passages say. So the answer is {answer}."
    plain = segment(text, prompt=300)
    look_up = retrieved(question.text, question.supporting[0], "elsewhere")
    probe = Probe("first-token-entropy", place % 7 / 2, "weak", 20, 0, 1)
    doubt = Fired("min-prob", "mid", 0.8, 0.2, "retrieve", 0, 2)
    some = answer if place % 3 == 0 else "elsewhere"
    most = answer if place % 2 == 0 else "elsewhere"
    yield trace(question.id, "closed-book", some, plain)
    yield trace(question.id, "rag", most, look_up, segment(text, prompt=500))
    yield trace(question.id, "pre-retrieve", most, probe, look_up, plain)
    for theta in ("", ":theta=0.6"):
        events = [segment("It might be", kept=0), doubt, retrieved("city", "p0"), segment(text, prompt=600)]
        yield trace(question.id, f"flare{theta}", answer, *events)
    handed = HandedOver("weak", "strong", "The city")
    yield trace(question.id, "escalate", most, segment("The city"), handed, segment(text, role="strong"))


def make_report(folder: Path, n: int) -> Path:
    asked = questions(n)
    run = write_run(folder / "run", asked, [made for question in asked for made in traces(question)], strong="big")
    return write_report(load_runs([run]), folder / "report", command="flarekit compare run")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_report(tmp_path_factory.mktemp("report"), 12)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.goto(report.as_uri())
    opened.wait_for_selector(".plot svg")
    yield opened
    opened.close()


def column(page: Page, number: int) -> list[str]:
    cells = page.locator(f"table.sortable tbody tr > :nth-child({number})").all()
    return [cell.get_attribute("data-value") or "" for cell in cells]


def test_json_in_the_page_cannot_end_its_element() -> None:
    text = embedded_json({"text": "</script><!-- \u2028"})
    assert "<" not in text
    assert json.loads(text) == {"text": "</script><!-- \u2028"}


def test_the_page_names_no_address_to_load_from(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=[\"']?http", text)


def test_the_figures_for_papers_are_beside_the_page(report: Path) -> None:
    assert (report.parent / "accuracy-cost.svg").read_text().startswith("<svg")
    assert (report.parent / "accuracy-cost.png").read_bytes().startswith(b"\x89PNG")
    assert (report.parent / "table.csv").read_text().count("\n") == 7


def test_a_folder_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path, report: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    groups = load_runs([report.parents[1] / "run"])
    with pytest.raises(RunError, match="the report cannot be written"):
        write_report(groups, tmp_path / "file" / "report")


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_without_network_errors_or_sideways_scrolling(
    browser: Browser, report: Path, width: int, scheme: str
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    opened = context.new_page()
    requests, problems = [], []
    opened.on("request", lambda request: requests.append(request.url))
    opened.on("console", lambda message: problems.append(message.text))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.goto(report.as_uri())
    opened.wait_for_selector(".plot svg")
    assert requests == [report.as_uri()]
    assert problems == []
    assert opened.evaluate("document.documentElement.scrollWidth") == width
    assert opened.locator(".plot svg").bounding_box()["width"] <= width  # type: ignore[index]
    context.close()


@pytest.mark.browser
def test_the_verdict_and_the_curves_are_on_the_page(page: Page) -> None:
    assert "On hotpotqa (n = 12, tiny + big) flare answers with F1 1.00" in page.locator(".verdict").inner_text()
    legend = page.locator(".plot svg .role-legend-label text").all_text_contents()
    assert legend == ["closed-book", "rag", "pre-retrieve", "flare", "escalate", "oracle"]


@pytest.mark.browser
def test_another_cost_can_be_put_on_the_axis(page: Page) -> None:
    page.select_option("[data-part=cost]", "retrievals")
    page.wait_for_function("document.querySelector('.plot').textContent.includes('Retrievals per question')")
    page.select_option("[data-part=score]", "exact_match")
    page.wait_for_function("document.querySelector('.plot').textContent.includes('Exact match, mean')")


@pytest.mark.browser
def test_a_heading_sorts_by_mouse_and_by_keyboard(page: Page) -> None:
    f1 = page.get_by_role("button", name="F1 0–1", exact=True)
    f1.click()
    assert column(page, 3) == sorted(column(page, 3), key=float, reverse=True)
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("F1")
    f1.press("Enter")
    assert column(page, 3) == sorted(column(page, 3), key=float)
    page.get_by_role("button", name="Policy").press("Space")
    assert column(page, 1) == sorted(column(page, 1))


@pytest.mark.browser
def test_arrow_keys_and_buttons_go_from_question_to_question(page: Page) -> None:
    title, count = page.locator("#question > h3"), page.locator("#count")
    assert (title.inner_text(), count.inner_text()) == ("Which city is number 0?", "1 of 12")
    assert page.locator("#previous").is_disabled()
    page.keyboard.press("ArrowRight")
    page.locator("#next").press("Enter")
    assert (title.inner_text(), count.inner_text()) == ("Which city is number 2?", "3 of 12")
    page.keyboard.press("ArrowLeft")
    assert title.inner_text() == "Which city is number 1?"
    page.select_option("#pick", label="12. Which city is number 11?")
    assert count.inner_text() == "12 of 12"
    assert page.locator("#next").is_disabled()


@pytest.mark.browser
def test_questions_are_found_by_text_and_by_what_changed(page: Page) -> None:
    page.select_option("#from", "closed-book")
    page.select_option("#to", "rag")
    page.select_option("#change", "gained")  # right on even places, wrong where 3 does not divide them
    assert page.locator("#count").inner_text() == "1 of 4"
    offered = page.locator("#pick option").all_inner_texts()
    assert [int(re.findall(r"\d+", text)[-1]) for text in offered] == [2, 4, 8, 10]
    page.fill("#search", "number 8")
    assert page.locator("#question > h3").inner_text() == "Which city is number 8?"
    page.fill("#search", "nothing of the kind")
    assert page.locator("#count").inner_text() == "no question fits"


@pytest.mark.browser
def test_an_answer_shows_its_drafts_its_look_ups_and_its_hand_overs(page: Page) -> None:
    arms = {arm.locator("h4").evaluate("node => node.firstChild.data"): arm for arm in page.locator(".arm").all()}
    flare, escalate = arms["flare"], arms["escalate"]
    assert flare.locator("del").inner_text().replace("▲", "") == "It might be"
    assert flare.locator("del .fired").get_attribute("title") == "min-prob 0.8 ≥ 0.2: retrieve"
    assert "✓ right · F1 1.00" in flare.locator("h4").inner_text()
    look_up = flare.locator("details")
    assert look_up.locator("summary").inner_text() == "Retrieved 1 passage, 1 of 2 supporting: city"
    look_up.locator("summary").press("Enter")
    assert look_up.locator(".passage.supports").inner_text().startswith("Title p0 · supporting")
    assert "Handed over from the weak to the strong model, which goes on from here" in escalate.inner_text()
    assert escalate.locator(".role").all_inner_texts() == ["weak", "strong"]


@pytest.mark.browser
def test_a_token_tells_its_probability_by_mouse_and_by_keyboard(page: Page) -> None:
    stream, tip = page.locator(".stream").first, page.locator("#tip")
    stream.locator(".t").nth(1).hover()
    assert tip.inner_text().startswith('" city" p = 90%')
    assert re.search(r'" other"\s+10%', tip.inner_text())
    stream.locator(".t").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert tip.inner_text().startswith('" that"')
    assert page.locator("#count").inner_text() == "1 of 12"  # the arrows went from token to token
    page.keyboard.press("Escape")
    assert tip.is_hidden()


@pytest.mark.browser
def test_what_models_and_data_wrote_is_text_and_never_markup(browser: Browser, tmp_path: Path) -> None:
    token = Token(HOSTILE, 1, math.log(0.3), {HOSTILE: math.log(0.3), "<b>": math.log(0.6)})
    hostile = Segment("weak", [token, token], 1, "stop", 10)
    asked = [Question("q", HOSTILE, (HOSTILE,), ("p",))]
    made = [trace("q", "rag", HOSTILE, retrieved(HOSTILE, HOSTILE), hostile)]
    run = write_run(tmp_path / "run", asked, made, dataset=HOSTILE, weak=HOSTILE)
    opened = browser.new_page()
    opened.goto(write_report(load_runs([run]), tmp_path / "out", command=HOSTILE).as_uri())
    opened.wait_for_selector(".plot svg")
    opened.locator(".stream .t").first.hover()
    assert HOSTILE in opened.locator("#question").inner_text()
    assert opened.locator("img").count() == 0
    assert opened.title() == f"flarekit: {HOSTILE}"
    opened.close()


@pytest.mark.browser
def test_it_opens_quickly_with_five_hundred_questions_and_six_arms(browser: Browser, tmp_path: Path) -> None:
    page_of_500 = make_report(tmp_path, 500)
    opened = browser.new_page()
    started = time.perf_counter()
    opened.goto(page_of_500.as_uri())
    opened.wait_for_selector(".plot svg")
    assert opened.locator("#count").inner_text() == "1 of 500"
    assert time.perf_counter() - started < 6  # about 1 second on an idle machine; tests share theirs with a server
    opened.close()


def test_every_policy_can_be_told_from_every_other_on_the_plot() -> None:
    assert set(POLICIES) <= set(LOOKS)
    assert len(set(LOOKS.values())) == len(LOOKS)

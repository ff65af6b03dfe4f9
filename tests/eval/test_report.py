"""The report: what is in the file, and how it behaves in a real browser, on hand-written traces."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from scipy.stats import binomtest

from fakes.run_directories import retrieved, segment, trace, write_run
from flarekit.costs import Prices
from flarekit.errors import RunError
from flarekit.eval.analysis.analyze import Analysis, analyze, summarize
from flarekit.eval.analysis.table import table
from flarekit.eval.data.dataset import Question
from flarekit.eval.replay.fire_points import COLUMNS, SCALE, WATCHES, counted_as, own_threshold, peaks, walk
from flarekit.eval.report.charts.cost_plot import LOOKS
from flarekit.eval.report.findings import Findings
from flarekit.eval.report.page import embedded_json, write_report
from flarekit.eval.report.parts import NOTHING, Cell, Column, Figure, Table
from flarekit.eval.report.policies import policy_points
from flarekit.eval.report.prices import PARTS, parameters_of
from flarekit.eval.results.groups import load_runs
from flarekit.policies import POLICIES
from flarekit.policies.triggers import Trigger
from flarekit.session.monitor import Monitor
from flarekit.signals.token import find_signal
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


def analysed(runs: Sequence[Path]) -> list[Analysis]:
    return [analyze(summarize(group)) for group in load_runs(runs)]


def make_report(folder: Path, n: int) -> Path:
    asked = questions(n)
    run = write_run(folder / "run", asked, [made for question in asked for made in traces(question)], strong="big")
    return write_report(analysed([run]), folder / "report", command="flarekit compare run")


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
    yield open_report(opened, report)
    opened.close()


def open_report(page: Page, report: Path) -> Page:
    page.goto(report.as_uri())
    page.wait_for_selector(".plot svg")
    page.wait_for_selector("#question .stream")
    return page


def compare(page: Page, before: str, after: str) -> None:
    page.select_option("#from", before)
    page.select_option("#to", after)


def column(page: Page, number: int) -> list[str]:
    cells = page.locator(f"[data-table=policies] tbody tr > :nth-child({number})").all()
    return [cell.get_attribute("data-value") or "" for cell in cells]


def test_json_in_the_page_cannot_end_its_element() -> None:
    text = embedded_json({"text": "</script><!-- \u2028"})
    assert "<" not in text
    assert json.loads(text) == {"text": "</script><!-- \u2028"}


def test_one_dataset_over_several_indexes_is_named_once_and_its_sections_by_what_was_searched(tmp_path: Path) -> None:
    asked = questions(2)
    answered = [made for question in asked for made in traces(question)]
    runs = [write_run(tmp_path / one, asked, answered, settings={"corpus": one}) for one in ("words", "meaning")]
    text = write_report(analysed(runs), tmp_path / "report").read_text(encoding="utf-8")
    assert re.findall("<h1>(.*)</h1>", text) == ["hotpotqa"]
    assert re.findall('<a href="#group-[01]">(.*)</a>', text) == [
        "hotpotqa · tiny over words",
        "hotpotqa · tiny over meaning",
    ]


def test_the_page_names_no_address_to_load_from(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=[\"']?http", text)


def test_the_figures_for_papers_are_beside_the_page(report: Path) -> None:
    assert (report.parent / "accuracy-cost.svg").read_text().startswith("<svg")
    assert (report.parent / "accuracy-cost.png").read_bytes().startswith(b"\x89PNG")
    assert (report.parent / "table.csv").read_text().count("\n") == 7
    points = (report.parent / "accuracy-cost.csv").read_text().splitlines()
    assert points[0].startswith("kind,family,line,policy,threshold,n,")
    assert len(points) == 16  # eight derived, six arms, and the oracle


def test_a_folder_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path, report: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    analyses = analysed([report.parents[1] / "run"])
    with pytest.raises(RunError, match="the report cannot be written"):
        write_report(analyses, tmp_path / "file" / "report")


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
    assert opened.locator(".plot svg").first.bounding_box()["width"] <= width  # type: ignore[index]
    context.close()


@pytest.mark.browser
def test_the_verdict_and_the_curves_are_on_the_page(page: Page) -> None:
    said = page.locator(".verdict").inner_text()
    assert said.startswith("On hotpotqa (n = 12, tiny + big), with ")
    assert "retrieving during generation answers with F1 " in said
    legend = page.locator(".plot").first.locator("svg .role-legend-label text").all_text_contents()
    assert legend == ["closed-book", "rag", "pre-retrieve", "flare", "escalate", "oracle"]


@pytest.mark.browser
def test_another_cost_can_be_put_on_the_axis(page: Page) -> None:
    page.select_option("[data-menu=cost]", "retrievals")
    page.wait_for_function("document.querySelector('.plot').textContent.includes('Retrievals per question')")
    page.select_option("[data-menu=score]", "exact_match")
    page.wait_for_function("document.querySelector('.plot').textContent.includes('Exact match, mean')")


@pytest.mark.browser
def test_a_heading_sorts_by_mouse_and_by_keyboard(page: Page) -> None:
    f1 = page.get_by_role("button", name="F1 0–1", exact=True)
    f1.click()
    assert column(page, 3) == sorted(column(page, 3), key=float, reverse=True)
    assert page.locator("[data-table=policies] th[aria-sort=descending]").inner_text().startswith("F1")
    f1.press("Enter")
    assert column(page, 3) == sorted(column(page, 3), key=float)
    page.get_by_role("button", name="Policy", exact=True).press("Space")
    assert column(page, 1) == sorted(column(page, 1))


@pytest.mark.browser
def test_arrow_keys_and_buttons_go_from_question_to_question(page: Page) -> None:
    title, count = page.locator("#question > h3"), page.locator("#count")
    expect(title).to_have_text("Which city is number 0?")
    expect(count).to_have_text("1 of 12")
    assert page.locator("#previous").is_disabled()
    page.keyboard.press("ArrowRight")
    page.locator("#next").press("Enter")
    expect(title).to_have_text("Which city is number 2?")
    expect(count).to_have_text("3 of 12")
    page.keyboard.press("ArrowLeft")
    expect(title).to_have_text("Which city is number 1?")
    page.select_option("#pick", label="12. Which city is number 11?")
    assert count.inner_text() == "12 of 12"
    assert page.locator("#next").is_disabled()


@pytest.mark.browser
def test_questions_are_found_by_text_and_by_what_changed(page: Page) -> None:
    compare(page, "closed-book", "rag")
    page.select_option("#change", "gained")  # right on even places, wrong where 3 does not divide them
    assert page.locator("#count").inner_text() == "1 of 4"
    offered = page.locator("#pick option").all_inner_texts()
    assert [int(re.findall(r"\d+", text)[-1]) for text in offered] == [2, 4, 8, 10]
    page.fill("#search", "number 8")
    expect(page.locator("#question > h3")).to_have_text("Which city is number 8?")
    page.fill("#search", "nothing of the kind")
    assert page.locator("#count").inner_text() == "no question fits"


@pytest.mark.browser
def test_an_answer_shows_its_drafts_its_look_ups_and_its_hand_overs(page: Page) -> None:
    compare(page, "flare", "escalate")
    expect(page.locator(".arms .arm h4").last).to_contain_text("escalate")
    flare, escalate = page.locator(".arms .arm").all()
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
def test_arms_that_are_not_compared_are_folded_to_a_line(page: Page) -> None:
    compare(page, "closed-book", "rag")
    expect(page.locator(".arms .arm")).to_have_count(2)
    page.locator(".others > summary").press("Enter")
    lines = page.locator(".other > summary")
    assert [line.locator("b").inner_text() for line in lines.all()] == [
        "pre-retrieve",
        "flare",
        "flare:theta=0.6",
        "escalate",
    ]
    assert page.locator(".other .arm").count() == 0
    lines.nth(1).press("Enter")
    expect(page.locator(".other .arm del")).to_be_visible()
    expect(page.locator("#fires p")).to_have_count(3)
    page.keyboard.press("ArrowRight")
    expect(page.locator("#question > h3")).to_have_text("Which city is number 1?")
    assert page.locator(".others").get_attribute("open") is not None  # stays as it was left


# --- the slider -----------------------------------------------------------------------------------------------------

SPOKEN = (("One", 0.9), (" two", 0.3), (" three", 0.6), (".", 0.2), (" Four", 0.95), (" five", 0.1), (".", 0.99))


def spoken(pairs: Sequence[tuple[str, float]]) -> Segment:
    made = [
        Token(text, place, math.log(p), {text: math.log(p), "~": math.log(1 - p)})
        for place, (text, p) in enumerate(pairs)
    ]
    return Segment("weak", made, len(made), "stop", 10)


@pytest.fixture
def slider(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """Two questions; the doubt of the second's answer is never above .5."""
    asked = [Question("q0", "First?", ("five",)), Question("q1", "Second?", ("five",))]
    calm = [(text, max(p, 0.5)) for text, p in SPOKEN]
    made = [
        trace(key, policy, "five", spoken(said))
        for policy in ("closed-book", "mid-retrieve:threshold=0.65")
        for key, said in (("q0", SPOKEN), ("q1", calm))
    ]
    run = write_run(tmp_path / "run", asked, made)
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    yield open_report(opened, write_report(analysed([run]), tmp_path / "out"))
    opened.close()


def marked(page: Page, kind: str) -> list[str]:
    return page.locator(".stream").first.locator(f".{kind}").all_inner_texts()


@pytest.mark.browser
def test_the_slider_starts_at_the_arms_own_threshold_and_marks_where_it_would_have_fired(slider: Page) -> None:
    assert slider.locator("#signal option:checked").inner_text() == "min-prob, words only"
    assert slider.input_value("#threshold") == slider.input_value("#exact") == "0.65"
    assert (marked(slider, "fires"), marked(slider, "over")) == (["two", "five"], [])
    told = slider.locator("#fires p").first.inner_text()
    assert told.startswith("closed-book would fire in 2 of 2 sentences, at 2 of 7 tokens of this answer")
    assert told.endswith("on 50% of the 2 questions on offer")


@pytest.mark.browser
def test_the_slider_is_moved_by_keyboard_and_by_mouse(slider: Page) -> None:
    bar = slider.locator("#threshold")
    bar.focus()
    for _ in range(10):
        slider.keyboard.press("ArrowRight")
    assert slider.input_value("#exact") == "0.75"
    assert bar.get_attribute("aria-valuetext") == "min-prob, words only 0.75"
    assert marked(slider, "fires") == ["five"]
    assert slider.locator("#count").inner_text() == "1 of 2"  # the arrows moved the slider only
    bar.scroll_into_view_if_needed()
    box = bar.bounding_box()
    assert box
    slider.mouse.click(box["x"] + 0.35 * box["width"], box["y"] + box["height"] / 2)
    threshold = float(slider.input_value("#exact"))
    assert 0.3 < threshold < 0.4
    assert (marked(slider, "fires"), marked(slider, "over")) == (["two", "five"], ["three"])
    assert "on 100% of the 2 questions" in slider.locator("#fires").inner_text()


@pytest.mark.browser
def test_the_slider_watches_other_signals_and_exact_thresholds(slider: Page) -> None:
    slider.select_option("#signal", label="min-prob")
    slider.fill("#exact", "0.7")
    assert (marked(slider, "fires"), marked(slider, "over")) == (["two", "five"], ["."])
    slider.select_option("#signal", label="mean-logprob, at a sentence's end")
    means = [-sum(math.log(p) for _, p in part) / len(part) for part in (SPOKEN[:4], SPOKEN[4:])]
    slider.fill("#exact", f"{min(means) + 0.01:.2f}")  # of the two sentences one is above
    assert marked(slider, "fires") == ["."]
    assert "in 1 of 2 sentences, at 1 of 7 tokens" in slider.locator("#fires").inner_text()
    slider.locator(".stream .t").nth(1).hover()
    assert re.search(r"mean-logprob, at a sentence's end: 0\.\d+", slider.locator("#tip").inner_text())


SIGNAL_TRIGGERS = [
    ("min-prob", None, False, "min-prob"),
    ("min-prob", None, True, "min-prob, words only"),
    ("entropy", None, True, "entropy, words only"),
    ("content-entropy", None, False, "content-entropy"),
    ("margin", None, False, "margin"),
    ("mean-entropy", None, False, "mean-entropy, at every token"),
    ("rolling-entropy", None, False, "rolling-entropy, 5 tokens"),
    ("entropy-trend", None, False, "entropy-trend"),
]


@pytest.mark.parametrize(("name", "over", "words_only", "label"), SIGNAL_TRIGGERS)
@pytest.mark.parametrize("threshold", [0.15, 0.3, 0.55, 0.8])
def test_a_watch_first_reaches_a_threshold_where_the_sessions_monitor_fires(
    name: str, over: str | None, words_only: bool, label: str, threshold: float
) -> None:
    said = spoken(SPOKEN + SPOKEN[::-1])
    trigger = Trigger(find_signal(name, over, words_only), threshold, "mid", "token")
    [seen] = walk(trace("q", "p", "", said))
    monitor, fired = Monitor([trigger]), []
    for place, token in enumerate(said.tokens):
        if place and place in seen.starts:
            monitor.end_sentence()
        monitor.update(token)
        fired += [place] * any(monitor.fired("token"))
    watch = next(watch for watch in WATCHES if watch.label == label)
    column = list(COLUMNS).index(watch.column)
    least = ("all", "words", "content").index(watch.counts)
    counted = [place for place, token in enumerate(said.tokens) if counted_as(token) >= least]
    reached = [place for place in counted if seen.values[place][column] >= threshold * SCALE]
    assert reached[:1] == fired[:1]
    assert (peaks([seen])[WATCHES.index(watch)] >= threshold * SCALE) == bool(fired)


def test_a_discarded_draft_is_forgotten_before_the_next_segment() -> None:
    draft = Segment("weak", spoken(SPOKEN).tokens, 4, "closed", 10)
    first, second = walk(trace("q", "p", "", draft, retrieved("x", "p0"), spoken(SPOKEN[4:])))
    assert (first.starts, second.starts) == ([0, 4], [0])
    assert second.values == first.values[4:]


def test_a_policys_own_threshold_is_found_among_the_watches() -> None:
    found = {policy: own_threshold(policy) for policy in POLICIES_WATCHED}
    named = {policy: own and (WATCHES[own[0]].label, round(own[1], 3)) for policy, own in found.items()}
    assert named == POLICIES_WATCHED


POLICIES_WATCHED = {
    "flare:theta=0.6": ("min-prob", 0.4),
    "mid-retrieve": ("min-prob, words only", 0.7),
    "dragin-lite": ("content-entropy", 1.2),
    "rolling-retrieve": ("rolling-entropy, 5 tokens", 1.0),
    "rolling-retrieve:window=9": None,
    "mid-retrieve:signal=mean-entropy,words_only=false": ("mean-entropy, at a sentence's end", 0.7),
    "mid-retrieve:router=gone": None,
    "closed-book": None,
    "no-such-policy": None,
}


# --- which answers change -------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_the_four_outcomes_are_counted_and_filter_the_questions(page: Page) -> None:
    compare(page, "closed-book", "rag")  # right where 3 divides the number, and where 2 does
    counts = {
        button.get_attribute("data-rule"): int(button.inner_text()) for button in page.locator("[data-rule]").all()
    }
    assert counts == {"kept": 2, "lost": 2, "gained": 4, "still": 4}
    assert f"p\xa0=\xa0{binomtest(2, 6).pvalue:.3f}".replace("0.", ".") in page.locator("#tested").inner_text()
    page.locator("[data-rule=lost]").press("Enter")
    expect(page.locator("#count")).to_have_text("1 of 2")
    assert page.locator("[data-rule=lost]").get_attribute("aria-pressed") == "true"
    expect(page.locator("#question > h3")).to_have_text("Which city is number 3?")
    page.locator("[data-rule=lost]").click()
    expect(page.locator("#count")).to_have_text("4 of 12")


@pytest.mark.browser
def test_the_strip_is_clicked_and_walked_by_keyboard(page: Page) -> None:
    compare(page, "closed-book", "rag")
    cells = page.locator("#strip .cell")
    assert cells.count() == 12
    cells.nth(4).click()
    expect(page.locator("#question > h3")).to_have_text("Which city is number 4?")
    assert cells.nth(4).get_attribute("aria-label") == "5. Which city is number 4?: wrong → right"
    page.keyboard.press("ArrowRight")
    expect(page.locator("#question > h3")).to_have_text("Which city is number 5?")
    assert page.evaluate("document.activeElement.dataset.place") == "5"
    page.locator("[data-rule=lost]").click()
    cells.nth(1).click()  # one that the filter hides takes the filter away
    expect(page.locator("#count")).to_have_text("2 of 12")


# --- prices ---------------------------------------------------------------------------------------------------------

OTHER = Prices(
    generated=2, prompt=0.5, cached=0.1, strong_generated=9, strong_prompt=4, strong_cached=1, retrieval=40, second=5
)


def areas(rows: Sequence[dict[str, Any]], score: str) -> dict[str, float]:
    """By its definition: at every cost the best mixture of two points that costs no more, averaged over the costs."""
    start = [row for row in rows if row["policy"] == "closed-book"]
    names = {row["family"] for row in rows if row["kind"] != "oracle"}
    families = {
        name: [(row["price"], row[score]) for row in rows if row["family"] == name or row in start] for name in names
    }
    low = max(min(cost for cost, _ in points) for points in families.values())
    high = max(cost for points in families.values() for cost, _ in points)

    def best(points: list[tuple[float, float]], budget: float) -> float:
        found = [score for cost, score in points if cost <= budget + 1e-9]
        for (cheap, bad), (dear, good) in combinations(sorted(points), 2):
            if cheap <= budget < dear:
                found.append(bad + (good - bad) * (budget - cheap) / (dear - cheap))
        return max(found)

    means = {}
    for name, points in families.items():
        stops = sorted({low, high, *(cost for cost, _ in points if low < cost < high)})
        values = [best(points, stop) for stop in stops]
        pieces = zip(stops, stops[1:], values, values[1:], strict=False)
        means[name] = sum((b - a) * (x + y) / 2 for a, b, x, y in pieces) / (high - low)
    return means


def shown(page: Page, name: str, number: int) -> dict[str, float]:
    rows = page.locator(f"[data-table={name}] tbody tr").all()
    return {
        str(row.locator("th").get_attribute("data-value")): float(
            row.locator(f":nth-child({number})").first.get_attribute("data-value") or "nan"
        )
        for row in rows
    }


def agrees_with_python(page: Page, report: Path, prices: Prices) -> None:
    [group] = load_runs([report.parents[1] / "run"])
    rows = table(group, prices=prices)
    assert shown(page, "policies", 8) == pytest.approx({row.policy: row.price.estimate for row in rows}, rel=1e-6)
    more = {row.policy: row.versus.price.estimate if row.versus else math.nan for row in rows}
    assert shown(page, "policies", 9) == pytest.approx(more, rel=1e-6, nan_ok=True)
    points = policy_points(analyze(summarize(group, prices)))
    plotted = page.evaluate("plots.get('chart-0').rows.map(({ place, policy, price }) => [place, policy, price])")
    assert [place for place, _, _ in plotted] == [point["place"] for point in points]
    assert [price for _, _, price in plotted] == pytest.approx([point["price"] for point in points], rel=1e-5)
    for number, score in ((3, "f1"), (4, "exact_match")):
        assert shown(page, "areas", number) == pytest.approx(areas(points, score), rel=1e-4)


@pytest.mark.browser
def test_costs_and_hulls_of_the_page_are_those_of_python_for_any_prices(page: Page, report: Path) -> None:
    agrees_with_python(page, report, Prices())
    page.locator("details.prices > summary").press("Enter")
    for place, name in enumerate(PARTS):
        page.fill(f"[data-price='{place}']", str(getattr(OTHER, name)))
    expect(page.locator("[data-part=said]")).to_contain_text("Reckoned anew")
    page.wait_for_timeout(300)  # the last field's value is waited for a little
    assert page.input_value("[data-do=preset]") == "own"
    agrees_with_python(page, report, OTHER)
    page.select_option("[data-do=preset]", "relative")
    agrees_with_python(page, report, Prices())


@pytest.mark.browser
def test_intervals_by_other_prices_are_close_to_pythons(page: Page, report: Path) -> None:
    page.locator("details.prices > summary").click()
    page.fill("[data-price='2']", "1.0001")
    page.wait_for_timeout(300)
    [group] = load_runs([report.parents[1] / "run"])
    for row in table(group, prices=Prices(generated=1.0001)):
        cell = page.locator("[data-table=policies] tbody tr", has=page.locator(f"th[data-value='{row.policy}']"))
        low, high = map(float, cell.locator(":nth-child(8) small").first.inner_text().split(" to "))
        width = row.price.high - row.price.low
        assert low == pytest.approx(row.price.low, abs=1 + width / 8)
        assert high == pytest.approx(row.price.high, abs=1 + width / 8)


@pytest.mark.browser
def test_presets_name_their_unit_and_the_reports_prices_come_back(page: Page) -> None:
    before = page.locator("[data-table=policies]").inner_html()
    page.locator("details.prices > summary").click()
    page.select_option("[data-do=preset]", "seconds")
    page.wait_for_function("document.querySelector('.plot').textContent.includes('Cost per question (seconds)')")
    assert set(shown(page, "policies", 8).values()) == {1.0}
    expect(page.locator(".repriced")).to_be_visible()
    page.select_option("[data-do=preset]", "flops")
    page.fill("[data-size='0']", "0.5")
    page.wait_for_timeout(300)
    assert page.input_value("[data-price='2']") == "1"  # GFLOP a token
    assert page.input_value("[data-price='1']") == "0"
    page.select_option("[data-do=preset]", "dollars")
    assert "example values" in page.locator("[data-do=preset] option:checked").inner_text()
    expect(page.locator("details.prices > summary")).to_contain_text("US$")
    page.locator(".repriced button").press("Enter")
    expect(page.locator(".repriced")).to_be_hidden()
    assert page.locator("[data-table=policies]").inner_html() == before


@pytest.mark.parametrize(
    ("model", "billions"),
    [
        ("qwen2.5-coder-0.5b", 0.5),
        ("smollm2-135m", 0.135),
        ("Llama-3-8B-Instruct", 8),
        ("Qwen3-30B-A3B", 30),
        ("x", None),
    ],
)
def test_a_models_name_may_say_its_size(model: str, billions: float | None) -> None:
    assert parameters_of(model) == billions


# --- many arms, and the whole page ----------------------------------------------------------------------------------


@pytest.mark.browser
def test_a_table_of_many_arms_is_filtered_by_words_and_the_plot_with_it(browser: Browser, tmp_path: Path) -> None:
    asked = questions(3)
    sweep = [f"{family}={place / 20}" for family in ("flare:theta", "mid-retrieve:threshold") for place in range(20)]
    made = [
        trace(question.id, policy, question.answers[0], segment("The city", prompt=100 + place))
        for place, policy in enumerate(["closed-book", *sweep])
        for question in asked
    ]
    run = write_run(tmp_path / "run", asked, made)
    opened = browser.new_page()
    open_report(opened, write_report(analysed([run]), tmp_path / "out"))
    labels = opened.locator(".plot .mark-text.role-mark text").all_inner_texts()
    assert len(labels) < 10  # thinned: 40 thresholds would hide each other
    opened.fill("[data-do=filter]", "flare 0.1")
    assert opened.locator(".shown").inner_text() == "2 of 41 rows"  # .1 and .15
    assert opened.locator("[data-table=policies] tbody tr:visible").count() == 2
    opened.wait_for_function("document.querySelectorAll('.plot .mark-symbol.role-mark path').length === 2")
    opened.fill("[data-do=filter]", "")
    assert opened.locator("[data-table=policies] tbody tr:visible").count() == 41
    opened.close()


@pytest.mark.browser
def test_a_further_figure_and_table_need_no_markup(
    browser: Browser, report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = {"mark": "point", "encoding": {name: {"field": name, "type": "quantitative"} for name in "xy"}}
    specs = {name: {"data": {"name": "points"}, "width": "container", **mark} for name in ("a", "b")}
    menus = {"Axis": {"a": "first", "b": "second"}}
    figure = Figure("extra", "A further figure", "Its note.", "Points.", menus, [{"x": 1, "y": 2}], specs)
    cells = [[Cell("one", "one"), Cell("1", 1.0, "0 to 2")], [Cell("two", "two"), NOTHING]]
    extra = Table("A further table", "Its note.", [Column("Name"), Column("Value")], cells, key="more")
    monkeypatch.setattr(
        "flarekit.eval.report.page.draw_findings", lambda _: Findings(["It is so."], [figure, extra], ["Left out: x."])
    )
    opened = browser.new_page()
    open_report(opened, write_report(analysed([report.parents[1] / "run"]), tmp_path / "out"))
    opened.wait_for_selector("[data-name=extra] .plot svg")
    assert opened.locator(".verdict").inner_text() == "It is so."
    assert opened.get_by_text("Left out: x.").is_visible()
    opened.select_option("[data-menu=axis]", "b")
    opened.locator("[data-table=more] button").last.click()
    assert opened.locator("[data-table=more] tbody th").all_inner_texts() == ["one", "two"]
    assert (tmp_path / "out" / "extra.svg").read_text().startswith("<svg")
    assert (tmp_path / "out" / "extra.csv").read_text() == "x,y\n1,2\n"
    assert (tmp_path / "out" / "more.csv").read_text() == "Name,Value\none,1.0\ntwo,–\n"
    opened.close()


@pytest.mark.browser
def test_everything_is_reached_by_the_tab_key(page: Page) -> None:
    page.locator("details.prices > summary").press("Enter")
    page.locator(".others > summary").press("Enter")
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    wanted = "a[href], button, input, select, summary, [tabindex='0']"
    visible = (
        f"[...document.querySelectorAll(`{wanted}`)].filter(n => n.checkVisibility() && !n.disabled && n.tabIndex >= 0)"
    )
    page.evaluate(f"window.left = new Set({visible})")
    for _ in range(page.evaluate("left.size") + 5):
        page.keyboard.press("Tab")
        page.evaluate("left.delete(document.activeElement)")
    assert page.evaluate("[...left].map(node => node.outerHTML.slice(0, 120))") == []


@pytest.mark.browser
def test_every_field_has_a_label(page: Page) -> None:
    bare = "[...document.querySelectorAll('input, select')].filter(node => !node.labels.length).map(node => node.id)"
    assert page.evaluate(bare) == []


@pytest.mark.browser
def test_what_models_and_data_wrote_is_text_and_never_markup(browser: Browser, tmp_path: Path) -> None:
    token = Token(HOSTILE, 1, math.log(0.3), {HOSTILE: math.log(0.3), "<b>": math.log(0.6)})
    hostile = Segment("weak", [token, token], 1, "stop", 10)
    asked = [Question("q", HOSTILE, (HOSTILE,), ("p",))]
    made = [trace("q", "rag", HOSTILE, retrieved(HOSTILE, HOSTILE), hostile)]
    run = write_run(tmp_path / "run", asked, made, dataset=HOSTILE, weak=HOSTILE)
    opened = browser.new_page()
    open_report(opened, write_report(analysed([run]), tmp_path / "out", command=HOSTILE))
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
    opened.wait_for_selector("#question .stream")
    opened.wait_for_selector(".plot svg")
    assert opened.locator("#count").inner_text() == "1 of 500"
    assert time.perf_counter() - started < 6  # about 1 second on an idle machine; tests share theirs with a server
    opened.close()


def test_every_policy_can_be_told_from_every_other_on_the_plot() -> None:
    assert set(POLICIES) <= set(LOOKS)
    assert len(set(LOOKS.values())) == len(LOOKS)

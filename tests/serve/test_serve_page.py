"""The page at `/` in a real browser, against a server that sends what the protocol allows when it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from fakes.scripted_answers import (
    DROP,
    MODELS,
    PAUSE,
    ScriptedAnswers,
    drafted,
    finished,
    happened,
    model,
    said,
    tokens,
    usage,
)
from fakes.scripted_vllm import Refusal

pytestmark = pytest.mark.browser

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
QUESTION = "Which river flows through the capital of Peru?"
DOUBT = {"kind": "fired", "signal": "min-prob", "moment": "mid", "value": 0.8512, "threshold": 0.2}
LIMA = {"id": "p1", "title": "Lima", "text": "Lima is the capital of Peru.", "score": 7.12}
RIVER: dict[str, Any] = {"id": "p2", "title": "Rímac", "text": "The Rímac flows through Lima.", "score": 3.0}
HANDED = {"kind": "handed-over", "source": "weak", "target": "strong", "model": "big"}


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def server() -> Iterator[ScriptedAnswers]:
    with ScriptedAnswers() as started:
        yield started


@pytest.fixture
def problems() -> list[str]:
    """What the browser complains of in its console."""
    return []


@pytest.fixture
def page(browser: Browser, server: ScriptedAnswers, problems: list[str]) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield watched(context.new_page(), problems)
    context.close()


def watched(page: Page, problems: list[str]) -> Page:
    page.set_default_timeout(10_000)
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    return page


def visit(page: Page, server: ScriptedAnswers) -> Page:
    page.goto(server.url)
    expect(page.locator("#policy")).to_have_value("0")
    return page


def ask(page: Page, server: ScriptedAnswers, *play: Any, question: str = QUESTION) -> Locator:
    """Visit the page, ask, and be answered with the play; the answer."""
    server.plays["flare"] = play
    visit(page, server).fill("#question", question)
    page.keyboard.press("Enter")
    return page.locator(".arm")


def is_done(answer: Locator) -> None:
    expect(answer.locator(".state")).to_have_text("done")


# --- the stream -----------------------------------------------------------------------------------------------------


def test_text_appears_as_it_comes(page: Page, server: ScriptedAnswers) -> None:
    answer = ask(page, server, PAUSE, said("Lima is the capital."), PAUSE, said(" It lies on the Rímac."), PAUSE)
    expect(answer.locator(".state")).to_have_text("waiting …")
    expect(page.locator(".turn h2")).to_have_text(QUESTION)
    server.go_on()
    expect(answer.locator(".stream")).to_have_text("Lima is the capital.", use_inner_text=True)
    expect(answer.locator(".state")).to_have_text("answering …")
    server.go_on()
    expect(answer.locator(".stream")).to_have_text("Lima is the capital. It lies on the Rímac.", use_inner_text=True)
    server.go_on()
    is_done(answer)


def test_the_request_is_the_one_that_was_agreed(page: Page, server: ScriptedAnswers) -> None:
    is_done(ask(page, server, said("Lima.")))
    assert server.requests == [
        {
            "model": "flare",
            "messages": [{"role": "user", "content": QUESTION}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "logprobs": True,
            "flarekit": {"events": True},
        }
    ]


def test_tokens_are_tinted_by_their_probability(page: Page, server: ScriptedAnswers) -> None:
    answer = ask(
        page, server, said("sure likely maybe doubtful guessed", likely=0.9, maybe=0.6, doubtful=0.3, guessed=0.1)
    )
    is_done(answer)
    tints = [token.get_attribute("class") for token in answer.locator(".t").all()]
    assert tints == ["t p0", "t p1", "t p2", "t p3", "t p4"]
    grounds = {token.evaluate("node => getComputedStyle(node).backgroundColor") for token in answer.locator(".t").all()}
    assert len(grounds) == 5
    legend = page.locator(".key .t").all()
    assert [entry.get_attribute("class") for entry in legend] == tints


def test_a_token_tells_its_probability_by_mouse_and_by_keyboard(page: Page, server: ScriptedAnswers) -> None:
    answer, tip = ask(page, server, said("It is Lima.", Lima=0.625)), page.locator("#tip")
    is_done(answer)
    answer.get_by_text("Lima.", exact=True).hover()
    expect(tip).to_have_text('"Lima." p = 63%, weak model')
    answer.locator(".t").first.focus()
    page.keyboard.press("ArrowRight")
    expect(tip).to_have_text('"is" p = 99%, weak model')
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()


def test_an_answer_passed_through_comes_a_token_a_chunk_and_without_our_field(
    page: Page, server: ScriptedAnswers
) -> None:
    chunks = [said(token["token"], None, Lima=0.3) for token in tokens("It is Lima.")]
    answer = ask(page, server, *chunks, finished(), usage(40, 3))
    is_done(answer)
    assert answer.locator(".stream").inner_text() == "It is Lima."
    assert answer.locator(".p3").inner_text() == "Lima."
    assert costs(answer).items() >= {("Prompt tokens", "40"), ("Generated tokens", "3")}
    assert "Look-ups" not in costs(answer)


def test_a_text_that_its_tokens_do_not_spell_is_shown_as_it_is(page: Page, server: ScriptedAnswers) -> None:
    chunk = said("\ufffd \ufffd", None)
    chunk["choices"][0]["delta"]["content"] = "é"
    answer = ask(page, server, chunk)
    is_done(answer)
    assert answer.locator(".t").all_inner_texts() == ["é"]


def test_a_screen_reader_is_told_whole_sentences(page: Page, server: ScriptedAnswers) -> None:
    chunks = [said(token["token"], None) for token in tokens("It is Lima. On the Rímac")]
    is_done(ask(page, server, *chunks))
    assert page.locator("#live p").all_text_contents() == ["It is Lima.", "On the Rímac"]
    assert page.locator(".stream[aria-live], .stream [aria-live]").count() == 0


# --- what happens on the way ----------------------------------------------------------------------------------------


def test_a_trigger_that_fires_says_why_and_what_is_done(page: Page, server: ScriptedAnswers) -> None:
    answer = ask(page, server, happened(DOUBT | {"action": "retrieve"}))
    assert answer.locator(".event").inner_text() == "▲ min-prob 0.851 ≥ 0.2 during the answer → retrieve"


def test_what_a_policy_always_does_is_told_without_a_reason(page: Page, server: ScriptedAnswers) -> None:
    answer = ask(page, server, happened(DOUBT | {"signal": "always", "moment": "pre", "action": "retrieve"}))
    assert answer.locator(".event").inner_text() == "→ retrieve"


def test_probes_and_routers_are_told(page: Page, server: ScriptedAnswers) -> None:
    probe = {"kind": "probe", "signal": "p-ik", "value": 0.4}
    chosen = {"kind": "chosen", "router": "adaptive-rag", "policy": "rag"}
    answer = ask(page, server, happened(probe, chosen))
    is_done(answer)
    assert answer.locator(".event").all_inner_texts() == ["Asked the model: p-ik 0.4 (0.3 s)", "adaptive-rag chose rag"]


def test_passages_are_listed_by_title_and_unfold_to_their_text(page: Page, server: ScriptedAnswers) -> None:
    answer = ask(page, server, happened({"kind": "retrieved", "query": "river Lima", "sources": [LIMA, RIVER]}))
    is_done(answer)
    assert answer.locator(".event").inner_text().startswith("Found 2 passages in 0.25 s with river Lima")
    assert answer.locator("summary").all_inner_texts() == ["Lima score 7.12", "Rímac score 3"]
    expect(answer.get_by_text(RIVER["text"])).to_be_hidden()
    answer.locator("summary").last.press("Enter")
    expect(answer.get_by_text(RIVER["text"])).to_be_visible()


def test_a_look_up_with_the_question_does_not_repeat_it(page: Page, server: ScriptedAnswers) -> None:
    answer = ask(page, server, happened({"kind": "retrieved", "query": QUESTION, "sources": []}))
    assert answer.locator(".event").inner_text() == "Found nothing in 0.25 s with the question"


def test_a_hand_over_says_which_model_wrote_which_part(page: Page, server: ScriptedAnswers) -> None:
    answer = ask(page, server, said("It is Lima."), PAUSE, happened(HANDED), said(" It is on the Rímac.", "strong"))
    expect(answer.locator(".part")).to_have_count(1)
    assert answer.locator(".part").inner_text() == "It is Lima."  # one model: no need to name it
    server.go_on()
    is_done(answer)
    assert answer.locator(".event").inner_text() == "⇄ Handed over from the weak to the strong model, big"
    assert [part.inner_text() for part in answer.locator(".part").all()] == [
        "weakIt is Lima.",
        "strongIt is on the Rímac.",
    ]


def test_a_draft_is_struck_through_once_other_text_takes_its_place(page: Page, server: ScriptedAnswers) -> None:
    answer = ask(
        page,
        server,
        said("Lima is the capital."),
        happened(drafted(" It lies on the Chillón. So", Chillón=0.15), DOUBT | {"action": "retrieve"}),
        PAUSE,
        happened({"kind": "retrieved", "query": "It lies on the.", "sources": [RIVER]}),
        said(" It lies on the Rímac."),
    )
    draft = answer.locator(".draft")
    expect(draft).to_have_text(" It lies on the Chillón. So")
    assert draft.evaluate("node => node.tagName") == "SPAN"  # nobody knows yet what becomes of it
    assert draft.locator(".p4").inner_text() == "Chillón."
    server.go_on()
    is_done(answer)
    assert answer.locator("del").inner_text().strip() == "It lies on the Chillón. So"
    assert "line-through" in answer.locator("del").evaluate("node => getComputedStyle(node).textDecorationLine")
    assert answer.locator(".part").last.inner_text() == "It lies on the Rímac."


def test_a_draft_whose_very_text_is_committed_was_kept_where_it_stands(page: Page, server: ScriptedAnswers) -> None:
    answer = ask(
        page,
        server,
        said("Lima is the capital."),
        happened(drafted(" It lies on the Chillón."), DOUBT | {"action": "retrieve"}),
        said(" It lies on the Chillón."),
        said(" So it is."),
    )
    is_done(answer)
    assert answer.locator(".draft").count() == 0
    assert answer.locator(".stream > *").all_inner_texts() == [
        "Lima is the capital. It lies on the Chillón.",
        "▲ min-prob 0.851 ≥ 0.2 during the answer → retrieve",
        "So it is.",
    ]


def test_only_what_a_draft_holds_beyond_the_text_that_was_kept_is_struck_through(
    page: Page, server: ScriptedAnswers
) -> None:
    look_up = {"kind": "retrieved", "query": "Lima", "sources": []}
    answer = ask(
        page, server, happened(drafted("It is Lima. So")), said("It is Lima."), happened(look_up), said(" So is.")
    )
    is_done(answer)
    assert answer.locator("del").inner_text().strip() == "So"
    assert answer.locator(".part").all_inner_texts() == ["It is Lima. So", "So is."]


def test_a_draft_that_was_generated_again_with_other_probabilities_was_thrown_away(
    page: Page, server: ScriptedAnswers
) -> None:
    answer = ask(page, server, happened(drafted("It is Lima.", Lima=0.3)), said("It is Lima.", Lima=0.9))
    is_done(answer)
    assert answer.locator(".part").inner_text() == "It is Lima.It is Lima."
    assert answer.locator("del .t").last.get_attribute("class") == "t p3"


def test_of_several_whole_answers_the_one_that_is_committed_is_kept(page: Page, server: ScriptedAnswers) -> None:
    answer = ask(
        page, server, happened(*map(drafted, ("It is Cuzco.", "It is Lima.", "It is Ica."))), said("It is Lima.")
    )
    is_done(answer)
    assert [text.strip() for text in answer.locator("del").all_inner_texts()] == ["It is Cuzco.", "It is Ica."]
    assert answer.locator(".t:not(del .t)").all_inner_texts() == ["It", "is", "Lima."]


def test_a_part_that_failed_is_told_and_the_answer_goes_on(page: Page, server: ScriptedAnswers) -> None:
    retriever = {"kind": "failed", "part": "retriever", "error": "no answer from :9200"}
    strong = {"kind": "failed", "part": "strong", "error": "timed out"}
    answer = ask(page, server, happened(retriever, strong), said("It is Lima."))
    is_done(answer)
    assert answer.locator(".event.failed").all_inner_texts() == [
        "The retriever failed: no answer from :9200; the answer goes on without it.",
        "The strong model failed: timed out; the answer goes on without it.",
    ]
    assert answer.locator(".part").inner_text() == "It is Lima."


def costs(answer: Locator) -> dict[str, str]:
    return dict(
        zip(answer.locator(".costs dt").all_inner_texts(), answer.locator(".costs dd").all_inner_texts(), strict=True)
    )


def test_the_costs_are_told_at_the_end(page: Page, server: ScriptedAnswers) -> None:
    spent = {"discarded_tokens": 32, "retrievals": 2, "escalations": 1, "strong_share": 0.4}
    took = {"seconds": 3.14, "first_committed": 0.8}
    answer = ask(page, server, said("Lima."), PAUSE, finished(), usage(1810, 92, 512, **spent, **took))
    expect(answer.locator(".part")).to_be_visible()
    assert costs(answer) == {}
    server.go_on()
    is_done(answer)
    assert costs(answer) == {
        "Prompt tokens": "1,810 (512 cached)",
        "Generated tokens": "92 (32 discarded)",
        "Look-ups": "2",
        "Hand-overs": "1",
        "By the strong model": "40%",
        "Whole answer after": "3.1 s",
        "First text after": "0.8 s",
    }


def test_an_answer_that_ran_into_its_limit_says_so(page: Page, server: ScriptedAnswers) -> None:
    answer = ask(page, server, said("It is"), finished("length"))
    expect(answer.locator(".event")).to_have_text("The answer stops here: it reached the limit on its length.")


# --- two at once, stopping, going on --------------------------------------------------------------------------------


def test_two_policies_answer_side_by_side_at_the_same_time(page: Page, server: ScriptedAnswers) -> None:
    server.plays = {
        "flare": [said("Lima."), PAUSE, said(" On the Rímac.")],
        "weak": [said("Cuzco.", None), PAUSE, said(" On the Huatanay.", None)],
    }
    visit(page, server).get_by_label("Compare with").check()
    page.fill("#question", QUESTION)
    page.keyboard.press("Tab")
    page.locator("#send").click()
    first, second = page.locator(".arm").first, page.locator(".arm").last
    expect(first.locator(".stream")).to_have_text("Lima.", use_inner_text=True)
    expect(second.locator(".stream")).to_have_text("Cuzco.", use_inner_text=True)  # neither waits for the other
    left, right = first.bounding_box(), second.bounding_box()
    assert left is not None
    assert right is not None
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]
    server.go_on("weak")
    is_done(second)
    expect(first.locator(".state")).to_have_text("answering …")
    server.go_on("flare")
    is_done(first)
    assert page.locator(".arm h3").all_inner_texts() == ["flare\ndone", "weak\ndone"]


def test_stop_aborts_the_request_and_keeps_what_was_said(page: Page, server: ScriptedAnswers) -> None:
    answer = ask(page, server, said("It is Lima."), happened(drafted(" On")), PAUSE, said(" Never."))
    expect(answer.locator(".draft")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(answer.locator(".state")).to_have_text("stopped")
    assert server.left.wait(10)
    assert answer.locator(".part").inner_text() == "It is Lima. On"
    assert answer.locator("del").inner_text().strip() == "On"
    expect(page.locator("#send")).to_be_visible()
    expect(page.locator("#question")).to_be_focused()


def test_the_turns_so_far_are_sent_along_until_a_new_conversation(page: Page, server: ScriptedAnswers) -> None:
    def messages(question: str) -> list[list[str]]:
        page.fill("#question", question)
        page.keyboard.press("Enter")
        is_done(page.locator(".arm").last)
        return [[message["role"], message["content"]] for message in server.requests[-1]["messages"]]

    server.plays["flare"] = [said("It is Lima."), happened(drafted(" So")), said(" On the Rímac.")]
    visit(page, server)
    assert messages("Capital?") == [["user", "Capital?"]]
    server.plays["flare"] = Refusal(503, "too busy")
    page.fill("#question", "Lost?")
    page.keyboard.press("Enter")
    expect(page.locator(".arm").last.locator(".state")).to_have_text("failed")
    server.plays["flare"] = [said("Yes.")]
    turns = [["user", "Capital?"], ["assistant", "It is Lima. On the Rímac."]]  # without what was never answered
    assert messages("Sure?") == [*turns, ["user", "Sure?"]]
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".turn")).to_have_count(0)
    assert messages("Again?") == [["user", "Again?"]]


def test_each_side_of_a_comparison_goes_on_from_its_own_answers(page: Page, server: ScriptedAnswers) -> None:
    server.plays = {"flare": [said("Lima.")], "weak": [said("Cuzco.", None)]}
    visit(page, server).get_by_label("Compare with").check()
    for question in ("Capital?", "Sure?"):
        page.fill("#question", question)
        page.keyboard.press("Enter")
        expect(page.locator(".turn").last.locator(".state")).to_have_text(["done", "done"])
    before = {body["model"]: body["messages"][1]["content"] for body in server.requests[2:]}
    assert before == {"flare": "Lima.", "weak": "Cuzco."}


def test_a_new_conversation_stops_the_answer_that_streams(page: Page, server: ScriptedAnswers) -> None:
    answer = ask(page, server, said("It is Lima."), PAUSE)
    expect(answer.locator(".part")).to_be_visible()
    page.get_by_role("button", name="New conversation").click()
    assert server.left.wait(10)
    expect(page.locator("#send")).to_be_visible()


# --- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refusal", "line"),
    [
        (Refusal(400, "the prompt is too long"), "The server refused the request (400): the prompt is too long"),
        (Refusal(503, "the engine is away"), "The server failed (503): the engine is away"),
    ],
)
def test_a_refused_request_is_one_line_in_the_answers_place(
    page: Page, server: ScriptedAnswers, refusal: Refusal, line: str
) -> None:
    server.plays["flare"] = refusal
    visit(page, server).fill("#question", QUESTION)
    page.keyboard.press("Enter")
    expect(page.locator(".arm .event.failed")).to_have_text(line)
    assert page.locator(".arm .state").inner_text() == "failed"


BROKEN = {"error": {"message": "the weak model's stream broke", "type": "X", "param": None, "code": 502}}


@pytest.mark.parametrize(
    ("end", "line"),
    [
        (BROKEN, "The answer broke off: the weak model's stream broke"),
        (DROP, "The connection was lost before the end of the answer."),
        ({"object": "of another kind"}, "The server sent something unexpected: "),
    ],
)
def test_an_answer_that_breaks_off_keeps_what_was_said(
    page: Page, server: ScriptedAnswers, end: Any, line: str
) -> None:
    answer = ask(page, server, said("It is Lima."), end)
    expect(answer.locator(".event.failed")).to_contain_text(line)
    assert answer.locator(".part").inner_text() == "It is Lima."
    assert answer.locator(".state").inner_text() == "failed"
    expect(page.locator("#send")).to_be_visible()


def test_a_server_that_is_gone_is_named_as_the_reason(page: Page) -> None:
    with ScriptedAnswers() as server:
        visit(page, server)
    page.fill("#question", QUESTION)
    page.keyboard.press("Enter")
    expect(page.locator(".arm .event.failed")).to_have_text("The server cannot be reached. Is it still running?")


def test_a_server_with_keys_is_given_the_one_that_was_typed(page: Page, server: ScriptedAnswers) -> None:
    server.key = "secret"
    page.goto(server.url)
    expect(page.locator("#trouble")).to_have_text("The server refused the request (401): this server needs an API key")
    expect(page.locator("#send")).to_be_disabled()
    page.get_by_label("API key, kept").fill("secret")
    page.keyboard.press("Enter")
    expect(page.locator("#policy")).to_have_value("0")
    expect(page.locator("#trouble")).to_be_hidden()
    is_done(ask(page, server, said("It is Lima.")))  # a second visit: the tab remembers it
    assert page.evaluate("localStorage.length") == 0
    assert page.context.cookies() == []


def test_what_models_and_passages_hold_stays_text(page: Page, server: ScriptedAnswers, problems: list[str]) -> None:
    hostile = {"id": HOSTILE, "title": HOSTILE, "text": HOSTILE, "score": None}
    server.models = [*MODELS, model(HOSTILE, HOSTILE)]
    answer = ask(
        page,
        server,
        happened({"kind": "chosen", "router": HOSTILE, "policy": HOSTILE}, drafted(HOSTILE)),
        happened({"kind": "retrieved", "query": HOSTILE, "sources": [hostile]}),
        happened({"kind": "failed", "part": "retriever", "error": HOSTILE}),
        said(f"{HOSTILE} Lima."),
        {"error": {"message": HOSTILE}},
        question=HOSTILE,
    )
    expect(answer.locator(".state")).to_have_text("failed")
    page.select_option("#policy", label=HOSTILE)
    assert answer.locator(".part").last.inner_text() == f"{HOSTILE} Lima."
    assert page.locator(".turn h2").inner_text() == HOSTILE
    assert page.title() == "flarekit"
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1
    assert problems == []


# --- the page itself ------------------------------------------------------------------------------------------------


def test_policies_are_offered_with_what_they_do_and_aliases_are_not(page: Page, server: ScriptedAnswers) -> None:
    server.models = [
        model("weak", "the weak model alone"),
        model("flare", "looks up its doubts", default=True),
        MODELS[2],
    ]
    page.goto(server.url)
    expect(page.locator("#policy option")).to_have_text(["weak", "flare"])
    expect(page.locator("#policy")).to_have_value("1")
    assert page.locator("#about").inner_text() == "looks up its doubts"
    page.get_by_label("Compare with").check()
    assert page.locator("#about").inner_text().splitlines() == ["looks up its doubts", "the weak model alone"]


def test_everything_can_be_done_with_the_keyboard(page: Page, server: ScriptedAnswers) -> None:
    server.plays["weak"] = [said("It is Lima.", None), PAUSE]
    visit(page, server)
    expect(page.locator("#question")).to_be_focused()
    page.keyboard.press("Shift+Tab")  # past the box to the policy
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#policy")).to_have_value("1")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("One")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two?")
    assert page.locator(".turn").count() == 0
    page.keyboard.press("Enter")
    answer = page.locator(".arm")
    expect(answer.locator(".stream")).to_have_text("It is Lima.", use_inner_text=True)
    assert server.requests[0]["messages"][0]["content"] == "One\ntwo?"
    assert page.locator("#question").input_value() == ""
    page.keyboard.type("Next?")
    page.keyboard.press("Enter")  # waits for the answer that streams
    assert page.locator("#question").input_value() == "Next?"
    page.keyboard.press("Tab")
    expect(page.locator("#stop")).to_be_focused()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(answer.locator(".state")).to_have_text("stopped")
    assert len(server.requests) == 1


def test_every_control_has_a_name(page: Page, server: ScriptedAnswers) -> None:
    visit(page, server).get_by_label("Compare with").check()
    unnamed = (
        "[...document.querySelectorAll('select, textarea, input:not([hidden])')].filter(x => !x.labels.length).length"
    )
    assert page.evaluate(unnamed) == 0
    assert all(page.locator("button").all_text_contents())


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_its_window_and_asks_nobody_else_for_anything(
    browser: Browser, server: ScriptedAnswers, problems: list[str], width: int, scheme: Any
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = watched(context.new_page(), problems)
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    server.models = [model("a-policy-with-a-name:" + "x" * 60, "what it does " * 20, default=True), MODELS[1]]
    server.plays = {
        server.models[0]["id"]: [
            said("Word" * 60 + "."),
            happened(HANDED, {"kind": "retrieved", "query": "q" * 200, "sources": [LIMA | {"title": "t" * 90}]}),
            finished(),
            usage(18100, 9200, 5120, discarded_tokens=3200, retrievals=2, escalations=1, strong_share=0.4, seconds=3.0),
        ],
        "weak": [said("Lima.", None)],
    }
    visit(page, server).get_by_label("Compare with").check()
    page.fill("#question", "w" * 120)
    page.keyboard.press("Enter")
    expect(page.locator(".state")).to_have_text(["done", "done"])
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert {address.startswith(server.url) for address in addresses} == {True}
    assert problems == []
    context.close()


def test_dark_mode_turns_ink_and_paper_round(browser: Browser, server: ScriptedAnswers) -> None:
    def looks(scheme: Any) -> tuple[int, int]:
        """How light the paper and the ink are."""
        page = browser.new_page(color_scheme=scheme)
        page.goto(server.url)
        colours = page.evaluate(
            "(({ backgroundColor, color }) => [backgroundColor, color])(getComputedStyle(document.body))"
        )
        page.close()
        paper, ink = (sum(map(int, colour[4:-1].split(","))) for colour in colours)
        return paper, ink

    assert looks("light")[0] > looks("light")[1]
    assert looks("dark")[0] < looks("dark")[1]

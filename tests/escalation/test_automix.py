"""AutoMix: which confidences are worth a hand-over, by hand, in a simulated world, and from recorded runs."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fakes.run_directories import segment, trace, write_run
from fakes.scripted import ScriptedEngine
from flarekit.cli.evaluation.compare import compare
from flarekit.cli.router import app as router_cli
from flarekit.errors import ConfigError, DataError
from flarekit.escalation.base import Fitted, Task
from flarekit.escalation.outcomes import Outcomes
from flarekit.escalation.routers import automix
from flarekit.escalation.routers.automix import AnswerRouter
from flarekit.escalation.trained import save_router
from flarekit.escalation.training import train_router
from flarekit.eval.analysis.frontier.families import kind_of
from flarekit.eval.data.dataset import Question
from flarekit.eval.results.outcomes import read_judgements
from flarekit.policies import parse_policy
from flarekit.policies.triggers import NEVER
from flarekit.session.session import Session
from flarekit.trace import HandedOver, Probe, Trace

SIMPLE, COMPLEX, HOPELESS = (1.0, 1.0), (0.0, 1.0), (0.0, 0.0)
"""Scores of the weak and the strong arm."""


def task(scores: Sequence[tuple[float, float]], cost: float = 10.0) -> Task:
    made = np.array(scores, dtype=float)
    ids = [f"q{number}" for number in range(len(made))]
    costs = np.tile([1.0, cost], (len(made), 1))
    outcomes = Outcomes(ids, [f"Who {one}?" for one in ids], ["closed-book", "strong"], made, costs)
    return Task(outcomes, np.zeros(len(made)))


def judged(agreed: Sequence[int], samples: int) -> list[list[bool]]:
    return [[place < one for place in range(samples)] for one in agreed]


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_a_set_of_confidences_by_hand() -> None:
    """Two judgements each; three hopeless at 0 and one complex, three complex at 1 and one simple, four simple at 2.

    A simple question gains 0 from the strong model, a complex one 1, a hopeless one 0; so the gain is P(complex):
    1/4 at 0, 3/4 at 1 and 0 at 2. A random question gains 4/12, which 1 alone exceeds: no threshold says that.
    """
    scores = [HOPELESS] * 3 + [COMPLEX] + [COMPLEX] * 3 + [SIMPLE] + [SIMPLE] * 4
    fitted = automix.fit(task(scores), judged([0] * 4 + [1] * 4 + [2] * 4, 2), bandwidth=0.0)
    np.testing.assert_allclose(fitted.arrays["beliefs"], [[0.0, 0.25, 0.75], [0.25, 0.75, 0.0], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(fitted.arrays["gains"], [0.25, 0.75, 0.0])
    assert fitted.settings["least_gain"] == pytest.approx(4 / 12)
    assert fitted.settings["hands_over_at"] == [1]
    assert automix.hands_over(fitted, judged([0, 1, 2], 2)).tolist() == [False, True, False]


@pytest.mark.parametrize(("cost_weight", "at"), [(0.0, [0, 1]), (0.02, [0, 1]), (0.03, [1]), (0.08, []), (1.0, [])])
def test_the_weight_of_the_cost_says_what_a_hand_over_must_gain(cost_weight: float, at: list[int]) -> None:
    """The same questions, a hand-over at 10: it must gain 0, .2, .3, .8, 10; a gain of nothing is never enough."""
    scores = [HOPELESS] * 3 + [COMPLEX] + [COMPLEX] * 3 + [SIMPLE] + [SIMPLE] * 4
    records = judged([0] * 4 + [1] * 4 + [2] * 4, 2)
    fitted = automix.fit(task(scores), records, bandwidth=0.0, cost_weight=cost_weight)
    assert fitted.settings["hands_over_at"] == at


def test_the_kernel_by_hand() -> None:
    """One judgement, one complex question at 0, one simple at 1; a bandwidth of 1: exp(-1/2) spills to the other."""
    fitted = automix.fit(task([COMPLEX, SIMPLE]), judged([0, 1], 1), bandwidth=1.0)
    stays, spills = 1 / (1 + math.exp(-0.5)), math.exp(-0.5) / (1 + math.exp(-0.5))
    np.testing.assert_allclose(fitted.arrays["beliefs"], [[spills, stays, 0.0], [stays, spills, 0.0]])


def test_what_was_never_observed_is_believed_like_everything() -> None:
    fitted = automix.fit(task([COMPLEX, COMPLEX, SIMPLE, HOPELESS]), judged([0, 0, 3, 0], 3), bandwidth=0.0)
    np.testing.assert_allclose(fitted.arrays["beliefs"][1:3], [[0.25, 0.5, 0.25]] * 2)


def test_a_strong_model_that_spoils_right_answers_is_not_asked_for_them() -> None:
    fitted = automix.fit(task([(1.0, 0.0)] * 4 + [COMPLEX] * 4), judged([2] * 4 + [0] * 4, 2), bandwidth=0.0)
    assert fitted.arrays["gains"].tolist() == [1.0, 0.0, -1.0]
    assert fitted.settings["hands_over_at"] == [0]


@given(st.data(), st.integers(1, 6), st.floats(0, 2))
def test_any_records_give_whole_beliefs(data: st.DataObject, samples: int, bandwidth: float) -> None:
    rows = data.draw(
        st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(0, samples)), min_size=1, max_size=20)
    )
    fitted = automix.fit(
        task([row[:2] for row in rows]), judged([row[2] for row in rows], samples), bandwidth=bandwidth
    )
    automix.check(fitted)
    assert (fitted.arrays["beliefs"] >= 0).all()


@pytest.mark.parametrize("records", [[[True], [True, False]], [[], []]])
def test_judgements_that_differ_in_number_are_refused(records: list[list[bool]]) -> None:
    with pytest.raises(DataError, match="the same number of judgements"):
        automix.fit(task([SIMPLE, COMPLEX]), records)


# --- against thresholds ----------------------------------------------------------------------------------------------


def world(count: int, seed: int) -> tuple[list[tuple[float, float]], list[list[bool]]]:
    """Hopeless questions agree in 1 judgement of 10, complex ones in 5, simple ones in 9."""
    rng = np.random.default_rng(seed)
    states = rng.choice(3, count, p=[0.4, 0.3, 0.3])
    scores = [(SIMPLE, COMPLEX, HOPELESS)[state] for state in states]
    return scores, (rng.random((count, 8)) < np.array([0.9, 0.5, 0.1])[states][:, None]).tolist()


def test_where_some_questions_are_hopeless_an_interval_beats_every_mixture_of_thresholds() -> None:
    """Fitted on 300 questions, judged on 4,000 others: thresholds' scores at the same share, from their upper hull."""
    fitted = automix.fit(task(world(300, 1)[0]), world(300, 1)[1])
    at = fitted.settings["hands_over_at"]
    assert at == list(range(at[0], at[-1] + 1))
    assert 0 < at[0] <= 4 <= at[-1] < 8
    scores, records = world(4000, 2)
    weak, strong = np.array(scores).T
    agreed = np.array([sum(one) for one in records])

    def reached(handed: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> tuple[float, float]:
        return float(handed.mean()), float(np.where(handed, strong, weak).mean())

    share, score = reached(automix.hands_over(fitted, records))
    thresholds = sorted(reached(agreed <= most) for most in range(-1, 9))
    mixtures = [
        left[1] + (right[1] - left[1]) * (share - left[0]) / (right[0] - left[0])
        for left in thresholds
        for right in thresholds
        if left[0] <= share < right[0]
    ]
    assert score > max(mixtures) + 0.05


# --- from recorded runs to a session ---------------------------------------------------------------------------------

SAID = [" Correct", " Incorrect"]


def recorded(folder: Path, samples: int = 3, watcher: str = "watch:samples=3") -> Path:
    """Sixty questions: a third hopeless, in which no judgement agrees, complex with one or two, simple with three."""
    questions = [Question(f"q{n}", f"Who made the film {n}?", ("Emma",)) for n in range(60)]
    traces: list[Trace] = []
    for n, question in enumerate(questions):
        agreed = {0: 0, 1: 1 + n // 3 % 2, 2: 3}[n % 3]
        weak, strong = ("Emma" if n % 3 == 2 else "Ann"), ("Emma" if n % 3 else "Ida")
        texts = ["Correct"] * agreed + ["Incorrect"] * (samples - agreed)
        probe = Probe("self-verification", 1 - agreed / samples, "weak", 90, 0, samples, texts=texts)
        said = segment(f"The answer is {weak}.")
        traces += [
            trace(question.id, "closed-book", weak, said),
            trace(question.id, watcher, weak, said, probe),
            trace(question.id, "strong", strong, HandedOver("weak", "strong", ""), segment(strong, role="strong")),
        ]
    return write_run(folder, questions, traces, strong="large")


@pytest.fixture
def router(tmp_path: Path) -> Path:
    run, out = recorded(tmp_path / "run"), tmp_path / "router"
    ended = CliRunner().invoke(router_cli, ["train", str(run), "--kind", "automix", "--out", str(out)])
    assert ended.exit_code == 0, ended.output
    assert "hands over   where so many of 3 judgements agree: 1, 2" in ended.output
    assert "score against as many by lot" in ended.output
    assert f"--policy automix:router={out}" in ended.output
    return out


@pytest.mark.parametrize(("agreed", "answer"), [(0, "Spain"), (1, "Reus"), (2, "Reus"), (3, "Spain")])
async def test_a_session_hands_over_what_the_recorded_runs_say(router: Path, agreed: int, answer: str) -> None:
    weak = ScriptedEngine([" So", " the", " answer", " is", " Spain", "."], *([SAID[n >= agreed]] for n in range(3)))
    policy = parse_policy(f"automix:router={router}")
    strong = ScriptedEngine([" So", " the", " answer", " is", " Reus", "."])
    trace = await Session(policy, "Where?", weak=weak, strong=strong).run()
    [probe] = [event for event in trace.events if isinstance(event, Probe)]
    assert (trace.answer, trace.policy) == (answer, f"automix:router={router}")
    assert (probe.signal, len(probe.texts), probe.generated_tokens) == ("automix", 3, 3)
    assert (probe.value > 1 / 3) == (answer == "Reus")


def test_a_threshold_is_the_least_gain(router: Path) -> None:
    [rule] = parse_policy(f"automix:router={router},threshold=0.9").rules
    assert rule.trigger.threshold == 0.9
    [rule] = parse_policy(f"automix:router={router}").rules
    assert rule.trigger.threshold == pytest.approx(1 / 3, abs=0.05)


def test_what_never_gains_enough_is_never_handed_over(tmp_path: Path) -> None:
    scores = [HOPELESS, COMPLEX, COMPLEX, SIMPLE] * 8
    records = dict(zip([f"q{n}" for n in range(32)], judged([0, 1, 1, 2] * 8, 2), strict=True))
    made = train_router("automix", task(scores).outcomes, answers=records, cost_weight=5.0)
    save_router(made, tmp_path)
    [rule] = parse_policy(f"automix:router={tmp_path}").rules
    assert rule.trigger.threshold == NEVER


def test_judgements_of_other_answers_are_left_out(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run", watcher="self-verify-cascade:samples=3")
    assert len(read_judgements([run])) == 60
    assert read_judgements([run], "strong") == {}
    assert read_judgements([run], "rag") == {}
    assert read_judgements([run])["q1"] == [True, False, False]


def test_runs_without_judgements_are_refused_in_one_line(tmp_path: Path) -> None:
    made = task([SIMPLE, COMPLEX] * 10).outcomes
    with pytest.raises(DataError, match="needs recorded judgements of the weak answers; run them with --policy watch"):
        train_router("automix", made)


# --- names and folders -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("automix", "self-verify-cascade"),
        ("automix:threshold=0.3", "self-verify-cascade:threshold=0.3"),
        ("automix:samples=2,threshold=1", "self-verify-cascade:threshold=1,samples=2"),
    ],
)
def test_without_a_router_automix_is_the_old_name_of_the_threshold(old: str, new: str) -> None:
    assert parse_policy(old) == parse_policy(new)
    assert parse_policy(old).spec == new
    assert kind_of(old) == kind_of(new)


def test_a_recorded_run_opens_with_specs_of_every_age(tmp_path: Path) -> None:
    """Old names, withdrawn options, and a router whose folder is gone."""
    ages = ["automix", "automix:threshold=0.3", "automix:router=gone", "self-verify-cascade:threshold=0.3"]
    ages += ["semantic-entropy:grouping=embedding", "semantic-entropy:grouping=entailment,nli=gone"]
    questions = [Question(f"q{n}", f"Who {n}?", ("Emma",)) for n in range(6)]
    arms = ["closed-book", "strong", *ages]
    traces = [
        trace(one.id, arm, "Emma" if n % 2 else "Ann", segment("The answer is Emma."))
        for n, one in enumerate(questions)
        for arm in arms
    ]
    run = write_run(tmp_path / "run", questions, traces, strong="large")
    app = typer.Typer()
    app.command()(compare)
    ended = CliRunner().invoke(app, [str(run), "--out", str(run / "report")], env={"COLUMNS": "200"})
    assert ended.exit_code == 0, ended.output
    for arm in ages:
        assert (kind_of(arm).moment, kind_of(arm).action) == ("post", "escalate")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("automix:router={folder}/none", "does not exist; `flarekit router train` makes such a folder"),
        ("automix:router={folder},samples=5", "asks for as many judgements as it was fitted on"),
        ("automix:router={folder},threshold=2", "less than or equal to 1"),
        ("automix:threshold=2", "less than or equal to 1"),
        ("pre-escalate:router={folder}", "is not one that scores a question before generation"),
        ("mid-retrieve:router={folder}", "is not one that watches an answer while it streams"),
        ("avengers-pro:router={folder}", "is not one that chooses among policies"),
    ],
)
def test_a_folder_or_option_that_does_not_fit_is_one_line(router: Path, spec: str, says: str) -> None:
    with pytest.raises((ConfigError, DataError)) as error:
        parse_policy(spec.format(folder=router))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"samples": 4},
        {"samples": 0},
        {"samples": "3"},
        {"least_gain": 0.0},
        {"least_gain": "1"},
        {"least_gain": None},
        {"least_gain": math.nan},
    ],
)
def test_a_router_whose_settings_do_not_fit_its_arrays_is_no_router(router: Path, change: dict[str, object]) -> None:
    manifest = json.loads((router / "router.json").read_bytes())
    manifest["hyperparameters"] |= change
    (router / "router.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="not a whole router") as error:
        parse_policy(f"automix:router={router}")
    assert "\n" not in str(error.value)


def test_a_router_of_another_kind_is_refused(router: Path, tmp_path: Path) -> None:
    made = task([SIMPLE, COMPLEX] * 10).outcomes
    save_router(train_router("tfidf-lr", made, strong="strong"), tmp_path / "words")
    with pytest.raises(ConfigError, match="is not one that judges a finished answer"):
        parse_policy(f"automix:router={tmp_path / 'words'}")
    shutil.rmtree(router)
    with pytest.raises(DataError, match="does not exist"):
        parse_policy(f"automix:router={router}")


@given(st.lists(st.floats(-2, 2), min_size=9, max_size=9))
def test_gains_outside_their_range_are_refused(values: list[float]) -> None:
    arrays = {"gains": np.array(values), "beliefs": np.full((9, 3), 1 / 3)}
    fitted = Fitted({"samples": 8, "least_gain": 0.1}, arrays)
    if max(map(abs, values)) <= 1:
        automix.check(fitted)
        assert AnswerRouter({}, fitted).least_gain == 0.1
    else:
        with pytest.raises(ValueError, match="gains from -1 to 1"):
            automix.check(fitted)

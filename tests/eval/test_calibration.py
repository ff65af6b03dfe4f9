"""Calibrating a policy on a recorded run: what it reads there, what it writes, and what it says of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from fakes.run_directories import retrieved, tokens, trace, write_run
from flarekit.cli.evaluation.calibrate import calibrate as command
from flarekit.costs import Prices
from flarekit.errors import ConfigError, DataError
from flarekit.eval.calibration.acting import read_sample
from flarekit.eval.calibration.calibrate import Target, calibrate, outcome, parse_target
from flarekit.eval.calibration.promises import explain
from flarekit.eval.data.dataset import Question
from flarekit.eval.replay.readings import answer_of, read_trigger
from flarekit.eval.runs.recorded import read_run
from flarekit.policies import parse_policy
from flarekit.trace import HandedOver, Probe, Segment, Trace

# Twenty questions, q00 to q19. The lowest token probability falls from .99 to .04 in steps of .05, so min-prob rises
# from .01 to .96; p-ik rises with it, from .025 to .975. Closed-book is wrong on q08, q12 and from q16 on. An answer
# has 4 tokens and reads 100, so it costs 100 x .25 + 4 = 29; rag's reads 200 and looks up: 50 + 4 + 1 = 55; the strong
# model's costs three times 29: 87. A probe reads 20 and generates 1: 6.
KEYS = [f"q{number:02}" for number in range(20)]
QUESTIONS = [Question(key, f"Question {key}?", ("Reus",)) for key in KEYS]
WRONG = {8, 12, 16, 17, 18, 19}


def answered(number: int, policy: str, *before: Any, right: bool, prompt: int = 100, role: Any = "weak") -> Trace:
    said = [*tokens("It is in", 0.999), *tokens("Reus.", 0.99 - 0.05 * number)]
    stream = Segment(role, said, 4, "stop", prompt_tokens=prompt, cached_tokens=0)
    return trace(KEYS[number], policy, "Reus" if right else "Oslo", *before, stream)


def closed_book(number: int, policy: str = "closed-book", *before: Any) -> Trace:
    return answered(number, policy, *before, right=number not in WRONG)


def rag(number: int) -> Trace:
    return answered(number, "rag", retrieved("?", "x"), right=number != 19, prompt=200)


def strong(number: int) -> Trace:
    return answered(number, "strong", HandedOver("weak", "strong", ""), right=True, role="strong")


def watch(number: int) -> Trace:
    asked = Probe("p-ik", 0.025 + 0.05 * number, "weak", prompt_tokens=20, generated_tokens=1)
    voted = Probe("vote-share", number % 5 / 5, "weak", prompt_tokens=20, generated_tokens=1, texts=["Reus"] * 5)
    made = closed_book(number, "watch", asked)
    made.events.append(voted)
    return made


def traces(*arms: Any) -> Iterator[Trace]:
    for arm in arms or (closed_book, rag, strong, watch):
        yield from (arm(number) for number in range(20))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", QUESTIONS, traces())


def found(path: Path, policy: str, target: str, **options: Any) -> Any:
    return calibrate(read_run(path), policy, parse_target(target), **options)


# --- the targets ------------------------------------------------------------------------------------------------------


def test_a_rate_takes_the_quantile_of_recorded_probes(path: Path) -> None:
    made = found(path, "pre-retrieve:signal=p-ik", "rate=0.3")
    assert (made.policy, made.base, made.helped) == ("pre-retrieve:signal=p-ik,threshold=0.725", "closed-book", "rag")
    assert made.reached.rate.estimate == 0.3
    # Wilson's interval of 6 of 20.
    assert (made.reached.rate.low, made.reached.rate.high) == pytest.approx((0.1455, 0.5190), abs=1e-4)


def test_a_cost_before_generation_is_one_answer_or_the_other_and_the_probe(path: Path) -> None:
    # Nobody helped: 29 + 6 = 35; each of 20 who is helped adds 26 / 20 = 1.3. 40 pays for 3, up to 38.9.
    made = found(path, "p-ik", "cost=40")
    assert (made.policy, made.reached.rate.estimate) == ("p-ik:threshold=0.875", 0.15)
    assert made.reached.cost.estimate == pytest.approx(38.9)


def test_a_cost_during_or_after_generation_is_both_answers(path: Path) -> None:
    # 29, and 55 more for each of 20 that is acted on: 40 pays for 4. A cascade asks the strong model: 87 more, for 2.
    made = found(path, "mid-retrieve:words_only=no", "cost=40")
    assert (made.reached.rate.estimate, made.reached.cost.estimate) == (0.2, pytest.approx(40))
    made = found(path, "cascade", "cost=40")
    assert (made.helped, made.moment, made.reached.rate.estimate) == ("strong", "post", 0.1)


def test_other_prices_buy_other_thresholds(path: Path) -> None:
    free = Prices(generated=0, prompt=0, cached=0)
    made = found(path, "p-ik", "cost=0.5", prices=free)  # only look-ups cost anything: half the questions get one
    assert made.reached.rate.estimate == 0.5


def test_a_cost_out_of_reach_is_refused_with_the_range(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cost=20 is out of reach: thresholds give mean costs of 35 to 61"):
        found(path, "p-ik", "cost=20")


def test_a_risk_counts_what_is_accepted_and_wrong(path: Path) -> None:
    # .1 x 21 = 2.1, so one accepted wrong answer is allowed: q08 is it, and q12 must be acted on.
    made = found(path, "p-ik", "risk=0.1")
    assert (made.policy, made.reached.risk.estimate) == ("p-ik:threshold=0.625", 0.05)
    assert made.reached.wrong_accepted.estimate == pytest.approx(1 / 12)


def test_a_promise_about_accepted_answers_needs_more_questions_than_a_risk(path: Path) -> None:
    made = found(path, "p-ik", "wrong-accepted=0.1")
    assert (made.policy, made.threshold, made.reached.rate.estimate) == ("p-ik:threshold=0", 0, 1)
    assert math.isnan(made.reached.wrong_accepted.estimate)
    assert "No guarantee can be given with 20 questions" in explain(made)[2]
    # At 30% and a confidence of .8, 12 accepted with 1 wrong will do, P(Bin(12, .3) <= 1) = .085; 13 with 2 not: .203.
    made = calibrate(read_run(path), "p-ik", Target("wrong-accepted", 0.3, 0.8))
    assert made.reached.rate.estimate == 0.4
    assert "Guarantee: with probability .80" in explain(made)[2]


# --- what a policy's trigger sees -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "policy",
    ["mid-retrieve", "mid-retrieve:signal=entropy,read=token,over=3", "escalate", "cascade", "flare",
     "rolling-retrieve", "step-entropy", "dragin-lite", "etc"],
)  # fmt: skip
def test_what_is_written_acts_on_the_calibration_questions_as_was_said(path: Path, policy: str) -> None:
    made = found(path, policy, "rate=0.35")
    run = read_run(path)
    rule = next(rule for rule in parse_policy(made.policy).rules if rule.trigger.signal.name != "always")
    values = [read_trigger(rule.trigger, answer_of(one)) for one in run.traces[made.base].values()]
    assert rule.trigger.threshold == made.threshold
    assert sum(rule.trigger.fires(value) for value in values) / 20 == made.reached.rate.estimate <= 0.35


def test_flare_s_theta_is_one_minus_the_threshold_and_accepts_rag_s_answers(path: Path) -> None:
    made = found(path, "flare:beta=0.2", "rate=0.25")
    # min-prob is .76 or more on the last five, where p is .24 or less.
    assert (made.policy, made.base) == ("flare:theta=0.24,beta=0.2", "rag")
    assert made.threshold == pytest.approx(0.76)
    assert made.reached.risk.estimate == 0  # rag is wrong on q19 only, which is acted on


def test_a_threshold_that_the_specification_holds_already_is_replaced(path: Path) -> None:
    assert found(path, "p-ik:threshold=0.1,k=2", "rate=0.3").policy == "p-ik:threshold=0.725,k=2"


def test_recorded_samples_serve_policies_with_the_same_settings_only(path: Path) -> None:
    made = found(path, "cascade:signal=vote-share", "rate=0.2")
    assert (made.policy, made.moment) == ("cascade:signal=vote-share,threshold=0.8", "post")
    with pytest.raises(DataError, match="recorded vote-share with 5 samples"):
        found(path, "cascade:signal=vote-share,samples=7", "rate=0.2")


def test_a_signal_of_the_question_alone_needs_no_record(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", QUESTIONS, traces(closed_book))
    made = found(run, "pre-retrieve:signal=random", "rate=0.5")
    assert (made.reached.rate.estimate, made.reached.cost, made.helped) == (0.5, None, None)


def test_questions_that_a_signal_was_not_measured_on_are_told(tmp_path: Path) -> None:
    records = [*traces(closed_book), *(watch(number) for number in range(15))]
    made = found(write_run(tmp_path / "run", QUESTIONS, records), "p-ik", "rate=0.2")
    assert (made.reached.n, made.unread) == (15, 5)
    assert "5 questions were left out, because p-ik was not measured on them." in explain(made)


def test_the_answers_of_watch_are_closed_book_s_and_its_probes_cost_nothing_that_is_not_asked(tmp_path: Path) -> None:
    made = found(write_run(tmp_path / "run", QUESTIONS, traces(watch, rag)), "mid-retrieve", "rate=0")
    assert (made.base, made.reached.cost.estimate) == ("watch", 29)


# --- a part held out --------------------------------------------------------------------------------------------------


def test_a_split_judges_on_the_other_questions(path: Path) -> None:
    made = found(path, "p-ik", "rate=0.3", split=0.75, seed=1)
    assert (made.reached.n, made.judged.n) == (15, 5)
    assert made == found(path, "p-ik", "rate=0.3", split=0.75, seed=1)
    assert any(line.startswith("On the 5 other questions: acts on") for line in explain(made))
    with pytest.raises(ConfigError, match="between 0 and 1, not 1"):
        found(path, "p-ik", "rate=0.3", split=1)


def test_a_question_that_occurs_twice_is_on_one_side_of_a_split(tmp_path: Path) -> None:
    doubled = [replace(one, text=QUESTIONS[place // 2].text.upper()) for place, one in enumerate(QUESTIONS)]
    run = read_run(write_run(tmp_path / "run", doubled, traces()))
    whole = read_sample(run, parse_policy("p-ik"), Prices())
    assert whole.said.tolist() == [place // 2 for place in range(20)]
    for seed in range(5):
        made = calibrate(run, "p-ik", parse_target("rate=0.3"), split=0.5, seed=seed)
        assert made.judged
        assert (made.reached.n, made.judged.n) == (10, 10)
    with pytest.raises(DataError, match="cannot be split"):
        calibrate(
            read_run(write_run(tmp_path / "one", doubled[:2], list(traces())[:2])),
            "cascade",
            parse_target("rate=0.3"),
            split=0.5,
        )


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["closed-book", "rag", "iter-retgen", "watch", "fixed-length"])
def test_a_policy_without_a_threshold_has_nothing_to_calibrate(path: Path, policy: str) -> None:
    with pytest.raises(ConfigError, match=f"policy {policy} has no threshold to calibrate"):
        found(path, policy, "rate=0.3")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("speed=3", "a target is one of rate=…, cost=…, risk=…, wrong-accepted=… with a number behind it"),
        ("rate", "not 'rate'"),
        ("rate=many", "not 'rate=many'"),
        ("cost=-1", "not 'cost=-1'"),
        ("rate=1.5", "the target rate=1.5 is a share, between 0 and 1"),
        ("risk=0", "the target risk=0 is a share, between 0 and 1"),
    ],
)
def test_a_target_is_a_kind_and_a_number_in_its_range(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_target(text)


def test_a_run_that_lacks_an_arm_is_told_which(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", QUESTIONS, traces(closed_book))
    with pytest.raises(DataError, match="has no answers of rag, which is what flare comes to when its trigger doesn't"):
        found(run, "flare", "rate=0.3")
    with pytest.raises(DataError, match="has no answers of strong, which tell what acting costs"):
        found(run, "cascade", "cost=40")
    with pytest.raises(DataError, match="has no values of p-ik; run it with --policy watch"):
        found(run, "p-ik", "rate=0.3")


# --- the command ------------------------------------------------------------------------------------------------------


def call(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_prints_the_policy_alone_on_stdout_and_explains_it_on_stderr(path: Path) -> None:
    ended = call(path, "--policy", "p-ik", "--target", "risk=0.1")
    assert (ended.exit_code, ended.stdout) == (0, "p-ik:threshold=0.625\n")
    assert ended.stderr.splitlines() == [
        "risk=0.1: p-ik:threshold=0.625 acts where p-ik (pre) is at or above 0.625; elsewhere the answer of "
        "closed-book is accepted.",
        "On the 20 questions that it was chosen on: acts on .40 (.22 to .61); accepts and is wrong on .05 (.01 to "
        ".24); of the accepted answers .08 (.01 to .35) are wrong; costs 45 (40 to 51) generated-token equivalents a "
        "question.",
        "Guarantee: of a further question drawn like these 20, the probability that its answer is accepted and wrong "
        "is at most .10, over the draw of all 21 (conformal risk control, arXiv:2208.02814).",
    ]


def test_the_command_prints_every_figure_as_json(path: Path) -> None:
    ended = call(path, "--policy", "p-ik", "--target", "wrong-accepted=0.1", "--split", "0.5", "--json")
    figures = json.loads(ended.stdout)
    assert (figures["policy"], figures["target"]) == ("p-ik:threshold=0", "wrong-accepted=0.1")
    assert figures["reached"]["wrong_accepted"] == {"estimate": None, "low": None, "high": None, "resamples": 0}
    assert figures["judged"]["n"] == 10


def test_nothing_accepted_is_no_share(path: Path) -> None:
    sample = read_sample(read_run(path), parse_policy("p-ik"), Prices())
    everyone = outcome(sample, 0.0)
    assert (everyone.rate.estimate, everyone.risk.estimate) == (1, 0)
    assert math.isnan(everyone.wrong_accepted.estimate)

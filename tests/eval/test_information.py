"""The information curve: what is known after each token, only of answers that go on, and how far it can be trusted."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.run_directories import segment, trace, write_run
from flarekit.cli import main
from flarekit.errors import ConfigError, DataError
from flarekit.escalation.baselines import RULE
from flarekit.escalation.outcomes import Outcomes
from flarekit.escalation.routers.mid_lr import MidRouter, fit
from flarekit.escalation.split import folds
from flarekit.eval.analysis.information.curves import curves
from flarekit.eval.analysis.information.fitted import from_words, learned
from flarekit.eval.analysis.information.points import BAR, LEARNED, Point, best_at, information_rows, worth
from flarekit.eval.analysis.information.refits import fixed
from flarekit.eval.analysis.information.study import Study, read_study
from flarekit.eval.data.dataset import Question
from flarekit.eval.replay.readings import Answer, read_trigger, sentence_ends
from flarekit.eval.replay.trajectories import Watch, after, trajectories, watches
from flarekit.eval.report.charts.information import SHOWN, information_chart
from flarekit.eval.report.information_text import COLUMNS, information_csv, told
from flarekit.eval.results.groups import load_runs
from flarekit.policies.triggers import Trigger
from flarekit.signals.token import SIGNALS
from flarekit.stats.discrimination import auarc, auroc
from flarekit.tokens import Token
from flarekit.trace import Probe, Trace

WORDS = [" Emma", " was", " born", " in", " Reus", ",", " said", " Ann"]


def said(*tokens: tuple[str, float]) -> Answer:
    """Tokens of these texts and probabilities; what is left of it goes to one other candidate."""
    made = [Token(text, 0, math.log(p), {text: math.log(p), "?": math.log1p(-p)}) for text, p in tokens]
    return Answer(made, sentence_ends(made))


def entropy(p: float) -> float:
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


def along(answer: Answer, name: str) -> list[float]:
    return [float(value) for value in trajectories([answer], watches())[name][0]]


# --- trajectories -----------------------------------------------------------------------------------------------------

TWO = said((" Emma", 0.5), (" sang", 0.9), (".", 0.8), (" She", 0.9), (" slept", 0.6))
"""Two sentences, the second from the fourth token on."""


def test_a_maximum_is_known_from_the_token_that_reaches_it() -> None:
    assert along(TWO, "min-prob") == pytest.approx([0.5] * 5)
    assert along(said((" a", 0.9), (" b", 0.7), (" c", 0.8)), "min-prob") == pytest.approx([0.1, 0.3, 0.3])
    assert along(said((",", 0.2), (" b", 0.7)), "min-prob (words)") == pytest.approx([0.0, 0.3])


def test_a_sentence_s_mean_counts_as_it_stands_until_the_sentence_is_over() -> None:
    surprise = [-math.log(token) for token in (0.5, 0.9, 0.8, 0.9, 0.6)]
    first = sum(surprise[:3]) / 3
    second = sum(surprise[3:]) / 2
    so_far = [surprise[0], sum(surprise[:2]) / 2, first, max(first, surprise[3]), max(first, second)]
    assert along(TWO, "mean-logprob") == pytest.approx(so_far)
    whole = [sum(surprise[:count]) / count for count in range(1, 6)]
    assert along(TWO, "mean-logprob (answer)") == pytest.approx(whole)


def test_the_first_token_of_a_sentence_is_known_as_soon_as_it_is_there() -> None:
    answer = said((" Emma", 0.9), (".", 0.8), (" She", 0.6), (" slept", 0.5))
    assert along(answer, "step-entropy") == pytest.approx([entropy(0.9)] * 2 + [entropy(0.6)] * 2)


def test_a_window_is_known_once_it_is_full_and_only_its_highest_value_stays() -> None:
    answer = said(*[(" a", 0.5)] * 5, *[(" b", 0.9)] * 5)
    assert along(answer, "rolling-entropy") == pytest.approx([0.0] * 4 + [entropy(0.5)] * 6)
    assert along(answer, "rolling-entropy (now)")[-1] == pytest.approx(entropy(0.9))


def test_nothing_is_known_after_the_end() -> None:
    values = trajectories([TWO, said((" a", 0.9))], watches())["min-prob"]
    assert values.shape == (2, 5)
    assert np.isnan(values[1, 1:]).all()
    assert after(values, np.array([5, 1])) == pytest.approx([0.5, 0.1])
    assert np.isnan(after(values, np.array([0, 2]))).all()


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from([*WORDS, ".", "!"]), st.sampled_from([0.2, 0.5, 0.9])), min_size=1, max_size=90)
)
def test_after_t_tokens_a_signal_has_the_value_that_a_trigger_would_see_had_the_answer_ended_there(
    tokens: list[tuple[str, float]],
) -> None:
    answer = said(*tokens)
    found = trajectories([answer], watches())
    for count in {1, len(tokens) // 2 or 1, len(tokens)}:
        cut = answer.tokens[:count]
        for watch in watches():
            ended = Answer(cut, sentence_ends(cut))
            seen = read_trigger(watch.trigger, ended) if watch.highest else watch.trigger.signal(cut)  # type: ignore[operator]
            assert found[watch.name][0, count - 1] == pytest.approx(seen)


def test_every_token_signal_has_a_trajectory() -> None:
    assert set(SIGNALS) <= set(trajectories([TWO], watches()))


# --- the area under the accuracy-rejection curve ----------------------------------------------------------------------


def test_auarc_is_the_mean_accuracy_of_the_most_certain() -> None:
    # Kept are, from the most certain on: right, wrong, right; so 1, 1/2 and 2/3 of them are right.
    assert auarc([0, 1, 0], [1, 2, 3]) == pytest.approx((1 + 1 / 2 + 2 / 3) / 3)
    assert auarc([1, 0], [1, 2]) == pytest.approx((0 + 1 / 2) / 2)
    # In either order with the same chance: (1 + 1/2) / 2 and (0 + 1/2) / 2.
    assert auarc([0, 1], [7, 7]) == pytest.approx(1 / 2)
    assert auarc([0, 0], [1, 2]) == 1


LABELLED = st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=12)


@given(LABELLED)
def test_a_question_that_is_drawn_twice_counts_as_two(rows: list[tuple[bool, int, int]]) -> None:
    labels, values, weights = ([row[part] for row in rows] for part in range(3))
    drawn = float(auarc(labels, values, weights))
    if not any(weights):
        assert math.isnan(drawn)
        return
    repeated = float(auarc(np.repeat(labels, weights), np.repeat(values, weights)))
    assert drawn == pytest.approx(repeated)
    assert -1e-9 <= drawn <= 1 + 1e-9


@given(LABELLED)
def test_values_that_are_all_alike_get_the_accuracy_of_all(rows: list[tuple[bool, int, int]]) -> None:
    labels = [row[0] for row in rows]
    assert auarc(labels, [1] * len(rows)) == pytest.approx(1 - np.mean(labels))


@given(LABELLED)
def test_no_order_beats_the_true_one_and_none_falls_below_its_opposite(rows: list[tuple[bool, int, int]]) -> None:
    labels, values = np.array([row[0] for row in rows], dtype=float), [row[1] for row in rows]
    assert auarc(labels, -labels) - 1e-9 <= auarc(labels, values) <= auarc(labels, labels) + 1e-9


# --- curves -----------------------------------------------------------------------------------------------------------


def study(wrong: Sequence[bool], answers: Sequence[Answer], texts: Sequence[str] = ()) -> Study:
    """Answers of which these are wrong; help makes all of them right."""
    n = len(answers)
    scores = np.column_stack([1.0 - np.array(wrong, dtype=float), np.ones(n)])
    asked = list(texts) or [f"{WORDS[place % 5]} {place}?" for place in np.random.default_rng(1).permutation(n)]
    outcomes = Outcomes([str(place) for place in range(n)], asked, ["closed-book", "rag"], scores, np.zeros((n, 2)))
    return Study("toy", "tiny", outcomes, answers, trajectories(answers, watches()), {})


def by_tokens(points: Sequence[Point], signal: str) -> dict[float, Point]:
    return {point.at: point for point in points if (point.axis, point.signal) == ("tokens", signal)}


def doubtful(place: int, length: int, doubt: float, rng: np.random.Generator) -> Answer:
    """An answer with chance at every token but one, which says how doubtful it is."""
    chances = rng.uniform(0.75, 0.95, size=length).tolist()
    return said(*((" a", doubt if at == place else chance) for at, chance in enumerate(chances)))


@pytest.fixture(scope="module")
def planted() -> list[Point]:
    """Of 80 answers of 20 tokens the wrong half is given away by the eighth token."""
    rng = np.random.default_rng(0)
    wrong = [number % 2 == 0 for number in range(80)]
    return curves(study(wrong, [doubtful(7, 20, 0.3 if one else 0.97, rng) for one in wrong]), "wrong")


def test_what_a_token_gives_away_is_found_there_and_not_before(planted: list[Point]) -> None:
    line = by_tokens(planted, "min-prob")
    assert all(0.3 < point.auroc.estimate < 0.7 and not point.reliable for at, point in line.items() if at < 8)
    assert all(point.auroc.estimate == 1 and point.reliable for at, point in line.items() if at >= 8)
    [found] = [one for one in worth(planted) if one.signal == "min-prob"]
    assert (found.settled, found.ahead) == (8, 8)
    [never] = [one for one in worth(planted) if one.signal == "rolling-entropy (now)"]
    assert never.ahead in (None, 8, 12)  # the window leaves the token behind
    best = best_at(planted, 12)
    assert best is not None
    assert best.auroc.estimate == 1


def test_waiting_is_worth_what_the_rest_of_the_answer_adds(planted: list[Point]) -> None:
    early, late = (by_tokens(planted, "min-prob")[at] for at in (4, 16))
    assert early.waiting is not None
    assert early.waiting.low > 0.2
    assert early.waiting.estimate == pytest.approx(1 - early.auroc.estimate)
    assert late.waiting is not None
    assert late.waiting.estimate == 0


def test_by_share_all_answers_are_read_and_by_tokens_only_those_that_go_on(planted: list[Point]) -> None:
    shares = {point.at: point for point in planted if (point.axis, point.signal) == ("share", "min-prob")}
    assert list(shares) == pytest.approx([tenths / 10 for tenths in range(1, 11)])
    assert {point.n for point in shares.values()} == {80}
    assert (shares[0.3].auroc.estimate < 0.7, shares[0.4].auroc.estimate) == (True, 1)  # 8 of 20 tokens
    assert max(by_tokens(planted, "min-prob")) == 16  # 24 is beyond the end


def test_a_token_that_gives_everything_away_does_so_within_types_too(planted: list[Point]) -> None:
    assert by_tokens(planted, "min-prob")[16].within.estimate == 1


def test_the_learned_signal_is_read_as_its_trigger_would(run: Path) -> None:
    """By the fit that did not see the answer, at every token: the highest of all ends of sentences and of now."""
    [group] = load_runs([run])
    here = read_study(group)
    labels = here.labels("wrong")
    found = learned(here.answers, here.outcomes, labels)
    fold = folds(here.outcomes.questions, labels.tolist(), 5, 1)
    rows = np.flatnonzero(fold != 0)
    router = MidRouter({}, fit([here.answers[row].tokens for row in rows], labels[rows]))
    watch = Watch("mid-lr", Trigger(router, 0.0, "mid"))
    held = np.flatnonzero(fold == 0)
    expected = trajectories([here.answers[row] for row in held], [watch])["mid-lr"]
    assert found.whole[0, held, : expected.shape[1]] == pytest.approx(expected, nan_ok=True)


def test_a_type_that_tells_everything_is_shown_beside_the_words_and_warned_of() -> None:
    """Open questions are answered wrongly, two-way ones rightly, and nothing but that shows in the tokens."""
    rng = np.random.default_rng(4)
    wrong = [row % 2 == 0 for row in range(60)]
    texts = [f"Who wrote number {row}?" if one else f"Is it {row} or more?" for row, one in enumerate(wrong)]
    here = study(wrong, [doubtful(0, 6, 0.4 if one else 0.9, rng) for one in wrong], texts)
    points = curves(here, "wrong", count=100)
    last = {point.signal: point for point in points if (point.axis, point.at) == ("share", 1.0)}
    assert last[RULE].auroc.estimate == 1
    assert last["min-prob"].auroc.estimate > 0.9
    assert not any(point.reliable for point in points), "the tokens tell no more than the type does"
    assert all(math.isnan(point.within.estimate) for point in last.values())
    assert any("Warning: 30 of the 30 questions with the label" in line for line in told(here, "wrong", points))


def test_the_learned_counterpart_of_the_bar_is_read_along_too(planted: list[Point]) -> None:
    line = by_tokens(planted, LEARNED)
    assert line[4].auroc.estimate < 0.75
    assert line[16].auroc.estimate > 0.95


def uneven() -> Study:
    """Short wrong answers of doubt .5; long ones of .3 that is .9 from the sixth token on if wrong, else .6."""
    short = [said(*[(" a", 0.5)] * 3)] * 30
    right = [said(*[(" a", 0.7)] * 5, *[(" b", 0.4)] * 9)] * 30
    wrong = [said(*[(" a", 0.4)] * 5, *[(" b", 0.1)] * 9)] * 30
    return study([True] * 30 + [False] * 30 + [True] * 30, [*short, *right, *wrong])


def test_an_answer_that_has_ended_is_no_longer_compared() -> None:
    here = uneven()
    labels, values = here.labels("wrong"), here.streamed["min-prob"]
    naive = [float(auroc(labels, after(values, np.minimum(here.lengths, t)))) for t in (2, 8)]
    assert naive == pytest.approx([1.0, 0.5])  # fades, because the short answers' doubt stands still
    line = by_tokens(curves(here, "wrong", count=50), "min-prob")
    assert [line[at].auroc.estimate for at in (2, 8)] == [1.0, 1.0]
    assert [(line[at].n, line[at].yes) for at in (2, 3, 8)] == [(90, 60), (60, 30), (60, 30)]


def test_the_bar_is_held_against_the_same_survivors() -> None:
    """Words give away the short wrong answers only: once those are over, the bar knows nothing any more."""
    texts = [f"easy {n % 7}?" for n in range(30)] + [f"other {n % 9} {n}?" for n in range(60)]
    here = uneven()
    here = study([*here.labels("wrong").astype(bool)], here.answers, texts)
    points = curves(here, "wrong", count=100)
    bar = by_tokens(points, BAR)
    words = from_words(here.outcomes, here.labels("wrong"))
    labels = here.labels("wrong")
    for at, rows in ((0, slice(None)), (8, slice(30, None))):
        expected = np.mean([float(auroc(labels[rows], split[rows])) for split in words.whole])
        assert bar[at].auroc.estimate == pytest.approx(expected)
    assert bar[8].auroc.estimate < bar[0].auroc.estimate
    ahead = by_tokens(points, "min-prob")[8].ahead
    assert ahead is not None
    assert ahead.estimate == pytest.approx(1 - bar[8].auroc.estimate)
    assert bar[8].ahead is None


def test_a_curve_ends_where_too_few_answers_go_on() -> None:
    lengths = [4] * 40 + [30] * 20
    wrong = [number % 2 == 0 for number in range(60)]
    here = study(wrong, [said(*[(" a", 0.5)] * length) for length in lengths])
    assert max(by_tokens(curves(here, "wrong", count=20), "min-prob")) == 24
    assert max(by_tokens(curves(here, "wrong", count=20, fewest_left=21), "min-prob")) == 3


def test_the_bands_cover_the_true_auroc_as_often_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first token's chance is normal with means one deviation apart, whose AUROC is .76.

    What is fitted is not what is looked at here, and takes its time: see `test_refits`.
    """
    monkeypatch.setattr(
        "flarekit.eval.analysis.information.curves.from_words",
        lambda outcomes, *_, **__: fixed(np.array([*range(60)], dtype=np.float64)),
    )
    monkeypatch.setattr("flarekit.eval.analysis.information.curves.learned", lambda *_, **__: fixed(np.ones((60, 2))))
    rng = np.random.default_rng(3)
    true, held, rounds = 0.5 * math.erfc(-0.5), 0, 24
    for _ in range(rounds):
        wrong = rng.random(60) < 0.5
        doubts = 1 / (1 + np.exp(rng.normal(size=60) + wrong))  # a wrong answer's token is less likely
        here = study(wrong.tolist(), [said((" a", float(doubt)), (" b", 0.9999)) for doubt in doubts])
        here = replace(here, streamed={"min-prob": here.streamed["min-prob"]})
        found = by_tokens(curves(here, "wrong", count=150), "min-prob")[1].auroc
        held += found.low <= true <= found.high
    assert held >= rounds - 5


def test_a_signal_that_knows_nothing_is_not_found_among_many() -> None:
    """However many signals and places are looked through."""
    rng = np.random.default_rng(5)
    found = 0
    for _ in range(4):
        wrong = (rng.random(60) < 0.5).tolist()
        here = study(wrong, [doubtful(0, 10, float(rng.uniform(0.3, 0.9)), rng) for _ in wrong])
        found += any(point.reliable for point in curves(here, "wrong", count=100))
    assert found <= 1


def test_there_is_no_curve_without_both_kinds() -> None:
    here = study([False] * 30, [said((" a", 0.5), (" b", 0.5))] * 30)
    assert curves(here, "wrong") == []
    assert told(here, "wrong", []) == [
        "wrong: no curve, only 0 of 30 questions are of the kind, and 5 of either are needed."
    ]
    with pytest.raises(DataError, match="too few answers are of a kind for any curve"):
        information_csv([])
    with pytest.raises(ConfigError, match="at least 1 survivor and 2 resamples"):
        curves(here, "wrong", count=0)


# --- a recorded run ---------------------------------------------------------------------------------------------------

LINES = ["Emma was born in Reus.", "She was born in Reus, Ann said.", "It is not known where she was born."]


def answered(key: int) -> list[Trace]:
    """Half of the questions are answered wrongly alone, and all of them rightly with help."""
    name, alone = str(key), "Rome" if key % 2 else "Reus"
    probe = [Probe("p-ik", 0.5 + 0.4 * (key % 2), "weak")] if key < 30 else []
    return [
        trace(name, "closed-book", alone, *probe, segment(LINES[key % 3])),
        trace(name, "rag", "Reus", segment("Reus.")),
    ]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    questions = [Question(str(key), f"Where was {WORDS[key % 5]} {key} born?", ("Reus",)) for key in range(40)]
    return write_run(tmp_path / "run", questions, [one for key in range(40) for one in answered(key)])


def test_a_run_is_read_with_its_probes(run: Path) -> None:
    [group] = load_runs([run])
    here = read_study(group)
    assert here.outcomes.arms == ["closed-book", "rag"]
    assert here.labels("helps").sum() == 20
    assert np.isnan(here.asked["p-ik"]).sum() == 10
    probe = by_tokens(curves(here, "wrong", count=20), "p-ik")
    assert (probe[0].n, probe[0].auroc.estimate) == (30, 1)
    with pytest.raises(ConfigError, match="'strong' is no arm; there are closed-book, rag"):
        read_study(group, helped="strong")
    with pytest.raises(ConfigError, match="'watch' is no arm"):
        read_study(group, weak="watch")


def test_rows_are_flat_and_the_chart_finds_what_it_draws_in_them(run: Path) -> None:
    [group] = load_runs([run])
    here = read_study(group)
    rows = information_rows(here, curves(here, "wrong", count=20))
    first = rows[0]
    assert (first["signal"], first["moment"], first["axis"], first["at"]) == (BAR, "pre", "tokens", 0)
    assert all(value is None or isinstance(value, str | int | float) for row in rows for value in row.values())
    assert not any(isinstance(value, float) and math.isnan(value) for row in rows for value in row.values())
    for axis in ("tokens", "share"):
        spec = information_chart(rows, target="wrong", axis=axis, data={"name": "information"}).to_dict()
        assert spec["data"] == {"name": "information"}
        assert "datasets" not in spec
        colours, shapes = (spec["layer"][3]["encoding"][part]["scale"]["range"] for part in ("color", "shape"))
        looks = list(zip(colours, shapes, strict=True))
        assert len(set(looks)) == len(looks) == len({row["signal"] for row in rows})
    assert len(SHOWN) <= 6
    with pytest.raises(ConfigError, match="nothing to draw of 'hurts' by tokens"):
        information_chart(rows, target="hurts")


def flarekit(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["flarekit", "information", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "120")
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_the_command_prints_a_table_and_writes_the_figures(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert flarekit(monkeypatch, run, "--out", tmp_path / "out") == 0
    out = capsys.readouterr().out
    for text in (BAR, "min-prob", "wrong: 20 of 40", "hurts: no curve, only 0 of 40"):
        assert text in out
    heading = next(line for line in out.splitlines() if line.startswith("signal")).split()
    assert heading == ["signal", "moment", "n", *map(str, COLUMNS), "end", "within"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"information.csv", "information-wrong-tokens.svg", "information-helps-share.png"} <= names
    with (tmp_path / "out" / "information.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["target"] for row in rows} == {"wrong", "helps"}
    ats = [float(row["at"]) for row in rows if (row["signal"], row["axis"], row["target"]) == (BAR, "tokens", "wrong")]
    assert all(left < right for left, right in pairwise(ats))


def test_bad_input_is_one_line_and_status_2(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, complaint in (
        ((tmp_path / "nowhere",), "not a run directory"),
        ((run, "--helped", "strong"), "'strong' is no arm"),
        ((run, "--weak", "direct"), "'direct' is no arm"),
        ((run, "--out", run / "manifest.json"), "cannot be written"),
    ):
        out = () if "--out" in arguments else ("--out", tmp_path / "out")
        assert flarekit(monkeypatch, *arguments, *out) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert complaint in said.err
        assert len(said.err.splitlines()) == 1
        assert not (tmp_path / "out").exists()

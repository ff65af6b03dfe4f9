"""Comparing recorded runs: hand-written traces, whose scores, costs and curves are worked out in the comments."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fakes.run_directories import retrieved, segment, trace, write_run
from flarekit.cli.evaluation.compare import compare
from flarekit.costs import Prices, load_prices, price
from flarekit.errors import ConfigError, DataError
from flarekit.eval.analysis.frontier.curves import oracle, points, pre_curves
from flarekit.eval.analysis.table import table, unequal
from flarekit.eval.analysis.wording import number, pairs, share, verdict
from flarekit.eval.data.dataset import Question
from flarekit.eval.results.groups import load_runs
from flarekit.policies.spec import parse_spec
from flarekit.trace import Costs, HandedOver, Probe, Trace

ANSWERS = {"a": "Paris", "b": "Rome", "c": "Oslo", "d": "Cairo"}
QUESTIONS = [Question(key, f"Question {key}?", (answer,), (f"{key}1", f"{key}2")) for key, answer in ANSWERS.items()]
ENTROPY = {"a": 0.2, "b": 2.0, "c": 1.0, "d": 1.0}

# Closed-book is right on a; rag is right on a, b and c and finds one of the two supporting passages. Every answer has
# 4 tokens and reads a prompt of 100; rag's reads 200. So closed-book costs 100 x 0.25 + 4 = 29 and rag 200 x 0.25 + 4
# + 1 = 55. A probe reads 20 and generates 1: 20 x 0.25 + 1 = 6.
CLOSED = {key: answer if key == "a" else "Nowhere" for key, answer in ANSWERS.items()}
RAG = {key: answer if key != "d" else "Nowhere" for key, answer in ANSWERS.items()}


def closed_book(key: str) -> Trace:
    return trace(key, "closed-book", CLOSED[key], segment("It is in there"))


def rag(key: str) -> Trace:
    return trace(
        key, "rag", RAG[key], retrieved(f"Question {key}?", f"{key}1", "x"), segment("It is in there", prompt=200)
    )


def pre_retrieve(key: str, threshold: float = 1.0) -> Trace:
    """Retrieves where the entropy is 1 or more: on b, c and d."""
    like = rag(key) if ENTROPY[key] >= threshold else closed_book(key)
    probe = Probe("first-token-entropy", ENTROPY[key], "weak", prompt_tokens=20, generated_tokens=1, seconds=0.5)
    return trace(key, "pre-retrieve", like.answer, probe, *like.events, seconds=1.5)


def flare(key: str, theta: float = 0.8) -> Trace:
    """Right everywhere; two of its six tokens are a discarded draft."""
    name = "flare" if theta == 0.8 else f"flare:theta={theta}"
    events = (
        segment("A draft", kept=0),
        retrieved("draft", f"{key}1", f"{key}2"),
        segment("It is in there", prompt=200),
    )
    return trace(key, name, ANSWERS[key], *events, seconds=2.0)


def four_arms(ids: str = "abcd") -> Iterator[Trace]:
    for make in (closed_book, rag, pre_retrieve, flare):
        yield from (make(key) for key in ids)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", QUESTIONS, four_arms())


def test_the_table_holds_the_scores_and_the_mean_costs_of_every_arm(run: Path) -> None:
    [group] = load_runs([run])
    rows = {row.policy: row for row in table(group)}
    assert list(rows) == ["closed-book", "rag", "pre-retrieve", "flare"]
    assert [row.f1.estimate for row in rows.values()] == [0.25, 0.75, 0.75, 1.0]
    assert [row.exact_match.estimate for row in rows.values()] == [0.25, 0.75, 0.75, 1.0]
    assert [row.recall for row in rows.values()] == [0.0, 0.5, 0.375, 1.0]
    assert rows["closed-book"].price.estimate == 29
    assert rows["rag"].price.estimate == 55
    assert rows["pre-retrieve"].price.estimate == pytest.approx((35 + 3 * 61) / 4)
    means = rows["flare"].means
    assert (means["prompt"], means["generated"], means["discarded"]) == (300, 6, 2)
    assert (means["retrievals"], means["escalations"], means["seconds"]) == (1, 0, 2.0)


def test_differences_are_paired_with_the_first_arm_or_with_the_baseline_asked_for(run: Path) -> None:
    [group] = load_runs([run])
    base, *others = table(group)
    assert base.versus is None
    assert [row.versus.f1.estimate for row in others if row.versus] == [0.5, 0.5, 0.75]
    by_rag = {row.policy: row.versus for row in table(group, baseline="rag")}
    assert by_rag["rag"] is None
    assert by_rag["closed-book"] is not None
    assert by_rag["closed-book"].price.estimate == -26
    assert by_rag["closed-book"].price.low == by_rag["closed-book"].price.high  # 26 less on every question
    with pytest.raises(ConfigError, match=r"'ragg' is no arm of hotpotqa; there are: closed-book, rag"):
        table(group, baseline="ragg")


def test_unfinished_arms_are_compared_on_the_questions_that_both_finished(tmp_path: Path) -> None:
    traces = [*(closed_book(key) for key in "abcd"), *(rag(key) for key in "bc")]
    [group] = load_runs([write_run(tmp_path / "run", QUESTIONS, traces)])
    rows = table(group)
    assert [row.n for row in rows] == [4, 2]
    assert rows[1].versus is not None
    assert (rows[1].versus.n, rows[1].versus.f1.estimate) == (2, 1.0)
    assert "different numbers of questions (2 to 4)" in unequal(rows)


def test_what_was_searched_tells_groups_apart_where_it_was_chosen(tmp_path: Path) -> None:
    searched: list[dict[str, str | None]] = [
        {"corpus": None, "retriever": "bm25"},
        {"corpus": None, "retriever": "bm25:k1=1.2"},
        {"corpus": "passages", "retriever": "hybrid"},
        {"corpus": "words", "retriever": "bm25"},
    ]
    runs = [write_run(tmp_path / str(n), QUESTIONS, [rag("a")], settings=one) for n, one in enumerate(searched)]
    assert [group.models for group in load_runs(runs)] == [
        "tiny",
        "tiny (bm25:k1=1.2)",
        "tiny over passages (hybrid)",
        "tiny over words",
    ]


def test_runs_of_one_dataset_and_engine_are_merged_and_others_kept_apart(tmp_path: Path) -> None:
    first = write_run(tmp_path / "1", QUESTIONS, [closed_book("a"), closed_book("b")])
    second = write_run(tmp_path / "2", QUESTIONS, [closed_book("c"), rag("a")], strong="big")
    other = write_run(tmp_path / "3", QUESTIONS, [rag("a")], dataset="musique")
    bigger = write_run(tmp_path / "4", QUESTIONS, [rag("a")], weak="small")
    groups = load_runs([first, second, other, bigger, first])
    assert [(group.dataset, group.models) for group in groups] == [
        ("hotpotqa", "tiny + big"),
        ("musique", "tiny"),
        ("hotpotqa", "small"),
    ]
    assert {policy: list(arm.results) for policy, arm in groups[0].arms.items()} == {
        "closed-book": ["a", "b", "c"],
        "rag": ["a"],
    }


def test_an_answer_that_two_runs_hold_is_refused(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, QUESTIONS, [rag("a")]) for name in ("1", "2")]
    with pytest.raises(DataError, match=r"rag answered question 'a' in another of these runs too"):
        load_runs(runs)


def test_a_torn_last_line_is_ignored_and_a_malformed_earlier_one_is_not(run: Path) -> None:
    file = run / "traces" / "1.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    [group] = load_runs([run])
    assert list(group.arms["rag"].results) == ["a", "b", "c"]
    file.write_bytes(whole.replace(b'"policy"', b'"polixy"', 1))
    with pytest.raises(DataError, match=r"traces/1\.jsonl:1: policy: Field required"):
        load_runs([run])


def test_what_is_no_run_is_told_in_one_line(tmp_path: Path, run: Path) -> None:
    with pytest.raises(DataError, match="not a run directory"):
        load_runs([tmp_path])
    (run / "manifest.json").write_text('{"format": 4}')
    with pytest.raises(DataError, match=r"manifest\.json: format: Input should be 1, 2 or 3"):
        load_runs([run])
    with pytest.raises(DataError, match="no question is finished"):
        load_runs([write_run(tmp_path / "empty", QUESTIONS, [])])


def test_the_pre_generation_curve_follows_from_its_two_ends(run: Path) -> None:
    [group] = load_runs([run])
    curve = pre_curves(group, "pre-retrieve", Prices())
    # By falling entropy: nobody; b; then c and d, which share a value; then a.
    assert [point.threshold for point in curve] == [None, 2.0, 1.0, 0.2]
    assert [point.means["f1"] for point in curve] == [0.25, 0.5, 0.75, 0.75]
    assert [point.means["price"] for point in curve] == [35, 41.5, 54.5, 61]
    assert [point.means["retrievals"] for point in curve] == [0, 0.25, 0.75, 1]
    assert [point.means["seconds"] for point in curve] == [1.5] * 4


def test_the_curve_passes_through_the_arm_that_was_run(run: Path) -> None:
    [group] = load_runs([run])
    row = next(row for row in table(group) if row.policy == "pre-retrieve")
    point = next(point for point in pre_curves(group, "pre-retrieve", Prices()) if point.threshold == 1.0)
    assert point.means["f1"] == row.f1.estimate
    assert {name: point.means[name] for name in row.means} == pytest.approx(dict(row.means))


def test_a_curve_is_derived_only_from_an_end_that_looks_up_as_many_passages(tmp_path: Path) -> None:
    traces = [*(closed_book(key) for key in "abcd"), *(replace(rag(key), policy="rag:k=1") for key in "abcd")]
    traces += [pre_retrieve(key) for key in "abcd"]
    [group] = load_runs([write_run(tmp_path / "one", QUESTIONS, traces)])
    assert pre_curves(group, "pre-retrieve", Prices()) == []
    traces += [replace(pre_retrieve(key), policy="pre-retrieve:k=1") for key in "abcd"]
    [group] = load_runs([write_run(tmp_path / "two", QUESTIONS, traces)])
    found = pre_curves(group, "pre-retrieve", Prices())
    assert {point.line for point in found} == {"derived pre-retrieve · k=1"}


def test_twins_are_told_apart_only_where_they_look_up_as_many_passages(tmp_path: Path) -> None:
    traces = [replace(flare(key, 0.5), policy="flare:k=1") for key in "abcd"] + [pre_retrieve(key) for key in "abcd"]
    [group] = load_runs([write_run(tmp_path / "one", QUESTIONS, traces)])
    [ours, theirs, _] = pairs(group, table(group), "pre-retrieve")[0]
    assert (ours.policy, theirs.policy) == ("flare:k=1", "pre-retrieve"), "an arm beside the baseline, and no twin"
    traces += [replace(pre_retrieve(key), policy="pre-retrieve:k=1") for key in "abcd"]
    [group] = load_runs([write_run(tmp_path / "two", QUESTIONS, traces)])
    assert [(ours.policy, theirs.policy) for ours, theirs, _ in pairs(group, table(group), None)] == [
        ("flare:k=1", "pre-retrieve:k=1")
    ]


def test_without_both_ends_there_is_no_derived_curve(tmp_path: Path) -> None:
    traces = [*(closed_book(key) for key in "ab"), *(pre_retrieve(key) for key in "ab")]
    [group] = load_runs([write_run(tmp_path / "run", QUESTIONS, traces)])
    assert pre_curves(group, "pre-retrieve", Prices()) == []


def test_the_oracle_takes_the_better_answer_and_the_cheaper_of_equals(run: Path) -> None:
    [group] = load_runs([run])
    best = oracle(group, Prices())
    assert best is not None
    assert [result.trace.policy for result in best.results.values()] == ["closed-book", "rag", "rag", "closed-book"]


def test_mid_generation_arms_are_points_of_one_line_in_order_of_their_threshold(tmp_path: Path) -> None:
    traces = [flare("a", theta) for theta in (0.5, 0.8, 0.3)]
    [group] = load_runs([write_run(tmp_path / "run", QUESTIONS, traces)])
    found = points(group, table(group), Prices())
    assert {point.line for point in found} == {"flare"}
    assert sorted(point.threshold or 0 for point in found) == [0.3, 0.5, 0.8]  # .8 is flare's default


def test_a_specification_is_taken_apart_into_family_threshold_and_the_rest() -> None:
    spec = parse_spec("flare:theta=0.6,beta=0.2")
    assert (spec.family, spec.threshold, spec.curve) == ("flare", 0.6, "flare:beta=0.2")
    assert parse_spec("rag").threshold is None


def test_a_price_counts_every_token_once() -> None:
    costs = Costs(
        prompt_tokens=1000,
        cached_tokens=500,
        generated_tokens=100,
        discarded_tokens=20,
        strong_prompt_tokens=600,
        strong_cached_tokens=200,
        strong_generated_tokens=40,
        retrievals=2,
        seconds=3.0,
    )
    # The weak model read 400, 300 of them cached; the strong one 600, 200 of them cached.
    expected = 100 * 0.25 + 300 * 0.025 + 60 * 1 + 400 * 0.75 + 200 * 0.075 + 40 * 3 + 2 * 1
    assert price(costs, Prices()) == pytest.approx(expected)
    assert price(costs, Prices(second=2)) == pytest.approx(expected + 3 * 2)
    assert price(costs, Prices(**dict.fromkeys(Prices.model_fields.keys() - {"unit"}, 0.0))) == 0


def test_prices_come_from_a_file_and_a_misspelt_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text("generated: 0.4\nunit: USD per million questions\n")
    assert load_prices(file) == Prices(generated=0.4, unit="USD per million questions")
    file.write_text("generatd: 0.4\n")
    with pytest.raises(ConfigError, match=r"prices\.yaml: generatd: .*the fields are generated, prompt"):
        load_prices(file)
    with pytest.raises(DataError, match=r"none\.yaml: cannot be read"):
        load_prices(tmp_path / "none.yaml")


def test_the_verdict_sets_the_mid_generation_arm_beside_its_twin(run: Path) -> None:
    [group] = load_runs([run])
    answers, costs = verdict(group, table(group), baseline=None, prices=Prices())
    assert answers == (
        "On hotpotqa (n = 4, tiny) flare answers with F1 1.00; that is .25 more than pre-retrieve "
        "(95% interval of the difference .00 to .75): no difference can be shown."
    )
    # 300 x 0.25 + 6 + 1 = 82 against 54.5
    assert costs.startswith("It costs more: 82 against 54 generated-token equivalents a question, 95% interval")


def test_shares_and_counts_are_written_to_be_read() -> None:
    assert [share(value) for value in (0.214, -0.04, 1.0, -0.001, 0)] == [".21", "−.04", "1.00", "−.001", ".00"]
    assert [number(value) for value in (0, 0.421, 3.14, 17.2, 1250, -110.8)] == [
        "0",
        "0.42",
        "3.1",
        "17",
        "1,250",
        "−111",
    ]


def test_the_command_prints_a_table_and_writes_the_report_beside_nothing_that_it_read(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    app = typer.Typer()
    app.command()(compare)
    shown = CliRunner().invoke(app, [str(run)], env={"COLUMNS": "80"})
    assert shown.exit_code == 0
    assert "flare" in shown.stdout
    assert max(len(line) for line in shown.stdout.splitlines()) <= 80
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    folder = tmp_path / f"report-{run.name}"
    written = {file.name for file in folder.iterdir()}
    assert {"accuracy-cost.csv", "accuracy-cost.png", "accuracy-cost.svg", "report.html", "table.csv"} <= written
    lines = list(csv.DictReader((folder / "table.csv").open()))
    assert [line["policy"] for line in lines] == ["closed-book", "rag", "pre-retrieve", "flare"]
    assert (lines[3]["f1_difference"], lines[3]["baseline"]) == ("0.75", "closed-book")


def test_the_command_prints_the_table_as_json(run: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(compare)
    shown = CliRunner().invoke(app, [str(run), "--json", "--out", str(tmp_path / "out")])
    [section] = json.loads(shown.stdout)
    assert section["dataset"] == "hotpotqa"
    assert section["arms"][1]["f1"]["estimate"] == 0.75
    assert (tmp_path / "out" / "report.html").is_file()


def test_tokens_of_the_strong_model_and_hand_overs_are_counted_apart(tmp_path: Path) -> None:
    handed = trace(
        "a",
        "escalate",
        "Paris",
        segment("It is", prompt=100),
        HandedOver("weak", "strong", "It is"),
        segment("in Paris", prompt=110, role="strong"),
    )
    [row] = table(load_runs([write_run(tmp_path / "run", QUESTIONS, [handed], strong="big")])[0])
    assert (row.means["strong"], row.means["escalations"], row.means["prompt"]) == (112, 1, 210)
    assert row.price.estimate == 100 * 0.25 + 2 + 110 * 0.75 + 2 * 3


# --- what is no server's count, and what is to be known of the data ---------------------------------------------------


def reckoned_run(folder: Path, *, estimated: bool, notes: list[str] | None = None) -> Path:
    """closed-book reads 100 prompt tokens, 64 of them cached; its probe 20, of them 16."""
    traces = []
    for key in ANSWERS:
        said = segment("It is in there", cached=64)
        said.cached_estimated = estimated
        probe = Probe("p-ik", 0.5, "weak", 20, 16, 1, cached_estimated=estimated)
        traces.append(trace(key, "closed-book", CLOSED[key], probe, said))
    run = write_run(folder, QUESTIONS, traces)
    if notes:
        manifest = json.loads((run / "manifest.json").read_bytes())
        manifest["dataset"]["notes"] = notes
        (run / "manifest.json").write_text(json.dumps(manifest))
    return run


def shown(run: Path) -> tuple[str, str]:
    """What a terminal and the report's page say."""
    app = typer.Typer()
    app.command()(compare)
    report = run.with_name(f"report-{run.name}")
    ended = CliRunner().invoke(app, [str(run), "--out", str(report)], env={"COLUMNS": "200"})
    assert ended.exit_code == 0, ended.output
    return ended.output, (report / "report.html").read_text()


def test_reckoned_cached_tokens_are_told_apart_wherever_costs_are_shown(tmp_path: Path) -> None:
    sentence = "Of the cached prompt tokens 100% are reckoned and not counted by a server"
    for page in shown(reckoned_run(tmp_path / "sweep", estimated=True)):
        assert sentence in page
    for page in shown(reckoned_run(tmp_path / "live", estimated=False)):
        assert "are reckoned and not counted by a server" not in page
    [row] = table(load_runs([tmp_path / "sweep"])[0])
    assert (row.means["cached"], row.means["reckoned"]) == (80, 80)
    lines = list(csv.DictReader((tmp_path / "report-sweep" / "table.csv").read_text().splitlines()))
    assert [float(line["reckoned"]) for line in lines] == [80]


def test_notes_of_the_data_stand_beside_the_scores(tmp_path: Path) -> None:
    note = "wiki.json: answers have no aliases; scores are lower than with them."
    for page in shown(reckoned_run(tmp_path / "run", estimated=False, notes=[note])):
        assert note in page


def test_a_trace_from_before_probes_told_what_was_reckoned_still_opens(tmp_path: Path) -> None:
    run = reckoned_run(tmp_path / "run", estimated=True)
    for file in (run / "traces").iterdir():
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for line in lines:
            for event in line["events"]:
                if event["kind"] == "probe":
                    del event["cached_estimated"]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    [row] = table(load_runs([run])[0])
    assert row.means["reckoned"] == 64

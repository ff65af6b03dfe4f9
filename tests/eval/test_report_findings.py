"""What a report finds beyond its plot: each part where the run holds what it needs, else the reason for its absence."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import vl_convert

from fakes.groups import Make, group_of, handed_over, looked_up, plain, sometimes
from fakes.run_directories import segment, trace
from flarekit.costs import Prices
from flarekit.eval.analysis.analyze import analyze, summarize
from flarekit.eval.analysis.frontier.frontiers import frontiers
from flarekit.eval.report.findings import Findings, draw_findings
from flarekit.eval.report.frontier_parts import frontier_parts
from flarekit.eval.report.parts import Figure, Table, part_csv
from flarekit.eval.results.groups import Group
from flarekit.trace import Trace


def voted(key: str, policy: str, right: bool) -> Trace:
    """Three samples, of which the first won."""
    sample = segment("It is in there")
    return trace(key, policy, "Paris" if right else "Rome", sample, *(replace(sample, kept=0) for _ in range(2)))


ENDS: dict[str, Make] = {
    "closed-book": plain,
    "rag": looked_up,
    "strong": handed_over,
    "self-consistency:samples=3": voted,
}
SWEPT: dict[str, Make] = {
    "pre-retrieve": sometimes(0.45, looked_up),
    "mid-retrieve": sometimes(0.75, looked_up),
    "escalate": sometimes(0.5, handed_over),
    "cascade": sometimes(0.5, handed_over),
}
SKILLS = {"closed-book": 0.3, "rag": 0.6, "strong": 0.7, "self-consistency:samples=3": 0.35}


def findings(group: Group) -> Findings:
    return draw_findings(analyze(summarize(group)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return findings(group_of(tmp_path_factory.mktemp("whole"), ENDS | SWEPT, SKILLS))


def part(found: Findings, key: str) -> Figure | Table:
    return next(one for one in found.parts if one.key == key)


def test_a_run_of_all_kinds_has_all_parts(whole: Findings) -> None:
    assert [one.key for one in whole.parts] == ["moments", "frontiers", "ratings", "information", "budgets", "balances"]
    assert whole.missing == []
    assert all(part_csv(one).count("\n") > 1 for one in whole.parts)


def test_the_verdict_is_that_of_the_moments(whole: Findings) -> None:
    assert len(whole.verdict) == 2
    assert "retrieving during generation answers with F1" in whole.verdict[0]
    assert whole.verdict[1].startswith("Chosen for F1")


def test_every_comparison_is_a_row_with_its_corrected_chance(whole: Findings) -> None:
    rows = part(whole, "moments").rows
    assert [(row[0].text, row[0].small) for row in rows] == [  # type: ignore[index]
        ("mid − pre", "retrieving"),
        ("mid − post", "escalating"),
    ]
    assert all(len(row) == len(part(whole, "moments").columns) for row in rows)  # type: ignore[union-attr]


def test_every_choice_of_every_menu_has_its_drawing(whole: Findings) -> None:
    for one in whole.parts:
        if isinstance(one, Figure):
            choices = {" ".join(some) for some in itertools.product(*one.menus.values())}
            assert choices == set(one.specs), one.key
            assert all('"points"' in json.dumps(spec) for spec in one.specs.values()), "the page supplies the data"
            assert all(vl_convert.vegalite_to_svg(drawn(one, spec)) for spec in one.specs.values())


def drawn(figure: Figure, spec: Any) -> dict[str, Any]:
    return {**spec, "datasets": {"points": list(figure.rows)}, "width": 300}


def test_the_frontier_of_every_moment_begins_at_the_cheapest_end_and_never_falls(whole: Findings) -> None:
    rows = part(whole, "frontiers").rows
    for moment in ("pre", "mid", "oracle"):
        scores = [row["score"] for row in rows if (row["action"], row["moment"]) == ("retrieve", moment)]  # type: ignore[call-overload]
        assert scores == sorted(scores)
    assert max(r["score"] for r in rows if r["moment"] == "oracle") >= max(r["score"] for r in rows)  # type: ignore[call-overload]


def test_the_oracles_stand_beside_each_other(whole: Findings) -> None:
    rows = [row for row in part(whole, "ratings").rows if row[0].small == "retrieving"]  # type: ignore[index]
    best = [row[2].value for row in rows[2:]]  # type: ignore[index]
    assert [row[0].text for row in rows] == ["pre", "mid", "oracle", "two-arm oracle", "cross-fitted oracle"]  # type: ignore[index]
    assert best == sorted(best, key=lambda value: -float(value or 0))
    drawn = {row["moment"] for row in part(whole, "frontiers").rows}  # type: ignore[call-overload]
    assert {"oracle", "two-arm oracle", "cross-fitted oracle"} <= drawn


def test_frontiers_are_drawn_within_k(tmp_path: Path) -> None:
    arms = ENDS | SWEPT | {"rag:k=1": looked_up, "pre-retrieve:k=1": sometimes(0.45, looked_up)}
    figure, _ = frontier_parts(frontiers(group_of(tmp_path, arms, SKILLS), Prices()), Prices())
    choices = figure.menus["Action"]  # type: ignore[union-attr]
    assert dict(choices) == {
        "retrieve": "retrieving, k = 3",
        "retrieve-k1": "retrieving, k = 1",
        "escalate": "escalating",
        "any": "retrieving and escalating, k = 3",
        "any-k1": "retrieving and escalating, k = 1",
    }
    of_one = {row["policy"] for row in figure.rows if row["action"] == "retrieve-k1"}  # type: ignore[call-overload]
    assert of_one <= {"closed-book", "rag:k=1", "pre-retrieve:k=1", "", "cross-fitted oracle"}


def test_the_table_of_moments_tells_the_weights_of_arms_that_decide(whole: Findings) -> None:
    table = part(whole, "moments")
    place = [column.name for column in table.columns].index("Deciding")  # type: ignore[union-attr]
    for row in table.rows:
        shown = [float(weight.rstrip("%")) / 100 for weight in row[place].text.split(", ")]  # type: ignore[index]
        assert shown == pytest.approx([float(weight) for weight in str(row[place].value).split()], abs=0.006)  # type: ignore[index]


def test_a_run_of_two_arms_says_what_is_left_out_and_why(tmp_path: Path) -> None:
    found = findings(group_of(tmp_path, {"rag": looked_up, "flare": looked_up}, {"rag": 0.5, "flare": 0.6}))
    assert found.verdict
    assert found.parts == []
    assert any("has no answers of closed-book" in reason for reason in found.missing)
    assert any("a split needs closed-book" in reason for reason in found.missing)


def test_a_handful_of_questions_is_not_enough_for_a_curve(tmp_path: Path) -> None:
    keys = [f"{place:03}" for place in range(12)]
    found = findings(group_of(tmp_path, ENDS, SKILLS, keys))
    assert any("needs 30 questions" in reason for reason in found.missing)

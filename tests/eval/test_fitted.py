"""Nobody is judged by the questions that their router was fitted on: calibration, comparison, and all who read runs.

Every router here is really trained, on the outcomes of toy questions; the run then asks those questions again, half of
them by other ids, some of them twice.
"""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fakes.run_directories import retrieved, segment, tokens, write_run
from fakes.run_directories import trace as answered
from fakes.toy_outcomes import toy, word_encoder
from flarekit.engines import encoders as encoder
from flarekit.errors import DataError
from flarekit.escalation.outcomes import Outcomes
from flarekit.escalation.registry import KINDS
from flarekit.escalation.split import normalize_question
from flarekit.escalation.trained import save_router
from flarekit.escalation.training import train_router
from flarekit.eval.analysis.frontier.families import matrix
from flarekit.eval.analysis.information.study import read_study
from flarekit.eval.analysis.table import table
from flarekit.eval.calibration.calibrate import calibrate, parse_target
from flarekit.eval.calibration.promises import explain
from flarekit.eval.data.dataset import Question
from flarekit.eval.replay.readings import probe_readings
from flarekit.eval.results.fitted import lessons_of
from flarekit.eval.results.groups import cautions, load_runs
from flarekit.eval.results.outcomes import read_outcomes
from flarekit.eval.runs.recorded import read_run
from flarekit.trace import Chosen, Probe, Trace

LIGHT = [name for name in KINDS if name != "routellm-bert"]
"""Kinds that need no network: the one that fine-tunes one has the same manifest."""
SCORING = [name for name in LIGHT if KINDS[name].shape != "chooser"]
TOY = toy()


@pytest.fixture(autouse=True, scope="module")
def words() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "load_encoder", functools.cache(word_encoder))
        yield


@pytest.fixture(scope="module")
def routers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each kind."""
    made = tmp_path_factory.mktemp("routers")
    said = {
        id_: tokens("It was Ann. So the answer is Ann.", 0.9 if TOY.scores[row, 0] >= 0.5 else 0.4)
        for row, id_ in enumerate(TOY.ids)
    }
    judged = {id_: [row % 2 == 0] * 3 + [row % 3 == 0] * 2 for row, id_ in enumerate(TOY.ids)}
    for kind in LIGHT:
        answers = judged if KINDS[kind].shape == "answer" else said
        save_router(train_router(kind, TOY, answers=answers, strong="rag"), made / kind)
    return made


def spec_of(kind: str, folder: Path) -> str:
    match KINDS[kind].shape:
        case "chooser":
            return f"{kind}:router={folder}"
        case "stream":
            return f"mid-retrieve:threshold=0.5,router={folder}"
        case "answer":
            return f"{kind}:router={folder}"
        case _:
            return f"pre-retrieve:threshold=0.5,router={folder}"


def fitted_texts(folder: Path) -> set[str]:
    ids = json.loads((folder / "router.json").read_bytes())["split"]["calibration"]
    return {normalize_question(TOY.questions[TOY.ids.index(id_)]) for id_ in ids}


def asked() -> list[Question]:
    """The toy questions, every second by another id; then ten of them once more, in capitals."""
    first = [
        Question(id_ if row % 2 else f"elsewhere-{row}", TOY.questions[row], ("Ann",), (), "bridge")
        for row, id_ in enumerate(TOY.ids)
    ]
    return [*first, *(replace(one, id=f"again-{one.id}", text=one.text.upper()) for one in first[:10])]


def run_of(path: Path, policy: str, kind: str) -> Path:
    """Closed-book, rag, and the policy, which measured its router wherever that is measured before the answer."""
    traces: list[Trace] = []
    for row, question in enumerate(asked()):
        plain, helped = segment("It was Ann. So the answer is Ann."), segment("So the answer is Ann.", prompt=200)
        before: list[object] = []
        if KINDS[kind].shape in ("score", "asked"):
            before = [Probe(kind, row / 100, "weak")]
        elif KINDS[kind].shape == "chooser":
            before = [Chosen(kind, "closed-book", 0.0)]
        after = [Probe(kind, row / 100, "weak")] if KINDS[kind].shape == "answer" else []
        found = retrieved("?", "p0")
        for spec, events in (("closed-book", [plain]), ("rag", [found, helped]), (policy, [*before, plain, *after])):
            made = answered(question.id, spec, "Ann" if row % 3 else "Bob", *events)
            made.question = question.text
            traces.append(made)
    return write_run(path, asked(), traces)


@pytest.mark.parametrize("kind", SCORING)
def test_a_threshold_is_calibrated_on_questions_that_are_new_to_the_router(
    routers: Path, tmp_path: Path, kind: str
) -> None:
    policy = spec_of(kind, routers / kind)
    made = calibrate(read_run(run_of(tmp_path / "run", policy, kind)), policy, parse_target("rate=1"))
    known = [normalize_question(one.text) in fitted_texts(routers / kind) for one in asked()]
    assert made.left_out == sum(known) >= 63
    assert made.reached.n == len(known) - sum(known)
    assert f"{sum(known)} questions were left out, because {kind} was trained on them." in explain(made)


@pytest.mark.parametrize("kind", LIGHT)
def test_an_arm_is_compared_on_questions_that_are_new_to_its_router(routers: Path, tmp_path: Path, kind: str) -> None:
    policy = spec_of(kind, routers / kind)
    path = run_of(tmp_path / "run", policy, kind)
    new = {one.id for one in asked() if normalize_question(one.text) not in fitted_texts(routers / kind)}
    [group] = load_runs([path])
    assert set(group.arms[policy].results) == new
    assert [row.n for row in table(group)] == [100, 100, len(new)]
    assert set(matrix(group).questions) == new
    [caution] = cautions(group)
    assert (
        caution == f"{policy}: {100 - len(new)} answers don't count, because its router was fitted on their questions."
    )
    assert set(read_outcomes([path], arms=["closed-book", policy]).ids) == new
    for reading in probe_readings(read_run(path), "pre"):
        assert set(reading.values) == new
    if KINDS[kind].shape in ("score", "asked"):
        study = read_study(group)
        known = {
            id_
            for id_, value in zip(study.outcomes.ids, study.asked[f"{kind} ({routers / kind})"], strict=True)
            if not np.isnan(value)
        }
        assert known == new


def test_a_router_whose_manifest_holds_ids_alone_is_known_by_them_and_by_what_those_questions_say(
    routers: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(routers / "tfidf-lr", tmp_path / "old")
    manifest = json.loads((folder / "router.json").read_bytes())
    del manifest["digests"]
    manifest["split"]["calibration"] = ["hotpotqa/q1", "q3"]  # two sources used "q1"
    (folder / "router.json").write_text(json.dumps(manifest))
    policy = spec_of("tfidf-lr", folder)
    [group] = load_runs([run_of(tmp_path / "run", policy, "tfidf-lr")])
    left = set(group.questions) - set(group.arms[policy].results)
    assert left == {"q1", "again-q1", "q3", "again-q3"}


def test_the_routers_of_a_chooser_s_arms_count_too(routers: Path, tmp_path: Path) -> None:
    arm = spec_of("knn", routers / "knn")
    names = ["closed-book", f"small/{arm}"]
    outcomes = Outcomes(
        TOY.ids[:12], [f"Another {n}?" for n in range(12)], names, TOY.scores[:12, :2], TOY.costs[:12, :2]
    )
    save_router(train_router("adaptive-rag", outcomes, arms=names), tmp_path / "chooser")
    found = lessons_of(f"adaptive-rag:router={tmp_path / 'chooser'}")
    assert found.digests > lessons_of(arm).digests
    assert not found.unknown


def test_a_router_that_is_gone_is_told(routers: Path, tmp_path: Path) -> None:
    policy = f"pre-retrieve:threshold=0.5,router={tmp_path / 'gone'}"
    [group] = load_runs([run_of(tmp_path / "run", policy, "tfidf-lr")])
    assert len(group.arms[policy].results) == 100
    [caution] = cautions(group)
    assert f"{tmp_path / 'gone'} does not say which questions its router was fitted on" in caution


def test_a_run_that_asks_nothing_new_judges_nothing(routers: Path, tmp_path: Path) -> None:
    policy = spec_of("tfidf-lr", routers / "tfidf-lr")
    known = [one for one in asked() if normalize_question(one.text) in fitted_texts(routers / "tfidf-lr")]
    path = write_run(tmp_path / "run", known, [answered(one.id, policy, "Ann", segment("Ann")) for one in known])
    with pytest.raises(DataError, match="answers don't count, because its router was fitted on their questions"):
        load_runs([path])
    alone = [answered(one.id, "closed-book", "Ann", segment("Ann")) for one in known]
    run = read_run(write_run(tmp_path / "alone", known, alone))
    with pytest.raises(DataError, match="tfidf-lr was trained on every question that closed-book answered"):
        calibrate(run, policy, parse_target("rate=0.3"))

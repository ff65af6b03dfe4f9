"""`flarekit router`: training any kind, saying what it is, and refusing bad input in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from fakes.run_directories import segment, trace, write_run
from flarekit.cli import main
from flarekit.cli.router import Kind, Target
from flarekit.escalation.outcomes import TARGETS
from flarekit.escalation.registry import KINDS
from flarekit.eval.data.dataset import Question

Flarekit = Callable[..., tuple[int, str, str]]


@pytest.fixture
def flarekit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Flarekit:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["flarekit", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        return status, *capsys.readouterr()

    monkeypatch.setenv("COLUMNS", "300")
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty questions: those that ask who are answered with help only, those that ask when without it only."""
    questions = [Question(f"q{n}", f"{'Who' if n % 2 else 'When'} was the film {n}?", ("Emma",)) for n in range(40)]
    traces = []
    for n, question in enumerate(questions):
        said = ["So it was. The answer is Ann.", "The answer is Emma."]
        for place, policy in enumerate(("closed-book", "rag")):
            text = said[place if n % 2 else 1 - place]
            traces.append(trace(question.id, policy, text.split()[-1].strip("."), segment(text)))
    return write_run(tmp_path_factory.mktemp("runs") / "run", questions, traces)


def test_the_command_knows_every_kind_and_target() -> None:
    assert get_args(Kind) == tuple(KINDS)
    assert get_args(Target) == TARGETS


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("tfidf-lr", ("'wrong': the weak arm is wrong", "AUROC", "--policy pre-retrieve:router=")),
        ("adaptive-rag", ("which arm to take", "score of an oracle", "--policy adaptive-rag:router=")),
        ("mid-lr", ("a learned trigger", "AUROC", "--policy mid-retrieve:router=")),
        ("in-context", ("asked of an engine", "--policy pre-retrieve:router=")),
    ],
)
def test_a_router_is_trained_and_described(
    flarekit: Flarekit, run: Path, tmp_path: Path, kind: str, says: tuple[str, ...]
) -> None:
    status, out, _ = flarekit("router", "train", run, "--kind", kind, "--out", tmp_path / "r")
    assert status == 0
    for one in says:
        assert one in out
    assert flarekit("router", "info", tmp_path / "r") == (0, out, "")
    assert json.loads((tmp_path / "r" / "router.json").read_bytes())["kind"] == kind


def test_a_router_of_two_arms_that_was_saved_before_three_were_asked_for_opens_with_a_caution(
    flarekit: Flarekit, run: Path, tmp_path: Path
) -> None:
    command = ("router", "train", run, "--kind", "avengers-pro", "--option", "clusters=2", "--out", tmp_path / "r")
    status, _, err = flarekit(*command)
    assert status == 2
    assert "a router of the kind avengers-pro chooses among three different arms at least, not closed-book, rag" in err
    with pytest.MonkeyPatch.context() as before:
        before.setitem(KINDS, "avengers-pro", replace(KINDS["avengers-pro"], fewest=2))
        assert "caution" not in flarekit(*command)[1]
    status, out, _ = flarekit("router", "info", tmp_path / "r")
    assert status == 0
    assert "caution      a router of the kind avengers-pro chooses among three" in out


def test_options_reach_the_router(flarekit: Flarekit, run: Path, tmp_path: Path) -> None:
    given = ("--option", "c=0.5", "--target", "helps", "--seed", 3, "--test-share", 0.5, "--helped", "rag")
    assert flarekit("router", "train", run, "--out", tmp_path, *given)[0] == 0
    made = json.loads((tmp_path / "router.json").read_bytes())
    assert (made["hyperparameters"]["c"], made["target"], made["seed"]) == (0.5, "helps", 3)
    assert len(made["split"]["test"]) == 20


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--strong", "flare"), "'flare' is no arm; there are closed-book, rag"),
        (("--option", "k"), "an option is written NAME=VALUE, not 'k'"),
        (("--option", "seed=3"), "a tfidf-lr router has no option 'seed'; there are c"),
        (("--option", "k=3"), "a tfidf-lr router has no option 'k'; there are c"),
        (("--option", "c=many"), "c=many"),
        (("--alpha", "0.5"), "a tfidf-lr router has no option 'alpha'"),
        (("--test-share", "2"), "between 0 and 1"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    flarekit: Flarekit, run: Path, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    status, out, err = flarekit("router", "train", run, "--out", tmp_path / "r", *arguments)
    assert (status, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "r").exists()


def test_a_folder_that_is_no_router_has_no_description(flarekit: Flarekit, tmp_path: Path) -> None:
    status, out, err = flarekit("router", "info", tmp_path)
    assert (status, out) == (2, "")
    assert "router.json does not exist; `flarekit router train` makes such a folder" in err


def test_files_hold_no_tokens_for_a_trigger_during_generation(flarekit: Flarekit, tmp_path: Path) -> None:
    lines = [
        {"id": str(n), "question": f"Who {n}?", "answers": ["a"], "no_retrieval": "ab"[n % 2], "one_retrieval": "a"}
        for n in range(20)
    ]
    (tmp_path / "o.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    status, _, err = flarekit("router", "train", tmp_path / "o.jsonl", "--kind", "mid-lr", "--out", tmp_path / "r")
    assert status == 2
    assert "needs recorded tokens of every answer; train it on run directories" in err


def test_importing_the_routers_names_loads_no_classifier_and_no_encoder() -> None:
    code = (
        "import sys, flarekit.escalation; "
        "print([m for m in ('torch', 'sentence_transformers', 'transformers', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

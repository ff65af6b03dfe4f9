"""Recorded runs: whatever is changed or lost in one is noticed when it is opened, and named."""

from __future__ import annotations

import asyncio
import json
import shutil
import warnings
from pathlib import Path

import pytest
from conftest import Flarekit
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.run_directories import segment, trace, write_run
from fakes.scripted_vllm import ScriptedVLLM
from flarekit.errors import DataError, RunWarning
from flarekit.eval.data.dataset import Question
from flarekit.eval.runs.recorded import read_run
from flarekit.eval.runs.runs import make_config, run
from flarekit.eval.runs.sealed import seal_line, unseal_line

FILES = ["manifest.json", "questions.jsonl", "tokens.jsonl", "traces/closed-book.jsonl", "traces/rag.jsonl"]


async def ask(out: Path, limit: int = 4) -> int:
    """Carry a run out, or finish it; how many completions it asked for."""
    with ScriptedVLLM() as server:
        plan = {"policies": ["closed-book", "rag"], "engine": server.url, "limit": limit, "out": out}
        await run(make_config(plan))
        return len(server.completions)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    asyncio.run(ask(out))
    return out


def copied(whole: Path, folder: Path) -> Path:
    shutil.copytree(whole, folder / "run")
    return folder / "run"


def test_a_run_that_is_whole_opens_without_a_word(whole: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_run(whole).answered) == 8
    assert json.loads((whole / "manifest.json").read_bytes())["records"]["traces/rag.jsonl"] == 4


def same(one: Path, other: Path) -> bool:
    """Whether two manifests say the same, and differ in the spaces between at most."""
    try:
        return bool(json.loads(one.read_bytes()) == json.loads(other.read_bytes()))
    except ValueError:
        return False


@given(st.sampled_from([b'{"a":"x"}\n', b'["x",1]\n']), st.integers(1, 99), st.integers(0, 200), st.integers(0, 7))
def test_a_flipped_bit_of_a_line_is_noticed(line: bytes, number: int, place: int, bit: int) -> None:
    content = bytearray(seal_line(line, number)[:-1])
    content[place % len(content)] ^= 1 << bit
    with pytest.raises(ValueError, match=r"checksum|written|lost|order"):
        unseal_line(bytes(content), number)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FILES), st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_noticed_and_the_file_is_named(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, name: str, where: float, bit: int
) -> None:
    run = copied(whole, tmp_path_factory.mktemp("flipped"))
    content = bytearray((run / name).read_bytes())
    content[int(where * len(content))] ^= 1 << bit
    (run / name).write_bytes(content)
    if name == "manifest.json" and same(run / name, whole / name):
        return
    with pytest.raises(DataError) as error:
        read_run(run)
    assert str(run) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", FILES[1:])
@pytest.mark.parametrize("place", [0, 1, -1])
def test_a_lost_line_is_noticed_and_named(whole: Path, tmp_path: Path, name: str, place: int) -> None:
    file = copied(whole, tmp_path) / name
    lines = file.read_bytes().splitlines(keepends=True)
    del lines[place]
    file.write_bytes(b"".join(lines))
    with pytest.raises(DataError) as error:
        read_run(file.parents[name.count("/")])
    where = f"{file}: the last line is lost" if place == -1 else f"{file}:{place + 1}: a line before it is lost"
    assert where in str(error.value)


@pytest.mark.parametrize("change", ["swapped", "doubled", "emptied", "removed", "taken from another"])
@pytest.mark.parametrize("name", FILES[1:])
def test_lines_in_another_order_or_place_are_noticed(whole: Path, tmp_path: Path, name: str, change: str) -> None:
    file = copied(whole, tmp_path) / name
    lines = file.read_bytes().splitlines(keepends=True)
    match change:
        case "swapped":
            lines[0], lines[1] = lines[1], lines[0]
        case "doubled":
            lines.insert(1, lines[0])
        case "emptied":
            lines = []
        case "taken from another":
            lines[0] = (whole / "traces" / "closed-book.jsonl").read_bytes().splitlines(keepends=True)[1]
    file.write_bytes(b"".join(lines))
    if change == "removed":
        file.unlink()
    with pytest.raises(DataError) as error:
        read_run(tmp_path / "run")
    assert str(file) in str(error.value)


def test_an_answer_lost_from_a_run_that_was_killed_is_noticed_by_its_number(whole: Path, tmp_path: Path) -> None:
    run = copied(whole, tmp_path)
    manifest = json.loads((run / "manifest.json").read_bytes())
    from flarekit.eval.runs.recorded import sealed_manifest

    killed = sealed_manifest(manifest | {"records": {"questions.jsonl": 4}})  # as it was when the run began
    (run / "manifest.json").write_text(json.dumps(killed))
    assert len(read_run(run).answered) == 8
    # Not from the file of the very last answer: whether that was ever written nobody can tell.
    file = next(file for file in sorted((run / "traces").iterdir()) if b'"record":8' not in file.read_bytes())
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-2]))
    with pytest.raises(DataError, match=r"traces: answer \d of [78] is lost from the end of its file"):
        read_run(run)


async def test_a_run_that_lost_its_last_answers_is_finished_with_a_warning(whole: Path, tmp_path: Path) -> None:
    run = copied(whole, tmp_path)
    file = run / "traces" / "rag.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:2]))
    with pytest.warns(RunWarning, match=r"rag.jsonl: the last 2 lines are lost, and asked anew"):
        assert await ask(run) == 2
    assert read_run(run).answered == read_run(whole).answered
    assert await ask(run) == 0


async def test_a_run_with_a_damaged_line_is_not_gone_on_with(whole: Path, tmp_path: Path) -> None:
    run = copied(whole, tmp_path)
    file = run / "traces" / "rag.jsonl"
    file.write_bytes(file.read_bytes().replace(b"0", b"1", 1))
    with pytest.raises(DataError, match=r"rag.jsonl:1: it is not what was written"):
        await ask(run, limit=5)


def test_a_run_from_before_there_were_checksums_opens_with_a_warning(flarekit: Flarekit, tmp_path: Path) -> None:
    answer = trace("a", "rag", "Riga", segment("It is Riga."))
    old = write_run(tmp_path / "old", [Question("a", "Which town?", ("Riga",))], [answer])
    with pytest.warns(RunWarning, match="recorded without checksums"):
        assert len(read_run(old).answered) == 1
    ended = flarekit("compare", old)
    assert (ended.status, "warning: " in ended.err, str(old) in ended.err) == (0, True, True)


@given(st.sampled_from([b'{"a":1}', b"[1,2]"]), st.integers(1, 10**6), st.integers(-3, 3))
def test_a_line_is_read_back_at_its_own_place_alone(line: bytes, number: int, off: int) -> None:
    sealed = seal_line(line + b"\n", number).removesuffix(b"\n")
    assert json.loads(sealed)
    if off == 0 or number + off < 1:
        assert unseal_line(sealed, number) == line
    else:
        with pytest.raises(ValueError, match=r"lost|added"):
            unseal_line(sealed, number + off)

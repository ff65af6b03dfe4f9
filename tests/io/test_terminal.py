"""What is printed: no text of others' reaches a terminal as more than text, and any stream takes any character."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Flarekit
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table
from rich.text import Text

import flarekit as package
from fakes.run_directories import segment, trace, write_run
from fakes.scripted_vllm import ScriptedVLLM, chunk, events, usage
from flarekit.eval.analysis.analyze import summarize
from flarekit.eval.data.dataset import Question
from flarekit.eval.report.terminal import print_tables
from flarekit.eval.results.groups import load_runs
from flarekit.io.terminal import console, line, shown
from flarekit.retrieval import Passage
from flarekit.retrievers import write_corpus

OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
HOSTILE = [
    "\x1b]52;c;cm0gLXJmIH4=\x07",
    "\x1b[2J\x1b[H",
    "\x9b31m",
    "\x1bP$q\x1b\\",
    "a\rb\b\b",
    "user\u202egnp.exe",
    "\u2066isolated\u2069",
    r"\[/b]",
    "[/b]",
    "[bold red]",
    "\\",
    "[link=http://evil]x[/link]",
    ":boom:",
    "\ud83d half",
    "caf\udce9",
]


def harmless(printed: str) -> bool:
    """Whether nothing is in it that a terminal obeys, but for colours."""
    return not OBEYED.search(re.sub(r"\x1b\[[0-9;]*m", "", printed))


@given(st.text())
def test_shown_text_is_obeyed_by_no_terminal_and_says_what_was_there(text: str) -> None:
    assert not OBEYED.search(shown(text))
    assert shown(shown(text)) == shown(text)
    assert "\n" not in line(text)
    if not OBEYED.search(text):
        assert shown(text) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_a_console_shows_text_as_it_is_in_lines_and_tables(text: str) -> None:
    out = io.StringIO()
    shows = console(file=out, force_terminal=True, width=200)
    shows.print(text)
    shows.print(Text(text, style="bold"))
    grid = Table(title=text)
    grid.add_column(text)
    grid.add_row(text)
    shows.print(grid)
    assert harmless(out.getvalue())
    assert shown(text) in out.getvalue() or OBEYED.search(text), "what is no control character stays as it is"


@pytest.mark.parametrize("text", [text for text in HOSTILE if text.isascii() or "\u202e" in text])
def test_an_answer_and_a_models_name_are_printed_as_text(flarekit: Flarekit, text: str) -> None:
    whole = [chunk(character, [place]) for place, character in enumerate(f"The answer is {text} x")]
    whole.append(chunk(".", [len(whole)], finish="stop"))
    with ScriptedVLLM(lambda _: iter([events(*whole, usage(10, len(whole)))]), model=text) as server:
        for options in ([], ["--json"]):
            ended = flarekit("ask", "Who?", "--engine", server.url, "--policy", "closed-book", *options)
            assert ended.status == 0, ended.err
            assert harmless(ended.out + ended.err)
        assert text in json.loads(ended.out)["text"]
        assert harmless(flarekit("doctor", "--engine", server.url).out)
        assert harmless(flarekit("doctor", "--engine", server.url, "--model", f"other{text}").err)


@pytest.mark.parametrize("text", HOSTILE)
def test_titles_and_ids_of_passages_are_printed_as_text(flarekit: Flarekit, tmp_path: Path, text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    write_corpus(tmp_path / "c.jsonl", [Passage(f"i{text}", f"fjord {text}", f"fjord {text}")])
    for options in ([], ["--json"]):
        ended = flarekit("index", "search", tmp_path / "c.jsonl", "fjord", *options)
        assert ended.status == 0
        assert harmless(ended.out)
        assert not options or json.loads(ended.out)["title"] == f"fjord {text}"


@pytest.mark.parametrize("text", HOSTILE)
def test_an_error_quotes_what_it_is_about_as_text(flarekit: Flarekit, text: str) -> None:
    text = text.replace("/", "|").replace("\ud83d", "")  # no name of a file holds them
    ended = flarekit("index", "info", f"no{text}where")
    assert ended.status == 2
    assert harmless(ended.err)
    assert line(f"no{text}where") in ended.complaint


@pytest.mark.parametrize("text", HOSTILE)
def test_tables_of_a_run_show_its_names_as_text(tmp_path: Path, text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    answer = trace("a", f"rag{text}", "Riga", segment("It is Riga."))
    run = write_run(tmp_path / "run", [Question("a", "Which?", ("Riga",))], [answer], dataset=text, weak=text)
    groups = load_runs([run])
    for shows in (Console(file=io.StringIO(), width=400), console(file=io.StringIO(), width=400)):
        print_tables([summarize(group) for group in groups], shows)
        assert harmless(shows.file.getvalue())  # type: ignore[attr-defined]
        assert shown(text) in shows.file.getvalue()  # type: ignore[attr-defined]


def test_only_one_module_prints() -> None:
    """`say`, `say_json` and `console` are the ways out; anything else would print others' text as it came."""
    roots = [Path(package.__file__).parent / name for name in (".", "eval", "escalation", "retrievers")]
    for path in {file for root in roots for file in root.rglob("*.py")} - {roots[0] / "io" / "terminal.py"}:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("print", "typer.echo", "typer.secho", "Console", "click.echo"), path
                assert not called.startswith(("sys.stdout", "sys.stderr")), path


# --- streams of any encoding ----------------------------------------------------------------------------------------

COMMANDS = [
    ["policies"],
    ["policies", "flare"],
    ["signals"],
    ["--help"],
    ["serve", "--help"],
    ["index", "search", "{corpus}", "Fjord"],
    ["index", "search", "{corpus}", "Fjord", "--json"],
    ["index", "info", "nöwhere – ∞"],
]


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "utf-8", "cp437", "utf-16", "ascii:strict"])
def test_every_command_prints_to_a_stream_of_any_encoding(tmp_path: Path, encoding: str) -> None:
    write_corpus(tmp_path / "c.jsonl", [Passage("日本", "Fjord – ∞", "Fjord 😀 é")])
    program = (
        "import json, sys\nfrom flarekit.cli import main\n"
        "for arguments in json.loads(sys.argv.pop()):\n"
        "    sys.argv[1:] = arguments\n"
        "    try: main()\n"
        "    except SystemExit as end: assert end.code in (0, 2), end\n"
    )
    commands = [[part.format(corpus=tmp_path / "c.jsonl") for part in command] for command in COMMANDS]
    ended = subprocess.run(
        [sys.executable, "-c", program, json.dumps(commands)],
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONIOENCODING": encoding, "COLUMNS": "200"},
    )
    name = encoding.partition(":")[0]
    assert (ended.returncode, b"Traceback" in ended.stderr) == (0, False), ended.stderr.decode(name, "replace")
    [found] = [text for text in ended.stdout.decode(name).splitlines() if text.startswith('{"id"')]
    assert json.loads(found)["text"] == "Fjord 😀 é"
    assert "flarekit: n" in ended.stderr.decode(name)


LATIN = os.fsdecode(b"caf\xe9")


def program(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    code = "from flarekit.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, cwd=cwd)


def test_a_file_whose_name_is_latin_1_is_read_and_written_like_any_other(tmp_path: Path) -> None:
    (tmp_path / LATIN).mkdir()
    (tmp_path / LATIN / f"{LATIN}.md").write_text("# Coffee\nA fjord.")
    (tmp_path / LATIN / f"{LATIN}.txt").write_text("A fjord.")
    for arguments in (
        ["index", "build", LATIN, "--out", f"{LATIN}.index"],
        ["index", "info", f"{LATIN}.index"],
        ["index", "search", f"{LATIN}.index", "fjord"],
        ["index", "search", f"{LATIN}.index", "fjord", "--json"],
        ["world", "--out", f"{LATIN}.world"],
    ):
        ended = program(*arguments, cwd=tmp_path)
        assert (ended.returncode, b"Traceback" in ended.stderr) == (0, False), ended.stderr
        assert ended.stdout.decode() == ended.stdout.decode("utf-8", "backslashreplace")
        assert b"caf\\xe9" in ended.stdout or b"caf\\\\xe9" in ended.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["ask", LATIN, "--engine", "http://127.0.0.1:9"],
        ["ask", "Who?", "--engine", LATIN],
        ["ask", "Who?", "--engine", "http://127.0.0.1:9", "--policy", LATIN],
        ["run", "--policy", LATIN, "--engine", "http://127.0.0.1:9", "--out", "x"],
        ["index", "search", "c.jsonl", LATIN],
        ["policies", LATIN],
        ["doctor", "--engine", LATIN],
        ["index", "search", LATIN, "fjord"],
        ["compare", LATIN],
        [LATIN],
        ["index", "build", "x", "--out", "y", "--kind", LATIN],
    ],
)
def test_an_argument_that_is_not_utf_8_is_one_line_and_status_2(tmp_path: Path, arguments: list[str]) -> None:
    ended = program(*arguments, cwd=tmp_path)
    assert (ended.returncode, b"Traceback" in ended.stderr) == (2, False), ended.stderr
    assert rb"caf\xe9" in ended.stderr or rb"caf\udce9" in ended.stderr

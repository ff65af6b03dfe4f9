"""The examples of CONTRIBUTING.md, run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[1] / "CONTRIBUTING.md"
SECTIONS = PAGE.read_text().split("\n## ")[1:]
EXAMPLES = {
    section.splitlines()[0]: code
    for section in SECTIONS
    for code in re.findall(r"```python\n(.*?)```", section, re.DOTALL)
}
SHOWN = {
    "A signal": "name='second'",
    "An action": "Warn(name='warn')",
    "A policy": "doubtful-word:threshold=0.8",
    "A router": "P(help)",
    "A retriever": "title='Riga'",
    "A dataset": "answers=('Riga',)",
}


def test_there_is_an_example_of_everything_that_people_add() -> None:
    assert list(EXAMPLES) == list(SHOWN)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_as_it_stands(name: str, tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", EXAMPLES[name]], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert SHOWN[name] in ended.stdout


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short(name: str) -> None:
    assert len(EXAMPLES[name].splitlines()) <= 30

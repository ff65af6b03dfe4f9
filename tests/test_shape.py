"""The shape of the code: what a newcomer may rely on when looking for something."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("flarekit", "retrievers", "escalation", "eval")
CORE = ("actions", "engines", "io", "policies", "prompts", "session", "signals", "stats", "text")


def sources() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *PACKAGES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [Path(name) for name in listed.split("\0") if name.endswith(".py") and (ROOT / name).is_file()]


def test_a_folder_holds_at_most_12_modules() -> None:
    counts = Counter(path.parent for path in sources())
    assert {str(folder): count for folder, count in counts.items() if count > 12} == {}


def test_every_package_says_what_it_holds() -> None:
    packages = [path for path in sources() if path.name == "__init__.py"]
    assert [str(path) for path in packages if not ast.get_docstring(ast.parse((ROOT / path).read_text()))] == []


@pytest.mark.parametrize(
    "folder", [*(f"flarekit/{name}" for name in CORE), "flarekit/serve", "flarekit/cli", *PACKAGES[1:]]
)
def test_the_page_on_the_architecture_names_every_folder(folder: str) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text() + (ROOT / "docs" / "architecture.svg").read_text()
    assert re.search(rf"\b{Path(folder).name}/", page)


def test_policy_specs_are_taken_apart_in_one_module() -> None:
    parsing = [str(path) for path in sources() if 'partition(":")' in (ROOT / path).read_text()]
    assert parsing == ["flarekit/policies/spec.py"]

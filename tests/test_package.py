"""What is packed and exported: one import name, and nothing else at the top level of anybody's environment."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import flarekit

ROOT = Path(__file__).resolve().parents[1]


def test_everything_exported_exists_and_is_sorted() -> None:
    assert all(hasattr(flarekit, name) for name in flarekit.__all__)
    assert len(set(flarekit.__all__)) == len(flarekit.__all__)


def test_the_core_imports_nothing_from_around_it() -> None:
    """Dependencies point one way: a bare `import flarekit` loads no retriever, router, dataset or command."""
    around = "('flarekit.retrievers', 'flarekit.escalation', 'flarekit.eval', 'flarekit.cli')"
    code = f"import sys, flarekit; print([m for m in sys.modules if m.startswith({around})])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_wheel_holds_the_package_alone(tmp_path: Path) -> None:
    # A copy of what git tracks, so that a build leaves nothing in the tree.
    source = tmp_path / "source"
    source.mkdir()
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    archive = subprocess.run(
        ["tar", "-c", "--null", "-T", "-"], cwd=ROOT, input=listed, capture_output=True, check=True
    ).stdout
    subprocess.run(["tar", "-x"], cwd=source, input=archive, check=True)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    subprocess.run(build, capture_output=True, check=True)
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"flarekit"}
    ours = (
        "session/session.py",
        "py.typed",
        "policies/base.py",
        "retrievers/lexical/bm25.py",
        "escalation/training.py",
        "eval/runs/runs.py",
    )
    for needed in ours:
        assert f"flarekit/{needed}" in names
    assert "flarekit/eval/report/templates/report.css" in names

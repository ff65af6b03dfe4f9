"""The examples, run as their first lines say, on the real server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TestServer

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
pytestmark = pytest.mark.vllm


def call(*arguments: str | Path) -> str:
    done = subprocess.run(list(map(str, arguments)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wrap_a_server_prints_events_as_they_come(vllm_server: TestServer) -> None:
    out = call(sys.executable, EXAMPLES / "wrap_a_server.py", vllm_server.url, "What is the capital of Norway?")
    assert out.startswith("fired")
    assert "committed" in out
    assert "answer: " in out


def test_pre_against_mid_prints_the_differences_and_writes_a_report(vllm_server: TestServer, tmp_path: Path) -> None:
    out = call(sys.executable, EXAMPLES / "pre_against_mid.py", vllm_server.url, tmp_path / "run", "3")
    assert "mid-retrieve:threshold=0.5" in out
    assert (tmp_path / "run" / "report" / "report.html").exists()


def test_a_trigger_of_ones_own(vllm_server: TestServer) -> None:
    assert call(sys.executable, EXAMPLES / "your_own_trigger.py", vllm_server.url).count("retrievals") == 3


def test_a_multi_hop_evaluation_from_a_file(vllm_server: TestServer, tmp_path: Path) -> None:
    flarekit = Path(sys.executable).with_name("flarekit")
    run = ("run", EXAMPLES / "multi_hop.yaml", "--engine", vllm_server.url, "--limit", "2", "--out", tmp_path / "run")
    call(flarekit, *run)
    assert "iter-retgen" in call(flarekit, "compare", tmp_path / "run", "--out", tmp_path / "report")

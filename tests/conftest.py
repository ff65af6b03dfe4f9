"""What tests share: the program, one vLLM server for the whole session, the shared data, and a browser.

The slow ones run last. Each of the last three is skipped, with its reason, where it is not there.
`FLAREKIT_TEST_ENGINE=URL` tests against a server that already runs instead of starting one.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
import stamina
import structlog
from hypothesis import settings

from fakes.postgres import postgres
from flarekit.cli import main
from flarekit.engines.local.launch import local_server

with suppress(ImportError):
    importlib.import_module("setuptools")  # before anything imports distutils, or vLLM's own import of it fails
SMALL = "smollm2-135m"
# How long a test takes says how busy the machine is, not whether the code is right.
settings.register_profile("flarekit", deadline=None)
settings.load_profile("flarekit")


@dataclass(frozen=True, slots=True)
class TestServer:
    """A server to test against; `pid` is 0 where this session did not start it."""

    __test__ = False
    url: str
    model: str
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    status: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """What is said of bad input: the one line that begins with the program's name, below any progress."""
        said = self.err.splitlines()
        assert "Traceback" not in self.err
        assert [line for line in said if line.startswith("flarekit: ")] == said[-1:], self.err
        return said[-1].removeprefix("flarekit: ")


Flarekit = Callable[..., Ended]


@pytest.fixture
def flarekit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Flarekit]:
    """The program, run in this process and an empty folder, without the waits between its retries."""
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["flarekit", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        return Ended(status, *capsys.readouterr())

    monkeypatch.setenv("COLUMNS", "300")  # so that no table is wrapped
    handlers = logging.getLogger().handlers[:]
    with stamina.set_testing(True, attempts=2):
        yield run
    # A server that was started here logs to this test's own stderr.
    logging.getLogger().handlers[:] = handlers
    structlog.reset_defaults()


@pytest.fixture(scope="session", autouse=True)
def few_fits() -> Iterator[None]:
    """Fitted signals are fitted anew without each of 5 groups of questions, in place of 25: all else is the same.

    `test_refits` holds the intervals of the 25.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flarekit.eval.analysis.information.refits.GROUPS", 5)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: ("browser" in item.keywords) + 2 * ("vllm" in item.keywords))


@pytest.fixture(scope="session")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    if url := os.environ.get("FLAREKIT_TEST_ENGINE"):
        base = url.rstrip("/").removesuffix("/v1") + "/v1"
        models = httpx.get(f"{base}/models", trust_env=False).raise_for_status().json()["data"]
        yield TestServer(base, models[0]["id"])
        return
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    with local_server(SMALL, log=log) as server:
        processes = psutil.Process(server.pid).children(recursive=True)
        yield TestServer(server.url, server.model, server.pid)
        died = not all(process.is_running() for process in processes)
    assert not died, f"vLLM died during the tests:\n{_death(log.read_text(errors='replace').splitlines())}"
    # Here rather than in a test of its own, which would have to start one more server.
    assert len(processes) >= 2
    assert not [process for process in processes if process.is_running()], "vLLM left processes behind"


def _death(log: list[str]) -> str:
    """The worker's or the engine's own first words of it: what follows are the many requests that it took along."""
    first = next((place for place, line in enumerate(log) if "ERROR" in line and "APIServer" not in line), len(log))
    return "\n".join(line[:300] for line in [*log[first : first + 40], "...", *log[-10:]])


@pytest.fixture(scope="session")
def milvus_lite(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("milvus_lite", reason="needs milvus-lite")
    return str(tmp_path_factory.mktemp("milvus") / "passages.db")


@pytest.fixture(scope="session")
def database() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared data are not beside this repository")
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium is installed (make browser)")

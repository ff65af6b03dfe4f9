import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from flarekit.engines.local import launch, supervise
from flarekit.engines.local.launch import local_server, serve_command, serve_environment
from flarekit.engines.local.log import last_reason
from flarekit.errors import ConfigError, DataError, EngineUnavailable

# Stands for vLLM: a process whose child ignores SIGTERM.
STUBBORN = """
import signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, 1); print(1); time.sleep(60)"],
                         stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
{then}
"""


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_a_cpu_gets_float32_and_the_flags_that_work_there(tmp_path: Path) -> None:
    command = serve_command(str(tmp_path / "owner-model"), 8300, gpu=False)
    assert command[:3] == [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    assert {"--enforce-eager", "--enable-prompt-tokens-details"} <= set(command)
    assert option(command, "--dtype") == "float32"
    assert option(command, "--max-model-len") == "4096"
    assert option(command, "--block-size") == "32"
    assert "--no-enable-chunked-prefill" in command
    assert option(command, "--max-num-batched-tokens") == option(command, "--max-model-len")
    assert option(command, "--port") == "8300"


def test_a_server_that_embeds_reads_as_much_as_its_model_can(tmp_path: Path) -> None:
    for gpu in (False, True):
        command = serve_command(str(tmp_path), 8300, gpu=gpu, embed=True)
        assert option(command, "--runner") == "pooling"
        assert not {"--max-model-len", "--max-num-batched-tokens", "--enable-prompt-tokens-details"} & set(command)


def test_a_gpu_keeps_vllms_own_defaults() -> None:
    command = serve_command("owner/model", 8300, gpu=True)
    assert "--enable-prompt-tokens-details" in command
    assert not {"--enforce-eager", "--dtype", "--max-model-len", "--gpu-memory-utilization"} & set(command)
    assert option(command, "--served-model-name") == "owner/model"


def test_chosen_options_reach_the_command() -> None:
    command = serve_command("owner/model", 8300, gpu=True, dtype="bfloat16", max_model_len=512, gpu_memory=0.4)
    assert option(command, "--dtype") == "bfloat16"
    assert option(command, "--max-model-len") == "512"
    assert option(command, "--gpu-memory-utilization") == "0.4"


def test_a_folder_is_served_under_its_own_name(tmp_path: Path) -> None:
    assert option(serve_command(str(tmp_path), 8300, gpu=False), "--served-model-name") == tmp_path.name


def test_an_unknown_dtype_is_refused_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match="unknown dtype 'float31'; there are auto, float32"):
        serve_command("owner/model", 8300, gpu=False, dtype="float31")


def test_a_cpu_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAREKIT_CACHE", str(tmp_path))
    environment = serve_environment(str(tmp_path), gpu=False, cpus=[0, 1], environ={"PATH": "p"})
    assert environment == {
        "PATH": "p",
        "PYTHONSAFEPATH": "1",
        "HF_HUB_OFFLINE": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor"),
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_CPU_OMP_THREADS_BIND": "0,1",
        "VLLM_NO_USAGE_STATS": "1",
    }


def test_the_users_own_variables_win_and_an_explicit_cache_size_wins_over_them() -> None:
    own = {"VLLM_CPU_OMP_THREADS_BIND": "auto", "VLLM_CPU_KVCACHE_SPACE": "7"}
    assert serve_environment("owner/model", gpu=False, environ=own).items() >= own.items()
    assert serve_environment("owner/model", gpu=False, kv_cache_gib=3, environ=own)["VLLM_CPU_KVCACHE_SPACE"] == "3"


def test_a_hub_model_may_go_online_and_a_gpu_needs_no_cpu_variables() -> None:
    environment = serve_environment("owner/model", gpu=True, environ={})
    assert set(environment) == {"PYTHONSAFEPATH", "TORCHINDUCTOR_CACHE_DIR", "VLLM_NO_USAGE_STATS"}


def test_a_large_cpu_leaves_the_binding_to_vllm() -> None:
    environment = serve_environment("owner/model", gpu=False, cpus=range(64), environ={})
    assert environment["VLLM_CPU_OMP_THREADS_BIND"] == "auto"


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("", "it printed nothing"),
        ("one\ntwo\n\n", "two"),
        (
            "usage: x\napi_server.py: error: argument --dtype: invalid\n",
            "api_server.py: error: argument --dtype: invalid",
        ),
        (
            "(EngineCore pid=7) ERROR 11-22 18:00:00 [core.py:9] MemoryError: too much\n"
            "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. {}\n"
            "UserWarning: There appear to be 1 leaked\n",
            "MemoryError: too much",
        ),
        (
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
            "  Value error, too long [type=value_error, input_value=1]\n"
            "    For further information visit somewhere\n",
            "Value error, too long",
        ),
    ],
)
def test_the_reason_is_found_in_the_log(log: str, reason: str) -> None:
    assert last_reason(log) == reason


def test_a_long_reason_is_cut() -> None:
    assert last_reason("ValueError: " + "x" * 99, longest=20) == "ValueError: " + "x" * 7 + "…"


def test_a_port_in_use_and_an_impossible_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigError, match=f"port {port}: Address already in use"),
            local_server(str(tmp_path), port),
        ):
            pass
    with pytest.raises(ConfigError, match="port 65536 is not between"), local_server(str(tmp_path), 65536):
        pass


def test_a_missing_model_folder_is_one_clear_error_at_once() -> None:
    with pytest.raises(DataError, match="there is no model folder /no/such/folder"), local_server("/no/such/folder"):
        pass


def scripted(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(launch, "serve_command", lambda *_, **__: [sys.executable, "-c", script])


def test_a_server_that_dies_while_starting_is_reported_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, "raise ValueError('no such head size')")
    with (
        pytest.raises(EngineUnavailable, match="status 1 while starting owner/model: ValueError: no such head size"),
        local_server("owner/model"),
    ):
        pass


def test_a_server_that_never_gets_ready_is_given_up_and_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scripted(monkeypatch, "import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    waited: list[float] = []
    with (
        pytest.raises(EngineUnavailable, match=r"not ready after 1 s; last output: \d+"),
        local_server("owner/model", log=tmp_path / "log", timeout=1, on_wait=waited.append),
    ):
        pass
    assert waited == sorted(waited)
    assert len(waited) >= 2
    assert not psutil.pid_exists(int((tmp_path / "log").read_text()))


def supervised(script: str, scratch: Path, parent: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-I", supervise.__file__, str(parent), str(scratch), sys.executable, "-c", script]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def first_number(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def test_the_supervisor_passes_the_status_on_and_ends_what_was_left_behind(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    # The grandchild ignores SIGTERM, so this takes the supervisor's patience; shortened in a copy of its source.
    source = Path(supervise.__file__).read_text().replace(f"PATIENCE = {supervise.PATIENCE}", "PATIENCE = 0.3")
    copy = tmp_path / "copy.py"
    copy.write_text(source)
    script = STUBBORN.format(then="sys.exit(7)")
    command = [sys.executable, "-I", str(copy), str(os.getpid()), str(scratch), sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        grandchild = first_number(process)
        assert process.wait(10) == 7
    assert not psutil.pid_exists(grandchild)
    assert not scratch.exists()


def test_the_supervisor_ends_its_command_on_sigterm(tmp_path: Path) -> None:
    with supervised("print(1, flush=True); import time; time.sleep(60)", tmp_path / "scratch", os.getpid()) as process:
        first_number(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 128 + signal.SIGTERM


def test_the_supervisor_ends_at_once_when_its_parent_has_gone(tmp_path: Path) -> None:
    with supervised("import time; time.sleep(60)", tmp_path / "scratch", parent=1) as process:
        assert process.wait(10) == 128 + signal.SIGTERM


@pytest.mark.vllm
def test_a_server_answers_with_log_probabilities(vllm_server: launch.LocalServer) -> None:
    body = {"model": vllm_server.model, "prompt": "The capital of France is", "max_tokens": 3, "logprobs": 5}
    answer = httpx.post(f"{vllm_server.url}/completions", json=body, timeout=60, trust_env=False).json()
    assert len(answer["choices"][0]["logprobs"]["token_logprobs"]) == 3


@pytest.mark.vllm
def test_no_process_is_left_when_the_parent_is_killed(vllm_server: launch.LocalServer) -> None:
    """Killed as soon as vLLM's engine has a process of its own, which is the first that a killed server leaves behind.

    It runs beside the session's own server, which must not notice.
    """
    script = (
        "from flarekit.engines.local.launch import local_server\n"
        "with local_server('smollm2-135m', kv_cache_gib=1): pass"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as parent:
        processes = wait_for_engine(parent.pid)
        scratch = Path(processes[-1].environ()["TMPDIR"])
        assert scratch.is_dir()
        parent.kill()
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert not alive
    assert not scratch.exists()
    assert httpx.get(vllm_server.url.replace("/v1", "/health"), trust_env=False).is_success


def wait_for_engine(pid: int) -> list[psutil.Process]:
    """The supervisor, vLLM's API server, its resource tracker and its engine, once they all run."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        processes: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
        if len(processes) >= 4:
            return processes
        time.sleep(0.5)
    raise AssertionError("vLLM's engine did not start")

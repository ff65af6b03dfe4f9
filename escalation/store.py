"""A trained router on disk.

`router.json` says what it is, `weights.npz` holds its arrays, `texts.json` what is text, and `encoder/` a fine-tuned
encoder. Nothing in it is code, and nothing is unpickled.
"""

from __future__ import annotations

import io
import json
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from flarekit.errors import ConfigError, DataError, FlarekitError
from flarekit.escalation.base import Fitted
from flarekit.escalation.outcomes import Target
from flarekit.io.bounded import read_json
from flarekit.io.files import folder_files, open_file, replace_file, replacing_folder, standing
from flarekit.io.settings import first_of

FORMAT = 2
"""Format 1 was a TF-IDF router alone, with its weights as JSON."""
_OWN = ("router.json", "weights.npz", "texts.json", "encoder")
"""What a router's folder may hold."""
_UNREADABLE = (
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, SyntaxError, tokenize.TokenError),
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, MemoryError),
)
"""What reading and trying out a folder from anywhere may raise."""


class _Split(BaseModel):
    model_config = ConfigDict(strict=True)
    calibration: list[str]
    test: list[str]


class _Interval(BaseModel):
    model_config = ConfigDict(strict=True)
    estimate: float | None
    low: float | None
    high: float | None


class _Manifest(BaseModel):
    """What `router.json` must hold; what else it holds is kept as it is."""

    model_config = ConfigDict(strict=True)
    kind: str
    format: int
    target: Target | Literal["choice"]
    arms: list[str]
    seed: int
    created: str
    flarekit: str
    labels: dict[str, int]
    split: _Split
    hyperparameters: dict[str, Any]
    shapes: dict[str, list[int]]
    texts: bool
    network: bool
    metrics: dict[str, _Interval] | None
    warnings: list[str] = []


def save(manifest: Mapping[str, Any], fitted: Fitted, folder: Path) -> None:
    """Write a router, whole or not at all, in place of one that is there.

    `DataError` where the folder cannot be written, or holds what is no router's.
    """
    try:
        if others := [path.name for path in folder.iterdir() if path.name not in _OWN] if folder.is_dir() else []:
            raise DataError(
                f"{folder}: holds {min(others)!r}, which is no part of a router; choose another folder, or move it"
            )
        with replacing_folder(folder) as fresh:
            _write(manifest, fitted, fresh)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror or error})") from error


def _write(manifest: Mapping[str, Any], fitted: Fitted, folder: Path) -> None:
    packed = io.BytesIO()
    np.savez(packed, **dict(fitted.arrays))  # type: ignore[arg-type]  # no array is called allow_pickle
    replace_file(folder / "weights.npz", packed.getvalue())
    if fitted.texts:
        replace_file(folder / "texts.json", _json(fitted.texts))
    if fitted.network:
        fitted.network.save(folder / "encoder")
    replace_file(folder / "router.json", _json(manifest))


def load(folder: Path, kind: str, check: Callable[[Fitted], None]) -> tuple[dict[str, Any], Fitted]:
    """The manifest of the router in `folder` and what it learnt, checked; a `DataError` where that is not whole."""
    folder = standing(folder)
    try:
        for path in folder_files(folder):
            open_file(path, folder).close()  # what is read by others must be a file of this folder too
        manifest = read_manifest(folder)
        if manifest["kind"] != kind:
            raise ValueError(f"it is of the kind {manifest['kind'][:100]!r}, not {kind!r}")
        fitted = Fitted(manifest["hyperparameters"], _arrays(folder / "weights.npz"), *_rest(folder, manifest))
        if {name: list(array.shape) for name, array in fitted.arrays.items()} != manifest["shapes"]:
            raise ValueError("its arrays are not those that the manifest speaks of")
        check(fitted)
    except _UNREADABLE as error:
        raise not_whole(folder, error) from error
    return manifest, fitted


def read_manifest(folder: Path) -> dict[str, Any]:
    """What `router.json` in `folder` holds, with every field of the type that it must have.

    `ValueError` where it is no such manifest or another flarekit's; `OSError` where it cannot be read.
    """
    manifest = read_json(folder / "router.json", folder)
    if not isinstance(manifest, dict):
        raise ValueError("an object is expected")
    if manifest.get("format") != FORMAT and "format" in manifest:
        raise ValueError(f"it has the format {str(manifest['format'])[:100]} of another flarekit")
    try:
        _Manifest.model_validate(manifest)
    except ValidationError as error:
        raise ValueError(first_of(error)) from error
    return manifest


def not_whole(folder: Path, error: Exception) -> FlarekitError:
    """What a folder is that cannot be read: one line, however many a library's message has.

    A library that is missing is not the folder's fault, and stays the error that it is.
    """
    if isinstance(error, ConfigError) and "flarekit[encoders]" in str(error):
        return error
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return DataError(f"{folder}: not a whole router ({reason}); train it again")


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    with open_file(path, path.parent) as file, zipfile.ZipFile(file) as packed:
        # As `save` packs them: their sizes are bounded by that of the file.
        if any(member.compress_type != zipfile.ZIP_STORED for member in packed.infolist()):
            raise ValueError("its arrays are compressed")
    with open_file(path, path.parent) as file, np.load(file, allow_pickle=False) as packed:
        arrays = {name: packed[name] for name in packed.files}
    for name, array in arrays.items():
        if array.dtype.kind not in "fi" or not np.isfinite(array).all():
            raise ValueError(f"the array {name!r} holds something else than finite numbers")
    return arrays


def _rest(folder: Path, manifest: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """The texts and the fine-tuned encoder, where the manifest speaks of them."""
    texts = read_json(folder / "texts.json", folder) if manifest["texts"] else {}
    if not isinstance(texts, dict):
        raise ValueError("texts.json must hold an object")
    if not manifest["network"]:
        return texts, None
    if not (folder / "encoder").is_dir():
        raise ValueError("its encoder is missing")
    from flarekit.escalation.routers.finetune import load_network

    try:
        return texts, load_network(folder / "encoder", manifest["hyperparameters"].get("pooling", "mean"))
    except ConfigError as error:
        if "flarekit[encoders]" in str(error):
            raise  # not the folder's fault
        raise ValueError(str(error)) from error


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1, ensure_ascii=False).encode()

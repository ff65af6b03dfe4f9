"""A trained router on disk.

`router.json` says what it is, `weights.npz` holds its arrays, `texts.json` what is text, and `encoder/` a fine-tuned
encoder. Nothing in it is code, and nothing is unpickled.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flarekit.errors import ConfigError, DataError
from flarekit.escalation.fitting import Fitted
from flarekit.files import replace_file

FORMAT = 2
"""Format 1 was a TF-IDF router alone, with its weights as JSON."""
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)


def save(manifest: Mapping[str, Any], fitted: Fitted, folder: Path) -> None:
    """Write a router; `DataError` where the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Without its manifest a folder is no router, and one that has it is whole: it goes first and comes last.
        (folder / "router.json").unlink(missing_ok=True)
        packed = io.BytesIO()
        np.savez(packed, **dict(fitted.arrays))  # type: ignore[arg-type]  # no array is called allow_pickle
        replace_file(folder / "weights.npz", packed.getvalue())
        if fitted.texts:
            replace_file(folder / "texts.json", _json(fitted.texts))
        if fitted.network:
            fitted.network.save(folder / "encoder")
        replace_file(folder / "router.json", _json(manifest))
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror})") from error


def load(folder: Path, kind: str, check: Callable[[Fitted], None]) -> tuple[dict[str, Any], Fitted]:
    """The manifest of the router in `folder` and what it learnt, checked; a `DataError` where that is not whole."""
    try:
        manifest = json.loads((folder / "router.json").read_bytes())
        if manifest["kind"] != kind:
            raise ValueError(f"it is of the kind {manifest['kind']!r}, not {kind!r}")
        if manifest["format"] != FORMAT:
            raise ValueError(f"it has the format {manifest['format']!r} of another flarekit")
        fitted = Fitted(manifest["hyperparameters"], _arrays(folder / "weights.npz"), *_rest(folder, manifest))
        if {name: list(array.shape) for name, array in fitted.arrays.items()} != manifest["shapes"]:
            raise ValueError("its arrays are not those that the manifest speaks of")
        check(fitted)
    except _UNREADABLE as error:
        # One line, however many a library's message has.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{folder}: not a whole router ({reason}); train it again") from error
    return manifest, fitted


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as packed:
        arrays = {name: packed[name] for name in packed.files}
    for name, array in arrays.items():
        if array.dtype.kind not in "fi" or not np.isfinite(array).all():
            raise ValueError(f"the array {name!r} holds something else than finite numbers")
    return arrays


def _rest(folder: Path, manifest: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """The texts and the fine-tuned encoder, where the manifest speaks of them."""
    texts = json.loads((folder / "texts.json").read_bytes()) if manifest["texts"] else {}
    if not isinstance(texts, dict):
        raise ValueError("texts.json must hold an object")
    if not manifest["network"]:
        return texts, None
    if not (folder / "encoder").is_dir():
        raise ValueError("its encoder is missing")
    from flarekit.escalation.finetune import load_network

    try:
        return texts, load_network(folder / "encoder", manifest["hyperparameters"].get("pooling", "mean"))
    except ConfigError as error:
        if "flarekit[encoders]" in str(error):
            raise  # not the folder's fault
        raise ValueError(str(error)) from error


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1, ensure_ascii=False).encode()

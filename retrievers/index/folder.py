"""An index on disk: a folder that is whole or is none, with a manifest that says what is in it.

A build writes into a folder beside the one that it is to become, and moves it there when all is done (`building`): one
that is killed leaves nothing that looks like an index. `index.json`, the manifest, has the size and a checksum of every
other file, and one of itself; nothing in an index is code, and nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import orjson
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from flarekit.errors import DataError
from flarekit.io.bounded import LINE, read_whole
from flarekit.io.files import folder_files, open_file, own_folder, put_back, replace_file, replace_folder

Kind = Literal["bm25", "dense", "hybrid"]
FORMAT = 1
MANIFEST = "index.json"


class File(BaseModel):
    """What a file of an index must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    bytes: int
    blake2b: str


class Manifest(BaseModel):
    """What an index is, and how it was made."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int
    flarekit: str
    """The version that wrote it."""
    kind: Kind
    passages: int
    made: dict[str, Any]
    """What it was made with: the tokenizer and the parameters of BM25, the model and the structure of dense vectors."""
    files: dict[str, File]
    digest: str = ""
    """The checksum of all this."""

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, File]) -> dict[str, File]:
        if any(name.startswith("/") or ".." in name.split("/") or "\0" in name for name in files):
            raise ValueError("a file outside of the index")
        return files

    @property
    def size(self) -> int:
        """Bytes in all files."""
        return sum(file.bytes for file in self.files.values())

    def signed(self) -> Manifest:
        """The same with its checksum."""
        return self.model_copy(update={"digest": _checksum_of(self.model_dump_json(exclude={"digest"}).encode())})


@contextmanager
def building(out: Path, keep: Collection[str] = ()) -> Iterator[Path]:
    """A folder to write an index into, which takes `out`'s place when the context is left without an error.

    `seal` must have been called by then. What builds that were stopped have left beside `out` is removed, but for the
    folders called `keep`, with which a later one may go on: they are in the new folder as they were left. `DataError`
    where `out` is there and is no index, where it cannot be written, and where another build is writing it.
    """
    place = out.resolve()
    part, lock = (place.with_name(f".{place.name}.{end}") for end in ("part", "lock"))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=0):
            try:
                _clear(part, keep)
                put_back(place)
                if place.exists() and not _may_be_replaced(place):
                    raise DataError(f"{out} is there and is no index; it is not overwritten: choose another --out")
                own_folder(part)
                yield part
                replace_folder(part, place)
            finally:
                _clear(part, keep)
                lock.unlink(missing_ok=True)  # nobody waits for it: a second build is refused at once
    except Timeout as error:
        raise DataError(f"{out}: another build is writing this index; wait for it, or choose another --out") from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise DataError(f"{out}: the index cannot be written ({where}{error.strerror or error})") from error


def seal(folder: Path, kind: Kind, passages: int, made: Mapping[str, Any]) -> Manifest:
    """Write the manifest of all that `folder` holds; the last step of a build."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    files = {
        name: File(bytes=(folder / name).stat().st_size, blake2b=checksum(folder / name, folder)) for name in names
    }
    manifest = Manifest(
        format=FORMAT, flarekit=version("flarekit"), kind=kind, passages=passages, made=dict(made), files=files
    )
    manifest = manifest.signed()
    replace_file(folder / MANIFEST, manifest.model_dump_json(indent=1).encode())
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the index in `folder`; `DataError` where there is none, or one that this version cannot read."""
    path = folder / MANIFEST
    found = _read_object(folder)
    if found.get("format") != FORMAT and {"format", "flarekit"} <= found.keys():
        raise DataError(
            f"{folder}: an index of format {found['format']}, made by flarekit {found['flarekit']}; this one reads "
            f"format {FORMAT}: build it again"
        )
    try:
        manifest = Manifest.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(
            f"{path}: not the manifest of an index ({'.'.join(map(str, first['loc']))}: {first['msg']}); build it again"
        ) from error
    if manifest != manifest.signed():
        raise DataError(f"{path}: not what was written when the index was built; build it again")
    return manifest


def check(folder: Path, manifest: Manifest) -> None:
    """`DataError` for the first file that is missing or not what was written, and for what is no file of the folder."""
    try:
        for path in folder_files(folder):  # also one that the manifest does not name
            open_file(path, folder).close()
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); build the index again") from error
    for name, file in manifest.files.items():
        path = folder / name
        try:
            same = path.stat().st_size == file.bytes and checksum(path, folder) == file.blake2b
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); build the index again") from error
        if not same:
            raise DataError(f"{path}: not what was written when the index was built; build it again")


def _described(path: Path, folder: Path) -> File:
    return File(bytes=path.stat().st_size, blake2b=checksum(path, folder))


def checksum(path: Path, folder: Path) -> str:
    """A digest of the content of a file in `folder`, in hexadecimal."""
    with open_file(path, folder) as file:
        return hashlib.file_digest(file, _digest).hexdigest()


def _checksum_of(content: bytes) -> str:
    digest = _digest()
    digest.update(content)
    return digest.hexdigest()


def _digest() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)


def _read_object(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        with open_file(path, folder) as file:
            found = orjson.loads(read_whole(file, path, LINE))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{folder} is no index (it has no {MANIFEST}); `flarekit index build` makes one") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except orjson.JSONDecodeError as error:
        raise DataError(f"{path}: not the manifest of an index ({error}); build it again") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: not the manifest of an index; `flarekit index build` makes one")
    return found


def _may_be_replaced(place: Path) -> bool:
    """Whether it is an empty folder, or an index of whatever version."""
    if not place.is_dir() or not any(place.iterdir()):
        return place.is_dir()
    try:
        return {"format", "flarekit", "kind", "files"} <= _read_object(place).keys()
    except DataError:
        return False


def _clear(part: Path, keep: Collection[str]) -> None:
    """Remove what a build has left that did not end, but for folders called `keep` with something in them."""
    if part.is_symlink():
        return  # it is not a build's
    for path in part.iterdir() if part.is_dir() else ():
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        elif path.name not in keep or not _to_be_gone_on_with(path):
            shutil.rmtree(path)
    with suppress(OSError):  # there is none, or something is kept
        part.rmdir()


def _to_be_gone_on_with(folder: Path) -> bool:
    """Whether there is something in a folder, and no file that has another place too and would be written there."""
    kept = list(folder.rglob("*"))
    return bool(kept) and not any(path.is_symlink() or (path.is_file() and path.stat().st_nlink > 1) for path in kept)

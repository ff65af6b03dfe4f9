"""Attacks on a `flarekit serve`: what a hostile client may do to it, and what it costs the others.

    python benchmarks/attack.py            # starts a scripted engine and a server of its own
    python benchmarks/attack.py --only heads,idle

Each attack is bounded in count, bytes and time, and goes to this machine alone. While it lasts, another client asks
`/health` and for an answer: the longest that it waited, what the server's memory grew by and what the attacker was told
are printed, one line an attack; the exit status is 1 if the other client ever got something else than an answer or a
429, or waited for longer than 2 s.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fakes.scripted_vllm import Body, ScriptedVLLM, event, saying

ANSWER = "It is in Graz. It is a city."
ASKED = {"model": "weak", "messages": [{"role": "user", "content": "?"}]}
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
LONGEST = 20.0
"""Seconds that an attack lasts at most."""
Address = tuple[str, int]
Told = Counter[int]


def status(received: bytes) -> int:
    """The status of an answer, 0 for none."""
    return int(received.split(b" ", 2)[1]) if received.startswith(b"HTTP/") else 0


def push(address: Address, first: bytes, rest: bytes, most: int) -> int:
    """Send `first`, then `rest` until that are `most` bytes, or nobody reads them; the status of the answer."""
    with socket.create_connection(address, timeout=LONGEST) as connection:
        with suppress(OSError):
            connection.sendall(first)
            for _ in range(most // len(rest)):
                connection.sendall(rest)
        received = b""
        with suppress(OSError):
            received = connection.recv(4096)
    return status(received)


def heads(address: Address) -> Told:
    """Addresses and headers of 80 MiB."""
    block = b"x" * 65536
    return Counter(
        push(address, first, rest, 80 << 20)
        for first, rest in (
            (b"GET /", block),
            (b"GET / HTTP/1.1\r\nx: ", block),
            (b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 10_000),
            (HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\nx: ", block),
        )
    )


def hold(address: Address, count: int, sent: bytes) -> Told:
    """`count` clients that send this and then wait; what they are told when the server has had enough of them."""
    told: Told = Counter()
    held: list[socket.socket] = []
    ends = time.monotonic() + LONGEST
    for _ in range(count):
        with suppress(OSError):
            connection = socket.create_connection(address, timeout=5)
            connection.sendall(sent)
            held.append(connection)
    for connection in held:
        connection.settimeout(max(0.1, ends - time.monotonic()))
        received = b""
        with suppress(OSError):
            received = connection.recv(4096)
        told[status(received)] += 1
        connection.close()
    return told


def idle(address: Address) -> Told:
    """1,000 connections that say nothing, or half of something."""
    return hold(address, 500, b"") + hold(address, 500, b"GET /health HTTP/1.1\r\nhost: loc")


def bodies(address: Address) -> Told:
    """200 bodies that stop."""
    chunked = HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\n{"
    return hold(address, 100, chunked) + hold(address, 100, HEAD + b"content-length: 100\r\n\r\n{")


def streams(address: Address) -> Told:
    """600 streams at once, read to their ends."""
    content = json.dumps({**ASKED, "stream": True}).encode()
    request = HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(content) + content
    return hold(address, 600, request)


def questions(address: Address) -> Told:
    """Names, models and fields of some megabytes."""
    told: Told = Counter()
    url = f"http://{address[0]}:{address[1]}/v1/chat/completions"
    long = "x" * (7 << 20)
    for body in ({**ASKED, "model": long}, {**ASKED, "max_tokens": long}, {**ASKED, "stop": [long, 1]}):
        answer = httpx.post(url, json=body, timeout=LONGEST)
        assert len(answer.content) < 2000, "an answer larger than what was asked"
        told[answer.status_code] += 1
    return told


def depths(address: Address) -> Told:
    """JSON that is nested without end."""
    told: Told = Counter()
    for mark in (b"[", b'{"a":'):
        content = b'{"model": "weak", "x": ' + mark * (1 << 20)
        sent = {"content-type": "application/json"}
        url = f"http://{address[0]}:{address[1]}/v1/chat/completions"
        told[httpx.post(url, content=content, headers=sent, timeout=LONGEST).status_code] += 1
    return told


def pages(address: Address) -> Told:
    """What a page of another site can make a browser send."""
    told: Told = Counter()
    url = f"http://{address[0]}:{address[1]}"
    content = json.dumps(ASKED)
    for headers in (
        {"content-type": "text/plain"},
        {"content-type": "application/json", "origin": "https://evil.example"},
        {"content-type": "application/json", "host": "evil.example"},
    ):
        told[httpx.post(f"{url}/v1/chat/completions", content=content, headers=headers).status_code] += 1
    return told


def by_passes(address: Address) -> Told:
    """More tokens than --max-tokens, by everything that no policy applies to."""
    told: Told = Counter()
    url = f"http://{address[0]}:{address[1]}/v1/chat/completions"
    for more in ({"n": 500}, {"best_of": 500}, {"n": 4, "max_tokens": 100_000}, {"max_tokens": 100_000}):
        told[httpx.post(url, json={**ASKED, **more}, timeout=LONGEST).status_code] += 1
    return told


def endless(address: Address) -> Told:
    """An engine whose line does not end: 400 MiB of it, for a session."""
    url = f"http://{address[0]}:{address[1]}/v1/chat/completions"
    body = {**ASKED, "model": "watched", "messages": [{"role": "user", "content": "ENDLESS"}]}
    return Counter([httpx.post(url, json=body, timeout=LONGEST).status_code])


ATTACKS: dict[str, Callable[[Address], Told]] = {
    attack.__name__: attack for attack in (heads, idle, bodies, streams, questions, depths, pages, by_passes, endless)
}


def complete(body: Body) -> Iterator[bytes]:
    """What the engine says: an answer that takes a second, or a line without end."""
    prompt = body.get("prompt")
    if prompt and "ENDLESS" in "".join(map(chr, prompt)):
        yield b"data: "
        for _ in range(400):
            yield b"x" * (1 << 20)
    elif body.get("stream"):
        for part in saying(ANSWER)(body):
            time.sleep(0.03)
            yield part
    else:
        yield event({"choices": []})


@contextmanager
def server(folder: Path) -> Iterator[tuple[Address, psutil.Process]]:
    """A server over a scripted engine, in a process of its own."""
    policies = folder / "attack-policies.yaml"
    policies.write_text("policies: {watched: 'escalate:read=sentence,threshold=1'}")
    with ScriptedVLLM(complete) as engine:
        program = "from flarekit.cli import main; main()"
        options = ["--engine", engine.url, "--strong", engine.url, "--policy", str(policies), "--port", "0"]
        options += ["--client-timeout", "5", "--max-tokens", "100", "--max-concurrent", "64"]
        with (folder / "attack.log").open("wb") as log:
            running = subprocess.Popen(
                [sys.executable, "-c", program, "serve", *options], stdout=subprocess.PIPE, stderr=log, text=True
            )
        try:
            assert running.stdout
            url = running.stdout.readline().split()[1].removesuffix("/v1")
            yield ("127.0.0.1", int(url.rpartition(":")[2])), psutil.Process(running.pid)
        finally:
            running.terminate()
            running.wait(60)


def watched(attack: Callable[[Address], Told], address: Address, process: psutil.Process) -> dict[str, Any]:
    """What an attack does to another client."""
    waits: list[float] = []
    others: Told = Counter()
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=f"http://{address[0]}:{address[1]}", timeout=60) as client:
            while not (waits and over.is_set()):
                for path, body in (("/health", None), ("/v1/chat/completions", ASKED)):
                    began = time.monotonic()
                    try:
                        others[client.request("POST" if body else "GET", path, json=body).status_code] += 1
                    except httpx.HTTPError:
                        others[0] += 1
                    waits.append(time.monotonic() - began)
                time.sleep(0.05)

    asking = threading.Thread(target=ask)
    before, began = process.memory_info().rss, time.monotonic()
    asking.start()
    told = attack(address)
    seconds = time.monotonic() - began
    over.set()
    asking.join()
    grown = (process.memory_info().rss - before) >> 20
    return {"told": dict(told), "others": dict(others), "longest": max(waits), "grown": grown, "seconds": seconds}


def main() -> int:
    """Carry out the attacks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default=",".join(ATTACKS), help="names, with commas between them")
    parser.add_argument("--folder", type=Path, default=Path("/tmp"), help="where the server's log is written")
    chosen = parser.parse_args()
    failed = False
    print(f"{'attack':10} {'seconds':>8} {'others wait':>12} {'MiB more':>9}  the attacker is told; others get")
    with server(chosen.folder) as (address, process):
        for name in chosen.only.split(","):
            found = watched(ATTACKS[name], address, process)
            bad = found["longest"] > 2 or not set(found["others"]) <= {200, 429}
            failed = failed or bad
            print(
                f"{name:10} {found['seconds']:8.1f} {found['longest']:10.2f} s {found['grown']:9}  "
                f"{found['told']}; {found['others']}{'  FAILED' if bad else ''}"
            )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

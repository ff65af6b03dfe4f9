"""What `flarekit serve` adds to a server: `python benchmarks/serve.py vllm|rate|soak --help`.

`vllm` asks a real vLLM server directly and through the proxy, by turns; `rate` and `soak` put the proxy before a
scripted server (`benchmarks/blast.py`) that sends as fast as it can, or to a thousand clients. The clients here count
bytes and parse nothing, so that they do not set the pace themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import httptools
import httpx
import orjson
import psutil
import typer
import uvloop
import yaml

HERE = Path(__file__).parent
WATCHING = "escalate:threshold=1,read=sentence"
"""A policy that reads every token and never acts: what watching itself costs."""

LOGPROBS = "direct, log-p"
"""Direct too, but with the ten log-probabilities a token that watching reads: their price is the engine's."""

app = typer.Typer(help=__doc__, no_args_is_help=True)


@dataclass(slots=True)
class Stream:
    """One client's stream: when its first text came, when it ended, and what went wrong."""

    began: float
    first: float | None = None
    ended: float | None = None
    error: str = ""
    size: int = 0


class Client(asyncio.Protocol):
    """Sends one request and counts what comes back."""

    def __init__(self, request: bytes, done: asyncio.Future[None]) -> None:
        self.stream = Stream(time.perf_counter())
        self._request, self._done = request, done
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        # The first chunk of a conversation has the role alone.
        if self.stream.first is None and (b'"content":"' in data.replace(b'"content":""', b"") or b'"text":"' in data):
            self.stream.first = time.perf_counter()
        if b'"error"' in data:
            self.stream.error = data[:300].decode(errors="replace")
        self.stream.size += len(data)
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.stream.ended = time.perf_counter()
        if self._parser.get_status_code() != 200:
            self.stream.error = self.stream.error or f"status {self._parser.get_status_code()}"
        self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self.stream.ended is None:
            self.stream.error = self.stream.error or "the connection broke off"
        if not self._done.done():
            self._done.set_result(None)


def request(url: str, body: Mapping[str, Any]) -> tuple[str, int, bytes]:
    """The host, the port, and the bytes to send there."""
    parsed = httpx.URL(url)
    content = orjson.dumps(body)
    named = "host: localhost\r\ncontent-type: application/json"
    head = f"POST /v1/chat/completions HTTP/1.1\r\n{named}\r\ncontent-length: {len(content)}\r\n"
    head += "content-type: application/json\r\n\r\n"
    return parsed.host, parsed.port or 80, head.encode() + content


async def ask(url: str, body: Mapping[str, Any]) -> Stream:
    """One request, on a connection of its own."""
    host, port, sent = request(url, body)
    done = asyncio.get_running_loop().create_future()
    _, client = await asyncio.get_running_loop().create_connection(lambda: Client(sent, done), host, port)
    try:
        await done
    finally:
        client._transport.abort()
    return client.stream


@contextlib.contextmanager
def started(*command: str) -> Iterator[tuple[str, psutil.Process]]:
    """A server of ours; its URL, from the first line that it prints, and its process."""
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout
    try:
        found = re.search(r"(http://[^\s/]+)|ready (\d+)", process.stdout.readline())
        assert found, f"{command} did not start"
        yield found[1] or f"http://localhost:{found[2]}", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def proxy(engine: str, *options: str, folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """`flarekit serve` before `engine`."""
    policies = folder / "policies.yaml"
    policies.write_text(yaml.safe_dump({"policies": {"pass": "weak", "watching": WATCHING}}))
    flarekit = ["-c", "from flarekit.cli import main; main()", "serve", "--engine", engine, "--strong", engine]
    with started(*flarekit, "--policy", str(policies), "--port", "0", "--max-concurrent", "4096", *options) as running:
        yield running


def body(model: str, text: str, tokens: int) -> dict[str, Any]:
    """A request for a stream of exactly so many tokens."""
    turns = [{"role": "user", "content": text}]
    asked = {"model": model, "messages": turns, "max_tokens": tokens, "stream": True, "temperature": 0}
    return asked | {"ignore_eos": True, "stream_options": {"include_usage": True}}


@dataclass(slots=True)
class Round:
    """What some streams at a time did."""

    tokens_a_second: float
    first: float
    """Median seconds to the first text."""
    errors: int


async def one_round(url: str, model: str, streams: int, tokens: int, salt: str, *, logprobs: bool = False) -> Round:
    """So many streams at once."""
    more = {"logprobs": True, "top_logprobs": 10} if logprobs else {}
    began = time.perf_counter()
    texts = [f"{salt}{number}: tell me a long story about the number {number}." for number in range(streams)]
    ended = await asyncio.gather(*(ask(url, body(model, text, tokens) | more) for text in texts))
    seconds = time.perf_counter() - began
    firsts = [one.first - one.began for one in ended if one.first is not None]
    return Round(
        streams * tokens / seconds,
        statistics.median(firsts) if firsts else float("nan"),
        sum(bool(e.error) for e in ended),
    )


@app.command("vllm")
def real(
    engine: Annotated[str, typer.Option(help="URL of a vLLM server that nobody else uses.")],
    streams: int = 64,
    tokens: int = 32,
    rounds: int = 6,
    singles: int = 60,
    folder: Path = Path("runs"),
) -> None:
    """A real server asked directly and through the proxy, by turns."""
    uvloop.run(_real(engine.rstrip("/").removesuffix("/v1"), streams, tokens, rounds, singles, folder))


async def _real(engine: str, streams: int, tokens: int, rounds: int, singles: int, folder: Path) -> None:
    model = orjson.loads(await page(f"{engine}/v1/models"))["data"][0]["id"]
    with proxy(engine, folder=folder) as (url, process):
        arms = {
            "direct": (engine, model),
            "pass-through": (url, "pass"),
            LOGPROBS: (engine, model),
            "watching": (url, "watching"),
        }
        for name, (address, asked) in arms.items():
            await one_round(address, asked, streams, 8, f"warm {name} ", logprobs=name == LOGPROBS)
        measured: dict[str, list[Round]] = {name: [] for name in arms}
        for number in range(rounds):
            # Each arm is first, second, third and last as often as the others.
            names = list(arms)
            for place in range(len(names)):
                name = names[(place + number) % len(names)]
                # Texts of one length; a letter tells them apart, so that none is in the server's prefix cache.
                salt = f"{number} {'abcd'[names.index(name)]} "
                measured[name].append(await one_round(*arms[name], streams, tokens, salt, logprobs=name == LOGPROBS))
                print(f"round {number + 1} of {rounds}, {name}: {measured[name][-1]}", file=sys.stderr, flush=True)
        alone: dict[str, list[float]] = {name: [] for name in arms}
        for number in range(singles):
            for name, (address, asked) in arms.items():
                one = await ask(address, body(asked, f"{number} {name[0]}: say something.", 4))
                if one.first is not None:
                    alone[name].append(one.first - one.began)
        cpu = process.cpu_times()
    base = measured["direct"]
    print(f"{streams} streams of {tokens} tokens, {rounds} rounds, {model}; alone: {singles} requests\n")
    print(f"{'arm':14}{'tokens/s':>10}{'of direct':>24}{'first text':>12}{'alone, ms':>11}{'errors':>8}")
    for name, found in measured.items():
        ratios = [a.tokens_a_second / b.tokens_a_second for a, b in zip(found, base, strict=True)]
        spread = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        speed = statistics.median(one.tokens_a_second for one in found)
        first = statistics.median(one.first for one in found)
        errors = sum(one.errors for one in found)
        print(
            f"{name:14}{speed:10.1f}{spread:>24}{first:11.3f}s{1000 * statistics.median(alone[name]):11.1f}{errors:8}"
        )
    print(f"the proxy's processor time: {cpu.user + cpu.system:.1f} s in all")


@app.command()
def rate(streams: int = 64, tokens: int = 2000, rounds: int = 5, folder: Path = Path("runs")) -> None:
    """A scripted server that sends as fast as it can: tokens a second through one process, and for one CPU second."""
    uvloop.run(_rate(streams, tokens, rounds, folder))


async def _rate(streams: int, tokens: int, rounds: int, folder: Path) -> None:
    with started(str(HERE / "blast.py"), "0") as (engine, _), proxy(engine, folder=folder) as (url, process):
        arms = {"direct": (engine, "blast"), "pass-through": (url, "pass"), "watching": (url, "watching")}
        for address, asked in arms.values():
            await one_round(address, asked, 8, 200, "")
        print(f"{streams} streams of {tokens} tokens at a time, medians of {rounds} rounds\n")
        print(f"{'arm':14}{'tokens/s':>10}{'per CPU second':>16}{'first text':>12}{'errors':>8}")
        for name, arm in arms.items():
            found, spent = [], []
            for _ in range(rounds):
                before = sum(process.cpu_times()[:2])
                found.append(await one_round(*arm, streams, tokens, ""))
                spent.append(sum(process.cpu_times()[:2]) - before)
            speed = statistics.median(one.tokens_a_second for one in found)
            cpu = "" if name == "direct" else f"{streams * tokens / statistics.median(spent):.0f}"
            first = statistics.median(one.first for one in found)
            print(f"{name:14}{speed:10.0f}{cpu:>16}{first:11.3f}s{sum(one.errors for one in found):8}")


@app.command()
def soak(
    streams: int = 1000,
    seconds: float = 120.0,
    tokens: int = 100,
    pace: Annotated[float, typer.Option(help="Tokens a second of each stream.")] = 5.0,
    policy: Annotated[str, typer.Option(help="pass or watching")] = "watching",
    folder: Path = Path("runs"),
) -> None:
    """Many streams at a time for some minutes; then all clients vanish at once."""
    uvloop.run(_soak(streams, seconds, tokens, pace, policy, folder))


async def _soak(streams: int, seconds: float, tokens: int, pace: float, policy: str, folder: Path) -> None:
    with (
        started(str(HERE / "blast.py"), "0", "--rate", str(pace)) as (engine, _),
        proxy(engine, folder=folder) as (url, process),
    ):
        ended: list[Stream] = []

        async def keep(number: int) -> None:
            await asyncio.sleep(number / streams * tokens / pace)  # so that they do not all begin and end together
            while True:
                ended.append(await ask(url, body(policy, f"Story {number}, please.", tokens)))

        clients = [asyncio.create_task(keep(number)) for number in range(streams)]
        memory = [process.memory_info().rss]
        print(f"{'second':>8}{'open':>7}{'ended':>8}{'errors':>8}{'MB':>8}{'CPU':>7}")
        began, cpu = time.perf_counter(), sum(process.cpu_times()[:2])
        while (now := time.perf_counter() - began) < seconds + tokens / pace:
            await asyncio.sleep(10)
            memory.append(process.memory_info().rss)
            is_open = await _gauge(engine)
            spent, cpu = sum(process.cpu_times()[:2]) - cpu, sum(process.cpu_times()[:2])
            errors = sum(bool(one.error) for one in ended)
            figures = f"{now + 10:8.0f}{is_open:7}{len(ended):8}{errors:8}"
            print(f"{figures}{memory[-1] / 1e6:8.0f}{spent / 10:7.0%}", flush=True)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        left = time.perf_counter()
        while (is_open := await _gauge(engine)) and time.perf_counter() - left < 30:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
        print(f"all clients left: {is_open} streams open after {time.perf_counter() - left:.2f} s")
        await asyncio.sleep(2)
        running = re.search(r"^flarekit_running_requests (\S+)", await page(f"{url}/metrics"), re.MULTILINE)
        print(f"requests at work in the proxy: {running and running[1]}; {process.memory_info().rss / 1e6:.0f} MB")
        print({one.error for one in ended if one.error} or "no error")


async def page(url: str) -> str:
    """What GET answers."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        return (await client.get(url)).text


async def _gauge(engine: str) -> int:
    """How many streams the scripted server has open."""
    found = re.search(r"^open (\d+)", await page(f"{engine}/metrics"), re.MULTILINE)
    return int(found[1]) if found else -1


if __name__ == "__main__":
    app()

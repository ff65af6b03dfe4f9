"""Signals that are measured before generation: from the question alone, at the price of a probe of the weak engine.

===================  ==========================================================  ===============  =====================
name                 value                                                       cost             source
===================  ==========================================================  ===============  =====================
first-token-entropy  entropy of the token that would follow "So the answer is",  the prompt read, first-token
                     asked for without any reasoning                             one token        confidence
question-perplexity  perplexity of the question under the model                  the question     Moskvoretskii et al.,
                                                                                 read             arXiv:2501.12835
p-ik                 P(no) against P(yes) as its answer to "can you answer this  a short prompt   Kadavath et al.,
                     without looking it up?"                                     read, one token  arXiv:2207.05221
random               a number drawn from the question's text                     none             the null of routing
===================  ==========================================================  ===============  =====================

Trained routers (`flarekit.escalation`) are signals like these, or choose among whole policies (`Chooser`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NoReturn, Protocol, runtime_checkable

from flarekit.engines.engine import Engine
from flarekit.errors import ConfigError, DataError
from flarekit.io.bounded import read_json
from flarekit.io.files import standing
from flarekit.prompts.few_shot import Prompt
from flarekit.prompts.marks import without_marks
from flarekit.signals.answer import PostSignal
from flarekit.signals.token import SignalCard, StreamSignal, entropy
from flarekit.tokens import Usage
from flarekit.trace import Probe


@runtime_checkable
class PreSignal(SignalCard, Protocol):
    """One number for a question, before anything is generated; higher means less certain."""

    async def measure(self, question: str, engine: Engine, prompt: Prompt) -> Probe:
        """The value, with what it cost."""
        ...


@runtime_checkable
class Chooser(Protocol):
    """Chooses among several policies before generation."""

    @property
    def name(self) -> str:
        """As it appears in traces."""
        ...

    @property
    def arms(self) -> Sequence[str]:
        """The policies' specifications; "MODEL/specification" where arms differ in the model that answers."""
        ...

    def choose(self, questions: Sequence[str], tradeoff: float | None = None) -> Sequence[int]:
        """The index of an arm for each question; `tradeoff` None stands for what it was trained with."""
        ...


@dataclass(frozen=True, slots=True)
class _FirstTokenEntropy:
    name: str = "first-token-entropy"
    high: float = math.inf
    source: str = "entropy of the first answer token, as in GlimpRouter, arXiv:2601.05110"
    needs: str = "logprobs of one token"

    async def measure(self, question: str, engine: Engine, prompt: Prompt) -> Probe:
        said = f" {prompt.answer_phrase}" if prompt.answer_phrase else ""
        ids = await prompt.ids(engine, question, said=said)
        async with engine.stream(ids, max_tokens=1) as stream:
            tokens = [token async for token in stream]
            usage = stream.usage
        return probe_of(self.name, entropy(tokens[0]), usage)


_FINITE = 700.0
"""Beyond it a float has no exponential."""


@dataclass(frozen=True, slots=True)
class _QuestionPerplexity:
    name: str = "question-perplexity"
    high: float = math.inf
    source: str = "Moskvoretskii et al. 2025, arXiv:2501.12835"
    needs: str = "prompt_logprobs"

    async def measure(self, question: str, engine: Engine, prompt: Prompt) -> Probe:
        ids = await engine.tokenize(await without_marks(f"Question: {question}", engine))
        logprobs = await engine.score(ids)
        perplexity = math.exp(min(-sum(logprobs) / max(len(logprobs), 1), _FINITE))
        # Scoring reads the prompt past the prefix cache, and vLLM generates one token that nobody asked for.
        return Probe(self.name, perplexity, "weak", len(ids), 0, 1)


@dataclass(frozen=True, slots=True)
class _PIK:
    name: str = "p-ik"
    high: float = 1.0
    source: str = "P(IK) by asking, after Kadavath et al. 2022, arXiv:2207.05221, section 5"
    needs: str = "allowed_token_ids"

    async def measure(self, question: str, engine: Engine, prompt: Prompt) -> Probe:
        value, usage = await ask_yes_or_no(engine, know_prompt(question))
        return probe_of(self.name, 1 - value, usage)


@dataclass(frozen=True, slots=True)
class _Random:
    name: str = "random"
    high: float = 1.0
    source: str = "none: a threshold of 1 - x acts on a share x of the questions, whatever they are"
    needs: str = "nothing"

    async def measure(self, question: str, engine: Engine, prompt: Prompt) -> Probe:
        digest = hashlib.sha256(question.encode()).digest()
        return Probe(self.name, int.from_bytes(digest[:8], "big") / 2**64, "weak")


def probe_of(name: str, value: float, usage: Usage) -> Probe:
    """A probe of the weak engine, with what it cost."""
    return Probe(name, value, "weak", usage.prompt, usage.cached, usage.completion, cached_estimated=usage.estimated)


def know_prompt(question: str) -> str:
    """Asks whether the model can answer by itself; its next word is yes or no."""
    return (
        "Some questions can be answered from memory, others have to be looked up.\n"
        f"Question: {' '.join(question.split())}\n"
        "Can you answer this question correctly without looking anything up, yes or no?\nAnswer:"
    )


async def ask_yes_or_no(engine: Engine, text: str) -> tuple[float, Usage]:
    """P(yes) against P(no) as the next word after `text`, 0 to 1, in either case of the first letter."""
    text = await without_marks(text, engine)
    begin = len(await engine.tokenize(text))
    words = [await engine.tokenize(text + word) for word in (" yes", " Yes", " no", " No")]
    logprobs, usage = await engine.choose(words[0][:begin], [ids[begin] for ids in words])
    yes, no = (sum(map(math.exp, pair)) for pair in (logprobs[:2], logprobs[2:]))
    return yes / (yes + no) if yes + no else 0.5, usage


PRE_SIGNALS: dict[str, PreSignal] = {
    signal.name: signal for signal in (_FirstTokenEntropy(), _QuestionPerplexity(), _PIK(), _Random())
}
"""The pre-generation signals that need nothing but an engine, by name."""

Router = PreSignal | Chooser | StreamSignal | PostSignal
"""What may be trained: a number for a question, a choice among policies, a number for a running answer or a finished
one."""
ROUTERS: dict[str, Callable[[Path], Router]] = {}
"""Loaders of trained routers by kind, filled by `flarekit.escalation`: the core knows no classifier."""


def find_pre_signal(name: str) -> PreSignal:
    """The pre-generation signal called `name`."""
    if name not in PRE_SIGNALS:
        raise ConfigError(f"no signal from before generation is called {name!r}; there are {', '.join(PRE_SIGNALS)}")
    return PRE_SIGNALS[name]


def load_router(folder: str | Path) -> Router:
    """The trained router in `folder`."""
    import_module("flarekit.escalation")  # registers its kinds; not needed, so not loaded, until a router is asked for
    place = standing(Path(folder))
    manifest = place / "router.json"
    try:
        kind = str(read_json(manifest, place)["kind"])[:100]
    except FileNotFoundError as error:
        raise DataError(f"{manifest} does not exist; `flarekit router train` makes such a folder") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{manifest} is not a router's manifest ({_why(error)})") from error
    if kind not in ROUTERS:
        raise DataError(f"{manifest}: no router is of the kind {kind!r}; there are {', '.join(ROUTERS) or 'none'}")
    return ROUTERS[kind](place)


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def load_pre_router(folder: str | Path) -> PreSignal:
    """The router in `folder`, which must score a question."""
    router = load_router(folder)
    return router if isinstance(router, PreSignal) else _refuse(folder, router, "scores a question before generation")


def load_stream_router(folder: str | Path) -> StreamSignal:
    """The router in `folder`, which must watch a stream."""
    router = load_router(folder)
    return router if isinstance(router, StreamSignal) else _refuse(folder, router, "watches an answer while it streams")


def load_post_router(folder: str | Path) -> PostSignal:
    """The router in `folder`, which must judge a finished answer."""
    router = load_router(folder)
    return router if isinstance(router, PostSignal) else _refuse(folder, router, "judges a finished answer")


def load_chooser(folder: str | Path) -> Chooser:
    """The router in `folder`, which must choose among policies."""
    router = load_router(folder)
    return router if isinstance(router, Chooser) else _refuse(folder, router, "chooses among policies")


def _refuse(folder: str | Path, router: Router, does: str) -> NoReturn:
    raise ConfigError(f"{folder}: a router of the kind {router.name!r} is not one that {does}")

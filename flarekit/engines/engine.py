"""What the core knows of language models: an engine turns token ids into a stream of tokens.

The real engine is `flarekit.engines.vllm.VLLMEngine`. Prompts are token ids throughout, because continuing a text by
its ids gives exactly the tokens that an uninterrupted stream would have given, while continuing by text may tokenise it
anew in another way. A hand-over to another model goes through that model's own `tokenize`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from flarekit.tokens import Finish, Token, Usage

Message = Mapping[str, Any]
"""One turn of a conversation as the chat API has it: a "role", its "content", and what else the template reads."""


class Stream(Protocol):
    """Tokens as they are generated. Leaving the context stops the generation on the server."""

    def __aiter__(self) -> AsyncIterator[Token]: ...

    @property
    def finish(self) -> Finish:
        """Why it ended; "closed" while it is still running."""
        ...

    @property
    def usage(self) -> Usage:
        """Tokens so far, as the server counted them."""
        ...


class Engine(Protocol):
    """A language model that streams log-probabilities."""

    model: str

    async def tokenize(self, text: str, *, begin: bool = True) -> list[int]:
        """The ids of `text`, with the special tokens that the model expects at the start unless it does not `begin`."""
        ...

    async def tokenize_chat(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a conversation by the model's own chat template, up to where its next answer begins."""
        ...

    def stream(
        self,
        prompt: Sequence[int],
        *,
        max_tokens: int,
        stop: Sequence[str] = (),
        top_logprobs: int = 10,
        temperature: float = 0.0,
        seed: int | None = None,
        min_tokens: int | None = None,
    ) -> AbstractAsyncContextManager[Stream]:
        """Continue `prompt` by at most `max_tokens` tokens: greedily, or sampled at a `temperature` above 0.

        A stream ends before the first of the `stop` strings, each token's text is its own. A session asks for no string
        that the answer may hold a part of already, and for `min_tokens` (none ends before it) only where it needs to.
        """
        ...

    async def choose(self, prompt: Sequence[int], choices: Sequence[int]) -> tuple[list[float], Usage]:
        """ln p of each token id in `choices` as the next token. Shape (len(choices),)."""
        ...

    async def score(self, prompt: Sequence[int]) -> list[float]:
        """ln p of each token of `prompt` after the first, given those before it. Shape (len(prompt) - 1,)."""
        ...

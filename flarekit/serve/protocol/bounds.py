"""What a request that no policy applies to may ask of the engine: as much as a session may, and nothing of others."""

from __future__ import annotations

from typing import Any

from flarekit.serve.protocol.request import COMPLETION_TOKENS, OTHERS, Body, NotUnderstood, number

MOST_ANSWERS = 128


def bounded(body: Body, model: str, tokens: int, chat: bool) -> dict[str, Any]:
    """The request as the engine gets it: of all its answers together, at most `tokens` tokens.

    One answer is cut to that as a session's is; several that were asked to be longer are refused (`NotUnderstood`).
    """
    passed = {name: value for name, value in body.items() if name not in OTHERS and name != "flarekit"}
    answers = max(number(body, "n") or 1, number(body, "best_of") or 1) * (1 if chat else _prompts(body))
    if answers > min(MOST_ANSWERS, tokens):
        raise NotUnderstood(f"{answers} answers are asked for; {min(MOST_ANSWERS, tokens)} are the most", "n")
    if body.get("echo") and answers > MOST_ANSWERS // 8:
        raise NotUnderstood(f"a prompt can be repeated in {MOST_ANSWERS // 8} answers at most", "echo")
    length = _asked(body, chat)
    if length is not None and answers > 1 and length * answers > tokens:
        message = f"{answers} answers of {length} tokens are asked for; together they may have {tokens}"
        raise NotUnderstood(message, "max_tokens")
    length = min(tokens // answers, length if length is not None else tokens)
    passed |= {"model": model, "max_tokens": length}
    if chat and body.get("max_completion_tokens") is not None:
        passed["max_completion_tokens"] = length
    if (least := number(body, "min_tokens", 0)) is not None:
        passed["min_tokens"] = min(least, length)
    return passed


def _asked(body: Body, chat: bool) -> int | None:
    """The length that is asked for; a completion without one is short, as in vLLM."""
    longest = number(body, "max_tokens", 0)
    if not chat:
        return COMPLETION_TOKENS if longest is None else longest
    most = number(body, "max_completion_tokens", 0)
    return longest if most is None else most


def _prompts(body: Body) -> int:
    """How many prompts a completion has: a list of token ids is one."""
    prompt, embedded = body.get("prompt"), body.get("prompt_embeds")
    texts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
    return texts + (len(embedded) if isinstance(embedded, list) else 0)

"""Policies that call the stronger model during generation, for the rest of the answer or for a part of it."""

from __future__ import annotations

from typing import Literal

from flarekit.actions import Escalate
from flarekit.errors import ConfigError
from flarekit.policies.base import Amount, Count, Rule, policy
from flarekit.policies.triggers import Reading, Trigger
from flarekit.signals.question import load_stream_router
from flarekit.signals.token import find_signal


@policy("escalate", cost="the strong model's part; discarded sentences")
def escalate(
    *,
    signal: str = "min-prob",
    threshold: Amount = 0.7,
    over: str | None = None,
    words_only: bool = True,
    read: Reading = "token",
    restart: bool = False,
    back: Literal["never", "sentence"] = "never",
    actions: Count = 7,
    router: str | None = None,
) -> tuple[Rule, ...]:
    """Hand the committed text to the strong model as soon as the weak one is in doubt, and let it go on from there.

    `restart` lets it begin anew; then nothing is committed before the end, since the weak model's text may be taken
    back. `back=sentence` lets it write one sentence, after which the weak model goes on until its next doubt. The
    threshold is on the signal's own scale: 0.7 of min-prob is a token with p <= 0.3. `router` is a folder of the kind
    `mid-lr`, whose score takes the place of `signal`.
    """
    doubt = load_stream_router(router) if router else find_signal(signal, over, words_only)
    if restart and back != "never":
        raise ConfigError("restart and back exclude each other: an answer that was begun anew is not handed back")
    times = 1 if back == "never" else actions
    return (Rule(Trigger(doubt, threshold, "mid", read), Escalate(restart=restart, back=back), times=times),)


@policy("step-entropy", paper="GlimpRouter, arXiv:2601.05110", cost="the strong model's steps; 1 token each")
def step_entropy(*, threshold: Amount = 1.0, actions: Count = 20) -> tuple[Rule, ...]:
    """The weak model writes the first token of each step; where its entropy is high, the strong one writes the step.

    A step is a sentence here; GlimpRouter's are the paragraphs of a reasoning model's thoughts (section 3). The strong
    model hands back at the sentence's end.
    """
    glimpse = Trigger(find_signal("step-entropy"), threshold, "mid", "token")
    return (Rule(glimpse, Escalate(back="sentence"), times=actions),)


@policy("rolling-entropy", paper="EAD, Simonds 2025, arXiv:2502.06833", cost="the strong model's tokens")
def rolling_entropy(
    *, threshold: Amount = 1.0, window: Count = 5, stay: Count = 10, actions: Count = 20
) -> tuple[Rule, ...]:
    """Entropy-adaptive decoding: the strong model writes while the mean entropy of the last tokens is high (section 3).

    Every token is kept, and the models take turns: the strong one goes on when the mean over the weak one's last
    `window` tokens reaches the threshold, and the weak one again when that of the strong one's is below it. Neither
    hands over before it has written `stay` tokens since its turn began, the first turn included, nor before it has
    filled a window. The paper measures entropy in bits over the whole vocabulary; here it is in nats over the top 10
    and the rest.
    """
    rolling = Trigger(find_signal("rolling-entropy", window), threshold, "mid", "token")
    return (Rule(rolling, Escalate(keep=True, back="calm", stay=max(stay, window)), times=actions),)

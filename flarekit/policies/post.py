"""Policies that decide after generation whether the finished answer will do: cascades, and looking up afterwards."""

from __future__ import annotations

from flarekit.actions import Escalate, Retrieve, Vote, question_query
from flarekit.errors import ConfigError
from flarekit.policies.base import POLICIES, Amount, Count, K, Policy, Probability, Rule, policy
from flarekit.policies.triggers import NEVER, Trigger, always
from flarekit.signals.answer import NLI, POST_SIGNALS, find_grouping, find_post_signal
from flarekit.signals.question import load_post_router
from flarekit.signals.token import find_signal

_STRONG = "≤ 1 strong answer"


@policy("post-retrieve", cost="≤ 1 look-up and a second answer")
def post_retrieve(
    *, signal: str = "mean-logprob", threshold: Amount = 0.5, words_only: bool = False, samples: Count = 5, k: Count = K
) -> tuple[Rule, ...]:
    """Let the model finish without passages, and retrieve with the question and answer anew if the answer is in doubt.

    The post-generation twin of `pre-retrieve` and `mid-retrieve`: it has seen the most and throws away the most.
    """
    return (Rule(_after(signal, threshold, words_only, samples), Retrieve(question_query, k, restart=True)),)


@policy("cascade", paper="FrugalGPT, Chen et al. 2023, arXiv:2305.05176", cost=_STRONG)
def cascade(
    *, signal: str = "mean-logprob", threshold: Amount = 0.5, words_only: bool = False, samples: Count = 5
) -> tuple[Rule, ...]:
    """Let the weak model finish, and accept its answer or ask the strong one anew (section 3).

    The paper learns a scorer of answers; here the answer's own uncertainty decides, without training: the default is
    its mean surprisal in nats a token. `signal` may also be one that asks the model again, with `samples` samples.
    """
    return (Rule(_after(signal, threshold, words_only, samples), Escalate(restart=True)),)


_JUDGED = f"k short judgements; {_STRONG}"


@policy("self-verify-cascade", paper="Madaan et al. 2023, arXiv:2310.12963", cost=_JUDGED)
def self_verify_cascade(*, threshold: Probability = 0.5, samples: Count = 5) -> tuple[Rule, ...]:
    """Have the weak model judge its own answer `samples` times, and ask the strong one where too few agree.

    AutoMix's self-verification (section 3.2) under a threshold, one of the baselines of that paper. A judgement is one
    word after four judged examples, sampled at temperature 1; the paper's are sentences.
    """
    judged = find_post_signal("self-verification", samples=samples)
    return (Rule(Trigger(judged, threshold, "post"), Escalate(restart=True)),)


@policy("automix", paper="Madaan et al. 2023, arXiv:2310.12963", cost=_JUDGED)
def automix(
    *, router: str | None = None, threshold: Probability | None = None, samples: Count | None = None
) -> Policy | tuple[Rule, ...]:
    """Hand an answer over where that is worth it at the share of its judgements that agree (section 3.3).

    `router` is a folder of the kind `automix`, fitted on recorded runs: the shares at which the strong model is asked
    are a set, usually an interval, so that hopeless questions stay with the weak model. `threshold` is the least score
    that a hand-over must be expected to gain, the router's own unless given. Without a router this is the old name of
    `self-verify-cascade`, which runs recorded earlier bear.
    """
    if router is None:
        given = {"threshold": threshold, "samples": samples}
        return POLICIES["self-verify-cascade"](**{key: value for key, value in given.items() if value is not None})
    if samples is not None:
        raise ConfigError("a router asks for as many judgements as it was fitted on; leave samples out")
    judged = load_post_router(router)
    least = getattr(judged, "least_gain", NEVER) if threshold is None else threshold
    return (Rule(Trigger(judged, least if least <= judged.high else NEVER, "post"), Escalate(restart=True)),)


@policy("vote-cascade", paper="Yue et al. 2023, arXiv:2310.03094", cost=f"n answers; {_STRONG}")
def vote_cascade(
    *, samples: Count = 5, threshold: Probability = 0.5, temperature: Probability = 0.7
) -> tuple[Rule, ...]:
    """Take the majority of several sampled answers if its share is large enough, else ask the strong model (section 3).

    `threshold` is on 1 - the share. The paper mixes two forms of thought among the samples; here all reason in words.
    """
    share = find_post_signal("vote-share", samples=samples, temperature=temperature)
    vote = Rule(always("pre"), Vote(samples, temperature))
    return (vote, Rule(Trigger(share, threshold, "post"), Escalate(restart=True)))


@policy("semantic-entropy", paper="Kuhn et al. 2023, arXiv:2302.09664", cost=f"1 + n answers; {_STRONG}")
def semantic_entropy(
    *,
    samples: Count = 5,
    threshold: Amount = 1.0,
    temperature: Probability = 0.7,
    grouping: str = "words",
    nli: str = NLI,
) -> tuple[Rule, ...]:
    """Ask the strong model where sampled answers mean different things (section 3; the discrete form of Farquhar 2024).

    `grouping=entailment` is the paper's: answers are one where each entails the other, with the question before both,
    by the cross-encoder `nli` (a name on the hub, or a folder). `grouping=words` needs no model: short answers are one
    where they differ in nothing but how they are written, with numbers, dates and negations compared exactly.
    """
    find_grouping(grouping)  # a name that is none is refused here, and not after the first samples
    meanings = find_post_signal(
        "semantic-entropy", samples=samples, temperature=temperature, grouping=grouping, nli=nli
    )
    return (Rule(Trigger(meanings, threshold, "post"), Escalate(restart=True)),)


def _after(signal: str, threshold: float, words_only: bool, samples: int) -> Trigger:
    if signal in POST_SIGNALS:
        return Trigger(find_post_signal(signal, samples=samples), threshold, "post")
    return Trigger(find_signal(signal, "answer", words_only), threshold, "post")

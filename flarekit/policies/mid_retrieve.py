"""Policies that retrieve during generation: they differ in when, in what they ask, and in what becomes of the draft."""

from __future__ import annotations

from typing import Literal

from flarekit.actions import (
    Retrieve,
    last_tokens_query,
    masked_draft_query,
    question_and_answer_query,
    question_query,
    requested_query,
    sentence_query,
    uncertain_words_query,
)
from flarekit.policies.base import Amount, Count, K, Policy, Probability, Rule, policy
from flarekit.policies.triggers import Reading, Trigger, always
from flarekit.prompts.few_shot import SEARCH_EXEMPLARS, SEARCH_INSTRUCTION, Prompt
from flarekit.signals.question import load_stream_router
from flarekit.signals.token import LENGTH, REQUEST, SEARCH_REQUEST, find_signal

_DRAFTS = "look-ups and discarded sentences"


@policy("mid-retrieve", cost=_DRAFTS)
def mid_retrieve(
    *,
    signal: str = "min-prob",
    threshold: Amount = 0.7,
    over: str | None = None,
    words_only: bool = True,
    read: Reading = "sentence",
    query: Literal["draft", "question"] = "draft",
    beta: Probability = 0.4,
    k: Count = K,
    actions: Count = 7,
    router: str | None = None,
) -> tuple[Rule, ...]:
    """Begin without passages and retrieve when the draft is in doubt: the mid-generation twin of `pre-retrieve`.

    The query is the drafted sentence without its doubtful words, as in FLARE, or the question. `router` is a folder of
    the kind `mid-lr`: a classifier trained on the running signals takes the place of `signal`.
    """
    doubt = load_stream_router(router) if router else find_signal(signal, over, words_only)
    formulation = question_query if query == "question" else masked_draft_query(beta)
    return (Rule(Trigger(doubt, threshold, "mid", read), Retrieve(formulation, k), times=actions),)


@policy("flare", paper="Jiang et al. 2023, arXiv:2305.06983", cost=f"1 + {_DRAFTS}")
def flare(
    *,
    theta: Probability = 0.8,
    beta: Probability = 0.4,
    k: Count = K,
    read: Reading = "sentence",
    actions: Count = 7,
) -> tuple[Rule, ...]:
    """FLARE-direct (section 3.2).

    Retrieve with the question first. Whenever a sentence has a token with p <= `theta`, look up that sentence without
    the words that have p <= `beta`, and generate it again with what was found; the new sentence is taken as it is.

    Ours differs in what it throws away: a confident sentence is streamed and kept instead of drafted and generated
    again, and an uncertain one is kept where the look-up finds what the prompt already holds. The paper retrieves two
    passages. `read=token` stops within a token of the doubt instead of at the sentence's end.
    """
    doubt = Trigger(find_signal("min-prob"), 1 - theta, "mid", read)
    again = Retrieve(masked_draft_query(beta), k)
    return (Rule(always("pre"), Retrieve(question_query, k)), Rule(doubt, again, times=actions))


@policy("flare-instruct", paper="Jiang et al. 2023, arXiv:2305.06983", cost="a look-up a request")
def flare_instruct(*, k: Count = K, actions: Count = 5) -> Policy:
    """FLARE-instruct (section 3.1): the model asks for what it wants to know, as `[Search(query)]`.

    The stream stops where a request is complete; what is found stands above the question from then on, and the model
    goes on after its request, which stays in its context and out of the answer. The paper teaches this in two lessons
    of exemplars and raises the probability of "["; here one set of exemplars shows both, and nothing is raised, since
    a bias on a token is no signal.
    """
    prompt = Prompt(instruction=SEARCH_INSTRUCTION, exemplars=SEARCH_EXEMPLARS, hidden=REQUEST)
    asked = Trigger(SEARCH_REQUEST, 1.0, "mid", "token")
    return Policy(rules=(Rule(asked, Retrieve(requested_query, k, keep=True), times=actions),), prompt=prompt)


@policy("iter-retgen", paper="Shao et al. 2023, arXiv:2305.15294", cost="a look-up and an answer a round")
def iter_retgen(*, rounds: Count = 2, k: Count = K) -> tuple[Rule, ...]:
    """Retrieve with the question and answer; then again with the question and the whole last answer (section 3).

    `rounds` counts answers. The paper retrieves five passages. A round whose look-up finds what the prompt already
    holds would repeat the same answer, and is left out.
    """
    again = Retrieve(question_and_answer_query, k, restart=True)
    return (Rule(always("pre"), Retrieve(question_query, k)), Rule(always("post"), again, times=rounds - 1))


@policy("ircot", paper="Trivedi et al. 2023, arXiv:2212.10509", cost="a look-up a sentence, long prompts")
def ircot(*, k: Count = K, passages: Count = 15, sentences: Count = 10) -> tuple[Rule, ...]:
    """Retrieve with the question, then with every sentence of reasoning, and gather what is found (section 3).

    The prompt holds up to `passages`, the question's first and each once. The paper writes at most ten sentences and
    has a reader answer from the passages; here the chain of thought itself ends with the answer, as it does for every
    other policy, and after `sentences` look-ups it goes on without more.
    """
    first = Rule(always("pre"), Retrieve(question_query, k))
    return (first, Rule(always("mid"), Retrieve(sentence_query, k, keep=True, gather=passages), times=sentences))


@policy("fixed-sentence", paper="FS baseline of arXiv:2305.06983 and 2403.10081", cost="a look-up a sentence")
def fixed_sentence(*, k: Count = K, actions: Count = 10) -> tuple[Rule, ...]:
    """Retrieve after every sentence with that sentence, whatever the model's certainty ("previous sentence").

    Passages take the place of those before; the question is looked up first. What was written is kept.
    """
    after = Rule(always("mid"), Retrieve(sentence_query, k, keep=True), times=actions)
    return (Rule(always("pre"), Retrieve(question_query, k)), after)


@policy("fixed-length", paper="FL baseline of arXiv:2305.06983 and 2403.10081", cost="a look-up every n tokens")
def fixed_length(*, length: Count = 16, k: Count = K, actions: Count = 10) -> tuple[Rule, ...]:
    """Retrieve after every `length` tokens with those tokens, whatever the model's certainty ("previous window").

    16 tokens, as in the FLARE paper's baseline; the question is looked up first. What was written is kept.
    """
    window = Trigger(LENGTH, length, "mid", "token")
    after = Rule(window, Retrieve(last_tokens_query(length), k, keep=True), times=actions)
    return (Rule(always("pre"), Retrieve(question_query, k)), after)


@policy("dragin-lite", paper="after Su et al. 2024, arXiv:2403.10081", cost=_DRAFTS)
def dragin_lite(
    *, threshold: Amount = 1.2, words: Count = 25, k: Count = K, read: Reading = "sentence", actions: Count = 7
) -> tuple[Rule, ...]:
    """DRAGIN without its attention, which no server tells over HTTP; hence the name.

    The paper's token score is entropy times the attention that later tokens pay it, on content words (section 3.1), and
    its query the 25 to 35 words that the uncertain token attends to most (section 3.2). Here the score is the entropy
    of content words alone, and the query holds the question's content words and the most uncertain ones of the answer,
    `words` in all. The sentence in doubt is generated again as a whole; the paper goes on from the uncertain token.
    """
    doubt = Trigger(find_signal("content-entropy"), threshold, "mid", read)
    return (Rule(doubt, Retrieve(uncertain_words_query(words), k), times=actions),)


@policy("etc", paper="after Li et al. 2025, arXiv:2511.09980", cost=_DRAFTS)
def etc(
    *, threshold: Amount = 1.0, beta: Probability = 0.4, k: Count = K, read: Reading = "token", actions: Count = 7
) -> tuple[Rule, ...]:
    """ETC: retrieve where uncertainty begins to rise, before it is high.

    The signal is the largest second difference of the sentence's smoothed token entropies. The paper smooths by weights
    that depend on the differences themselves; here each entropy is averaged with the one before it. It reads single
    tokens, since to be early is the point. The query is FLARE's masked sentence.
    """
    rising = Trigger(find_signal("entropy-trend"), threshold, "mid", read)
    return (Rule(rising, Retrieve(masked_draft_query(beta), k), times=actions),)


@policy("rolling-retrieve", paper="signal of EAD, arXiv:2502.06833", cost=_DRAFTS)
def rolling_retrieve(
    *, threshold: Amount = 1.0, window: Count = 5, beta: Probability = 0.4, k: Count = K, actions: Count = 7
) -> tuple[Rule, ...]:
    """Retrieve where the mean entropy of the last `window` tokens is high: EAD's signal with another action."""
    doubt = Trigger(find_signal("rolling-entropy", window), threshold, "mid", "token")
    return (Rule(doubt, Retrieve(masked_draft_query(beta), k), times=actions),)

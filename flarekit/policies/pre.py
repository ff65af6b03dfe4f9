"""Policies that decide before generation, from the question alone: routers."""

from __future__ import annotations

from flarekit.actions import Escalate, Retrieve, question_query
from flarekit.policies.base import Amount, Count, K, Policy, Probability, Rule, policy
from flarekit.policies.triggers import Trigger
from flarekit.signals.question import find_pre_signal, load_chooser, load_pre_router


@policy("pre-retrieve", paper="Moskvoretskii et al. 2025, arXiv:2501.12835", cost="the signal's; ≤ 1 look-up")
def pre_retrieve(
    *, signal: str = "first-token-entropy", threshold: Amount = 1.0, k: Count = K, router: str | None = None
) -> tuple[Rule, ...]:
    """Retrieve with the question if a signal from before generation says so, as routers do.

    `router` is a folder that `flarekit router train` wrote; its score takes the place of `signal`.
    """
    return (Rule(_before(signal, threshold, router), Retrieve(question_query, k)),)


@policy("pre-escalate", paper="Ong et al. 2024, arXiv:2406.18665", cost="the signal's; ≤ 1 strong answer")
def pre_escalate(
    *, signal: str = "first-token-entropy", threshold: Amount = 1.0, router: str | None = None
) -> tuple[Rule, ...]:
    """Give the question to the strong model if a signal from before generation says so, as RouteLLM's routers do.

    `router` is a folder that `flarekit router train` wrote, of any kind that scores a question: `routellm-mf`,
    `routellm-sw`, `routellm-bert`, `hybrid-llm`, `knn`, `tfidf-lr` and others.
    """
    return (Rule(_before(signal, threshold, router), Escalate()),)


@policy("p-ik", paper="Kadavath et al. 2022, arXiv:2207.05221", cost="a short prompt, 1 token; ≤ 1 look-up")
def p_ik(*, threshold: Probability = 0.5, k: Count = K) -> tuple[Rule, ...]:
    """Ask the model whether it can answer without looking anything up, and retrieve where it says no (section 5).

    The paper trains a head for P(IK); here the answer is read from the probabilities of yes and no, without training.
    """
    return (Rule(Trigger(find_pre_signal("p-ik"), threshold, "pre"), Retrieve(question_query, k)),)


@policy("adaptive-rag", paper="Jeong et al. 2024, arXiv:2403.14403", cost="a classifier; 0 to many look-ups")
def adaptive_rag(*, router: str) -> Policy:
    """A classifier of the question chooses no retrieval, one, or many rounds of it (section 3.2).

    `router` is a folder of the kind `adaptive-rag`; its docstring says how its labels differ from the paper's.
    """
    return Policy(chooser=load_chooser(router))


@policy("avengers-pro", paper="Zhang et al. 2025, arXiv:2508.12631", cost="an embedding; the arm's")
def avengers_pro(*, router: str, alpha: Probability | None = None) -> Policy:
    """The arm with the best balance of accuracy and cost in the question's neighbourhood (section 2).

    `router` is a folder of the kind `avengers-pro`; its arms are any policies of either model. `alpha` is the weight of
    accuracy: 1 pays for the best arm, 0 takes the cheapest.
    """
    return Policy(chooser=load_chooser(router), tradeoff=alpha)


@policy("masrouter", paper="Yue et al. 2025, arXiv:2502.11133", cost="an embedding; the arm's")
def masrouter(*, router: str) -> Policy:
    """One controller chooses how to work, how often, in which role and with which model, before generation (section 4).

    `router` is a folder of the kind `masrouter`, trained with its cost penalty on runs that logged every arm. The
    choice is the likeliest at every step and never a sample.
    """
    return Policy(chooser=load_chooser(router))


def _before(signal: str, threshold: float, router: str | None) -> Trigger:
    return Trigger(load_pre_router(router) if router else find_pre_signal(signal), threshold, "pre")

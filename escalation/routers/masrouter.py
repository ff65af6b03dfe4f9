"""MasRouter (Yue et al. 2025, arXiv:2502.11133): one controller decides how calls work together, and who answers.

A cascade of choices: the collaboration mode, then how many samples or rounds, then the role, then the model. All are
read from the arms' specifications: `self-consistency:samples=3,role=critic` is the mode self-consistency, 3 samples,
the role critic, the default model. P(arm | question) is the product of a softmax at every choice along its path, each
linear in the question's embedding (section 4).

The paper samples a path at training and at test time and learns by policy gradient. Every arm was recorded on every
question here, so the expected utility Σ P(arm)·(score - λ·cost / mean cost) is exact, and so is its gradient; and
answering takes the likeliest branch at every choice, never a sample. The paper's controller adds a variational latent
space and embeddings of modes, roles and models, so that it can take in new ones; ours knows the arms it was fitted on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import softmax

from flarekit.engines.encoders import DEFAULT
from flarekit.errors import ConfigError
from flarekit.escalation.base import Fitted, Task, at_least, embed, embedded
from flarekit.policies.spec import parse_spec, split_arm
from flarekit.stats.arrays import Floats

MODES = {"closed-book": "chain-of-thought"}
"""Collaboration modes of policies that are called otherwise."""
_COUNTS = ("samples", "rounds")


@dataclass(frozen=True, slots=True)
class Tree:
    """The choices: every edge leads from a path of choices to a longer one."""

    choices: Sequence[NDArray[np.int64]]
    """The edges of every place where there is a choice, the first choices first."""
    paths: Floats
    """Whether an arm's path takes an edge, 0 or 1. Shape (arms, edges)."""

    @property
    def edges(self) -> int:
        """How many edges there are."""
        return int(self.paths.shape[1])


def levels(arm: str) -> tuple[str, str, str, str]:
    """The choices that make an arm: mode, number of samples or rounds, role, model."""
    model, spec = split_arm(arm)
    written = parse_spec(spec)
    family, pairs = written.family, dict(written.parameters)
    count = next((pairs.pop(name) for name in _COUNTS if name in pairs), "")
    role, engine = pairs.pop("role", ""), pairs.pop("model", "")
    # What else sets an arm apart is part of its mode.
    rest = ",".join(f"{key}={value}" for key, value in sorted(pairs.items()))
    mode = MODES.get(family, family)
    return f"{mode}:{rest}" if rest else mode, count, role, f"{model}/{engine}".strip("/")


def tree(arms: Sequence[str]) -> Tree:
    """The tree of the arms' choices; a place with one way on is no choice and has no edge.

    `ConfigError` where two arms make the same choices.
    """
    paths = [levels(arm) for arm in arms]
    if len(set(paths)) < len(paths):
        twice = next(arm for arm, path in zip(arms, paths, strict=True) if paths.count(path) > 1)
        raise ConfigError(f"another arm has the same mode, count, role and model as {twice}; leave one out")
    choices: list[NDArray[np.int64]] = []
    columns: list[list[float]] = []
    for depth in range(4):
        for begin in dict.fromkeys(path[:depth] for path in paths):
            branches = list(dict.fromkeys(path[: depth + 1] for path in paths if path[:depth] == begin))
            if len(branches) > 1:
                choices.append(np.arange(len(columns), len(columns) + len(branches)))
                columns += [[float(path[: depth + 1] == branch) for path in paths] for branch in branches]
    return Tree(choices, np.array(columns).reshape(len(columns), len(arms)).T)


def fit(task: Task, *, encoder: str = DEFAULT, cost_weight: float = 0.1, l2: float = 1e-3) -> Fitted:
    """Maximise the expected utility by L-BFGS, from a start where every branch is as likely as the others.

    `cost_weight` is λ: how much score a question is worth that costs the mean over all arms and questions.
    """
    at_least("cost_weight", cost_weight, 0)
    at_least("l2", l2, 0)
    plan, outcomes = tree(task.outcomes.arms), task.outcomes
    if not plan.choices:
        raise ConfigError(f"a cascade of choices needs two arms at least, not {len(outcomes.arms)}")
    vectors = with_one(embed(encoder, task.questions))
    utility = outcomes.scores - cost_weight * outcomes.costs / max(outcomes.costs.mean(), 1e-12)
    shape = (plan.edges, vectors.shape[1])
    found = minimize(
        lambda flat: loss(flat.reshape(shape), vectors, utility, plan, l2),
        np.zeros(shape[0] * shape[1]),
        jac=True,
        method="L-BFGS-B",
    )
    settings = {"encoder": encoder, "cost_weight": cost_weight, "l2": l2}
    return Fitted(settings, {"weights": found.x.reshape(shape)})


def loss(weights: Floats, vectors: Floats, utility: Floats, plan: Tree, l2: float) -> tuple[float, Floats]:
    """Minus the mean expected utility + `l2`/2 · the squares of the weights, and its gradient, flat.

    `weights` is of shape (edges, d + 1), the last column being the intercepts, which are not penalised; `vectors` of
    shape (questions, d + 1); `utility` of shape (questions, arms).
    """
    shares = branch_shares(weights, vectors, plan)
    arms = np.exp(np.log(np.maximum(shares, 1e-300)) @ plan.paths.T)
    gained = (arms * utility) @ plan.paths  # what passes over every edge: the derivative by its log-probability
    slope = np.empty_like(gained)
    for edges in plan.choices:
        slope[:, edges] = gained[:, edges] - shares[:, edges] * gained[:, edges].sum(axis=1, keepdims=True)
    penalised = weights * np.append(np.ones(weights.shape[1] - 1), 0)
    value = -float((arms * utility).sum(axis=1).mean()) + l2 / 2 * float((penalised**2).sum())
    return value, np.asarray(-slope.T @ vectors / len(vectors) + l2 * penalised).ravel()


def branch_shares(weights: Floats, vectors: Floats, plan: Tree) -> Floats:
    """P(edge | the place where it begins) of every question. Shape (questions, edges)."""
    logits = vectors @ weights.T
    for edges in plan.choices:
        logits[:, edges] = softmax(logits[:, edges], axis=-1)
    return np.asarray(logits)


def choose(fitted: Fitted, questions: Sequence[str], tradeoff: float | None = None) -> NDArray[np.int64]:
    """The arm at the end of the likeliest branches. Shape (questions,).

    `ConfigError` for any trade-off but the trained one: λ is part of what was maximised.
    """
    if tradeoff is not None and tradeoff != fitted.settings["cost_weight"]:
        trained = fitted.settings["cost_weight"]
        raise ConfigError(f"this masrouter was trained for the trade-off {trained:g}; train another for {tradeoff:g}")
    plan, weights = tree(fitted.settings["arm_names"]), fitted.arrays["weights"]
    shares = branch_shares(weights, with_one(embedded(fitted, questions, weights.shape[1] - 1)), plan)
    open_arms = np.ones((len(questions), len(plan.paths)), dtype=bool)
    for edges in plan.choices:
        takers = plan.paths[:, edges].astype(bool)  # the arms behind every branch
        here = (open_arms[:, :, None] & takers).any(axis=(1, 2))
        taken = takers[:, shares[:, edges].argmax(axis=1)].T
        others = takers.any(axis=1) & ~taken
        open_arms &= ~(here[:, None] & others)
    return np.asarray(open_arms.argmax(axis=1))


def check(fitted: Fitted) -> None:
    """`ValueError` unless every edge of the arms' tree has its weights."""
    fitted.expect(weights=(tree(fitted.settings["arm_names"]).edges, "d"))


def with_one(vectors: Floats) -> Floats:
    """The vectors with a 1 behind each, whose weight is the intercept."""
    return np.column_stack([vectors, np.ones(len(vectors))])

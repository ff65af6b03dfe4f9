"""RouteLLM's routers (Ong et al. 2024, arXiv:2406.18665, section 4.2): P(the strong arm wins) of a question.

Both learn from preferences: of two arms' answers to one question the one with the higher F1 wins, and a tie counts
half. The paper's preferences are human votes between many chat models, ours come from recorded runs, so any arms will
do. Where the target is not `strong-wins` it stands for the preference: "the strong arm wins" is then read as "the
target comes true".

`routellm-mf`: matrix factorisation. The win score of arm M on question q is w2ᵀ(v_M ⊙ (W1ᵀ e_q + b)), e_q being the
question's embedding, and P(strong wins) is the sigmoid of the difference of two scores. The embedding is MiniLM's, the
paper's text-embedding-3-small.

`routellm-sw`: similarity-weighted ranking. Nothing is trained: for each question the Bradley-Terry strengths of the
arms are solved anew, with every known preference weighted by γ^(1 + s), s being its question's similarity relative to
the nearest one's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from flarekit.engines.encoders import DEFAULT
from flarekit.escalation.base import Fitted, Task, at_least, embed, embedded
from flarekit.stats.arrays import Floats


def preferences(task: Task) -> tuple[list[tuple[int, int]], Floats]:
    """Pairs of arms (loser, winner), and how far the second one wins. Shape (questions, pairs), 0, ½ or 1.

    With the target `strong-wins` all pairs of arms, the weak and the strong one first; with another the label alone.
    """
    if task.target != "strong-wins":
        return [(task.weak, task.strong)], task.labels[:, None]
    first = (task.weak, task.strong)
    pairs = [first, *(pair for pair in combinations(range(len(task.outcomes.arms)), 2) if set(pair) != set(first))]
    scores = task.outcomes.scores
    wins = [0.5 + 0.5 * np.sign(scores[:, winner] - scores[:, loser]) for loser, winner in pairs]
    return pairs, np.stack(wins, axis=1)


def fit_mf(task: Task, *, encoder: str = DEFAULT, factors: int = 16, decay: float = 1e-3) -> Fitted:
    """Minimise the mean cross-entropy of the preferences + `decay`/2 · the squares of all weights but `b`, by L-BFGS.

    The preferences of a pair that says nothing (all ties) do no harm. The start is random, by the seed.
    """
    at_least("factors", factors, 1)
    at_least("decay", decay, 0)
    vectors, (pairs, wins) = embed(encoder, task.questions), preferences(task)
    arms, dimensions = len(task.outcomes.arms), vectors.shape[1]
    shapes = {"w1": (dimensions, factors), "b": (factors,), "v": (arms, factors), "w2": (factors,)}
    rng = np.random.default_rng(task.seed)
    start = np.concatenate([rng.normal(0, 0.3, size=int(np.prod(shape))) for shape in shapes.values()])
    found = minimize(
        lambda flat: mf_loss(_unpacked(flat, shapes), vectors, pairs, wins, decay), start, jac=True, method="L-BFGS-B"
    )
    settings = {"encoder": encoder, "factors": factors, "decay": decay, "weak": task.weak, "strong": task.strong}
    return Fitted(settings, _unpacked(found.x, shapes))


def mf_loss(
    weights: dict[str, Floats], vectors: Floats, pairs: Sequence[tuple[int, int]], wins: Floats, decay: float
) -> tuple[float, Floats]:
    """The loss of `fit_mf` and its gradient, flat in the order w1, b, v, w2."""
    w1, b, v, w2 = (weights[name] for name in ("w1", "b", "v", "w2"))
    losers, winners = (np.array(side) for side in zip(*pairs, strict=True))
    hidden = vectors @ w1 + b
    apart = v[winners] - v[losers]
    logits = hidden @ (apart * w2).T
    loss = float((np.logaddexp(0, logits) - wins * logits).mean())
    slope = (expit(logits) - wins) / wins.size
    hidden_slope, apart_slope = slope @ (apart * w2), slope.T @ hidden
    v_slope = np.zeros_like(v)
    np.add.at(v_slope, winners, apart_slope * w2)
    np.add.at(v_slope, losers, -apart_slope * w2)
    gradient = [
        vectors.T @ hidden_slope + decay * w1,
        hidden_slope.sum(axis=0),
        v_slope + decay * v,
        (apart_slope * apart).sum(axis=0) + decay * w2,
    ]
    loss += decay / 2 * sum(float((part**2).sum()) for part in (w1, v, w2))
    return loss, np.concatenate([part.ravel() for part in gradient])


def predict_mf(fitted: Fitted, questions: Sequence[str]) -> Floats:
    """P(the strong arm wins) of each question. Shape (questions,), 0 to 1."""
    w1, b, v, w2 = (fitted.arrays[name] for name in ("w1", "b", "v", "w2"))
    hidden = embedded(fitted, questions, len(w1)) @ w1 + b
    return np.asarray(expit(hidden @ ((v[fitted.settings["strong"]] - v[fitted.settings["weak"]]) * w2)))


def check_mf(fitted: Fitted) -> None:
    """`ValueError` unless the factors fit together and both arms have theirs."""
    sizes = fitted.expect(w1=("d", "k"), b=("k",), v=("arms", "k"), w2=("k",))
    _check_pair(fitted, sizes["arms"])


def fit_sw(task: Task, *, encoder: str = DEFAULT, gamma: float = 10.0) -> Fitted:
    """Keep the questions' embeddings and preferences."""
    at_least("gamma", gamma, 1)
    pairs, wins = preferences(task)
    settings = {"encoder": encoder, "gamma": gamma, "weak": task.weak, "strong": task.strong}
    arrays = {"embeddings": embed(encoder, task.questions).astype(np.float32), "pairs": np.array(pairs), "wins": wins}
    return Fitted(settings, arrays)


def predict_sw(fitted: Fitted, questions: Sequence[str]) -> Floats:
    """P(the strong arm wins) of each question. Shape (questions,), 0 to 1."""
    known, pairs = fitted.arrays["embeddings"], fitted.arrays["pairs"]
    weights = similarity_weights(embedded(fitted, questions, known.shape[1]) @ known.T, fitted.settings["gamma"])
    arms = int(pairs.max()) + 1
    won = np.zeros((len(questions), arms, arms))
    for (loser, winner), wins in zip(pairs, fitted.arrays["wins"].T, strict=True):
        won[:, winner, loser] += weights @ wins
        won[:, loser, winner] += weights @ (1 - wins)
    strength = bradley_terry(won)
    strong, weak = strength[:, fitted.settings["strong"]], strength[:, fitted.settings["weak"]]
    return np.asarray(strong / (strong + weak))


def check_sw(fitted: Fitted) -> None:
    """`ValueError` unless every embedding has its preferences and both arms are among the pairs."""
    fitted.expect(embeddings=("n", "d"), pairs=("pairs", 2), wins=("n", "pairs"))
    pairs, wins = fitted.arrays["pairs"], fitted.arrays["wins"]
    if pairs.dtype.kind != "i" or pairs.min() < 0 or not (wins.min() >= 0 and wins.max() <= 1):
        raise ValueError("pairs of arms and preferences from 0 to 1 are expected")
    if not fitted.settings["gamma"] >= 1:
        raise ValueError("gamma of at least 1 is expected")
    _check_pair(fitted, int(pairs.max()) + 1)


def similarity_weights(similarity: Floats, gamma: float) -> Floats:
    """γ^(1 + s), s being the cosine divided by the largest one. Shape as `similarity`, (questions, known questions).

    Where no cosine is positive there is nothing to be relative to, and all weigh the same.
    """
    top = similarity.max(axis=1, keepdims=True)
    return np.asarray(gamma ** (1 + np.where(top > 0, similarity / np.maximum(top, 1e-9), 0)))


def bradley_terry(won: Floats, *, prior: float = 1e-3, rounds: int = 200) -> Floats:
    """Strengths that make the weighted wins most likely (Zermelo's iteration). Shape (questions, arms), sum 1.

    `won[q, a, b]` is how much arm a won against b. `prior` of a win is added both ways between all, so that an arm that
    never won has a strength above zero.
    """
    arms = won.shape[1]
    won = won + prior * (1 - np.eye(arms))
    played = won + won.transpose(0, 2, 1)
    strength = np.full(won.shape[:2], 1 / arms)
    for _ in range(rounds):
        rate = (played / (strength[:, :, None] + strength[:, None, :])).sum(axis=2)
        strength = won.sum(axis=2) / rate
        strength /= strength.sum(axis=1, keepdims=True)
    return np.asarray(strength)


def _check_pair(fitted: Fitted, arms: int) -> None:
    if not all(0 <= fitted.settings[name] < arms for name in ("weak", "strong")):
        raise ValueError("the weak and the strong arm must be among the arms")


def _unpacked(flat: Floats, shapes: dict[str, tuple[int, ...]]) -> dict[str, Floats]:
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])
    parts = np.split(flat, ends[:-1])
    return {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}

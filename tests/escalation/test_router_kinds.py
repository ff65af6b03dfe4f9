"""What the papers define, on examples that can be checked by hand."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import approx_fprime

from flarekit.engines import encoders as encoder
from flarekit.engines.encoders import Encoder
from flarekit.errors import ConfigError
from flarekit.escalation.base import Fitted, Task
from flarekit.escalation.outcomes import Outcomes
from flarekit.escalation.routers import adaptive_rag, avengers_pro, hybrid_llm, masrouter, routellm
from flarekit.escalation.routers import knn as nearest
from flarekit.escalation.routers.linear import fit_logistic
from flarekit.stats.arrays import Floats

SHARE = st.floats(0, 1)


@pytest.fixture(autouse=True, scope="module")
def plane() -> Iterator[None]:
    """Every text is the direction that it names in degrees."""

    def embed(texts: list[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        angles = np.radians([float(text) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "load_encoder", functools.cache(lambda name: Encoder(name, embed)))
        yield


def task(questions: Sequence[str], scores: Sequence[Sequence[float]], labels: Sequence[float] = ()) -> Task:
    """Questions with the F1 of each arm; the label is whether the second arm wins unless given."""
    made = np.array(scores, dtype=float)
    outcomes = Outcomes(
        [f"q{number}" for number in range(len(made))],
        questions,
        [f"arm{number}" for number in range(made.shape[1])],
        made,
        np.ones_like(made),
    )
    wins = np.array(labels or 0.5 + 0.5 * np.sign(made[:, 1] - made[:, 0]))
    return Task(outcomes, wins, target="wrong" if labels else "strong-wins")


# --- nearest neighbours ---------------------------------------------------------------------------------------------


def test_knn_weighs_the_nearest_labels_by_their_cosines() -> None:
    fitted = nearest.fit(task(["0", "60", "180"], [[0, 1]] * 3, [1, 0, 1]), k=2)
    assert nearest.predict(fitted, ["0"])[0] == pytest.approx(1 / (1 + 0.5))


def test_knn_of_a_question_that_is_like_none_is_the_plain_share_of_the_nearest() -> None:
    fitted = nearest.fit(task(["0", "10"], [[0, 1]] * 2, [1, 0]), k=2)
    assert nearest.predict(fitted, ["185"])[0] == pytest.approx(0.5)


# --- logistic regression --------------------------------------------------------------------------------------------


def test_a_soft_label_is_met_by_the_probability() -> None:
    """One question that is true three times in four, and nothing else to go by: the log-odds are ln 3."""
    weights, intercept = fit_logistic(np.zeros((4, 1)), np.full(4, 0.75), c=1e6, balanced=False)
    assert weights[0] == pytest.approx(0)
    assert intercept == pytest.approx(math.log(3), abs=1e-3)


# --- RouteLLM -------------------------------------------------------------------------------------------------------


def test_preferences_are_between_all_pairs_and_ties_count_half() -> None:
    pairs, wins = routellm.preferences(task(["0", "1"], [[0.0, 1.0, 1.0], [0.5, 0.5, 0.0]]))
    assert pairs == [(0, 1), (0, 2), (1, 2)]
    assert wins.tolist() == [[1.0, 1.0, 0.5], [0.5, 0.0, 0.0]]


def test_with_another_target_the_label_is_the_preference() -> None:
    pairs, wins = routellm.preferences(task(["0", "1"], [[0, 1, 1]] * 2, [1, 0]))
    assert (pairs, wins.tolist()) == ([(0, 1)], [[1.0], [0.0]])


def test_the_win_score_is_the_papers() -> None:
    """d(M) = w2 . (v_M * (W1' q + b)): by hand 1*(2+1)*2 + 0 = 6 for the strong arm, 3 for the weak one."""
    weights = {
        "w1": np.array([[2.0, 0.0], [0.0, 1.0]]),
        "b": np.array([1.0, 0.0]),
        "v": np.array([[1.0, 5.0], [2.0, 5.0]]),
        "w2": np.array([1.0, 1.0]),
    }
    fitted = Fitted({"encoder": "plane", "weak": 0, "strong": 1}, weights)
    assert routellm.predict_mf(fitted, ["0"])[0] == pytest.approx(1 / (1 + math.exp(-3)))


def test_the_gradient_of_the_factorisation_is_that_of_finite_differences() -> None:
    rng = np.random.default_rng(0)
    shapes = {"w1": (3, 2), "b": (2,), "v": (3, 2), "w2": (2,)}
    vectors, pairs, wins = rng.normal(size=(5, 3)), [(0, 1), (0, 2), (1, 2)], rng.choice([0, 0.5, 1], size=(5, 3))
    flat = rng.normal(size=sum(math.prod(shape) for shape in shapes.values()))

    def loss(flat: Floats) -> tuple[float, Floats]:
        return routellm.mf_loss(routellm._unpacked(flat, shapes), vectors, pairs, wins, 0.1)

    numeric = approx_fprime(flat, lambda at: loss(at)[0], 1e-7)
    np.testing.assert_allclose(loss(flat)[1], numeric, atol=1e-5)


def test_similarity_is_relative_to_the_nearest_question() -> None:
    weights = routellm.similarity_weights(np.array([[0.8, 0.4, 0.0, -0.8], [-0.1, -0.2, -0.3, -0.4]]), gamma=10)
    assert weights[0].tolist() == pytest.approx([100, 10**1.5, 10, 1])
    assert weights[1].tolist() == pytest.approx([10] * 4)


def test_two_arms_strengths_are_their_weighted_shares_of_wins() -> None:
    won = np.array([[[0.0, 1.0], [3.0, 0.0]]])
    assert routellm.bradley_terry(won, prior=0)[0].tolist() == pytest.approx([0.25, 0.75])


def test_strengths_are_where_expected_wins_are_the_wins() -> None:
    won = np.array([[[0, 4, 1], [2, 0, 3], [2, 1, 0]]], dtype=float)
    strength = routellm.bradley_terry(won, prior=0)[0]
    expected = (won[0] + won[0].T) * strength[:, None] / (strength[:, None] + strength)
    np.testing.assert_allclose(expected.sum(axis=1), won[0].sum(axis=1), atol=1e-6)


def test_the_ranking_follows_the_similar_question() -> None:
    fitted = routellm.fit_sw(task(["0", "90"], [[0, 1], [1, 0]]))
    # 100 against 10 at the first question, by weights of 10^(1+1) and 10^(1+0).
    found = routellm.predict_sw(fitted, ["0", "45", "90"])
    assert found.tolist() == pytest.approx([100 / 110, 0.5, 10 / 110], abs=1e-4)


# --- Hybrid LLM -----------------------------------------------------------------------------------------------------


def sampled_task() -> Task:
    base = task(["0", "1"], [[0.5, 1.0], [0.0, 1.0]])
    samples = [[[0.5, 1.0], [1.0, 0.0]], [[0.0, 0.0], [1.0, 0.5]]]
    outcomes = base.outcomes
    sampled = Outcomes(outcomes.ids, outcomes.questions, outcomes.arms, outcomes.scores, outcomes.costs, samples)
    return Task(sampled, base.labels)


def test_prob_labels_are_shares_of_sampled_pairs() -> None:
    """Question 0: .5 and 1 against 1 and 0, three of four pairs suffice; question 1: none does."""
    assert hybrid_llm.suffices(hybrid_llm.gap_samples(sampled_task()), 0.0).tolist() == [0.75, 0.0]


def test_trans_labels_forgive_a_gap_of_t() -> None:
    gaps = hybrid_llm.gap_samples(sampled_task())
    assert hybrid_llm.suffices(gaps, 0.5).tolist() == [1.0, 0.5]
    assert hybrid_llm.suffices(gaps, 1.0).tolist() == [1.0, 1.0]


def test_t_is_chosen_to_spread_the_labels() -> None:
    """Gaps of .2, .4, .6 and .8: forgiving half of them, t = .4, makes the labels differ most."""
    gaps = [np.array([-gap]) for gap in (0.2, 0.4, 0.6, 0.8)]
    assert hybrid_llm.best_gap(gaps) == 0.4
    assert hybrid_llm.best_gap([np.array([0.5])] * 3) == 0.0


@given(arrays(float, st.integers(1, 12), elements=st.floats(0, 1)))
def test_the_mean_difference_is_over_all_pairs(values: Floats) -> None:
    direct = np.abs(values[:, None] - values).mean()
    assert hybrid_llm.mean_absolute_difference(values) == pytest.approx(direct, abs=1e-12)


def test_the_score_is_high_where_the_weak_arm_does_not_suffice() -> None:
    fitted = hybrid_llm.fit(task(["0", "5", "90", "95"], [[1, 1], [1, 0], [0, 1], [0, 1]]))
    suffices, needs_help = hybrid_llm.predict(fitted, ["2", "92"])
    assert suffices < 0.5 < needs_help


# --- Adaptive-RAG ---------------------------------------------------------------------------------------------------


def test_a_question_is_labelled_with_its_cheapest_right_arm() -> None:
    scores = np.array([[1.0, 1.0, 1.0], [0.4, 0.5, 1.0], [0.0, 0.4, 0.6], [0.0, 0.4, 0.3]])
    assert adaptive_rag.first_right(scores).tolist() == [0, 1, 2, 2]


def test_an_arm_that_is_never_the_cheapest_right_one_is_never_chosen() -> None:
    made = task(["0", "5", "90", "95"], [[1, 1, 1], [1, 0, 0], [0, 0, 1], [0, 0, 1]])
    fitted = adaptive_rag.fit(made, features="embedding", c=100)
    assert fitted.arrays["classes"].tolist() == [0, 2]
    assert adaptive_rag.choose(fitted, ["2", "92"]).tolist() == [0, 2]
    shares = adaptive_rag.shares(fitted, ["2", "45", "92"])
    assert shares.sum(axis=1).tolist() == pytest.approx([1, 1, 1])


# --- Avengers-Pro ---------------------------------------------------------------------------------------------------


def test_an_arm_is_worth_its_score_and_its_cheapness() -> None:
    worth = avengers_pro.worth(np.array([[0.2, 0.6, 0.4]]), np.array([[10.0, 30.0, 20.0]]), 0.75)
    assert worth[0].tolist() == pytest.approx([0.25, 0.75, 0.75 * 0.5 + 0.25 * 0.5])


def test_arms_that_are_alike_differ_in_nothing() -> None:
    assert avengers_pro.worth(np.array([[0.5, 0.5]]), np.array([[3.0, 3.0]]), 0.5).tolist() == [[0.5, 0.5]]


@given(st.lists(st.tuples(SHARE, SHARE), min_size=1, max_size=6), st.floats(0.1, 100), st.floats(0.1, 100))
def test_between_two_arms_a_half_ties_them_or_one_is_better_and_cheaper(
    scores: list[tuple[float, float]], one: float, other: float
) -> None:
    """Why avengers-pro is refused two arms: what they are worth does not depend on how much is gained, or at what."""
    values = avengers_pro.worth(np.array(scores), np.tile([one, other], (len(scores), 1)), 0.5)
    assert set(values.ravel()) <= {0.0, 0.5, 1.0}


def test_among_three_arms_what_is_gained_counts() -> None:
    costs = np.array([[10.0, 20.0, 30.0]])
    much, little = (avengers_pro.worth(np.array([[0.2, middle, 0.6]]), costs, 0.5)[0] for middle in (0.5, 0.3))
    assert much.tolist() == pytest.approx([0.5, 0.625, 0.5])
    assert little.tolist() == pytest.approx([0.5, 0.375, 0.5])


def test_the_nearest_cluster_decides_and_the_trade_off_is_alpha() -> None:
    outcomes = Outcomes(
        ["a", "b", "c", "d"],
        ["0", "10", "90", "100"],
        ["cheap", "dear"],
        np.array([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=float),
        np.tile([1.0, 5.0], (4, 1)),
    )
    fitted = avengers_pro.fit(Task(outcomes, np.zeros(4)), clusters=2, top=1, alpha=0.8)
    assert avengers_pro.choose(fitted, ["5", "95"]).tolist() == [0, 1]
    assert avengers_pro.choose(fitted, ["5", "95"], tradeoff=0.2).tolist() == [0, 0]
    np.testing.assert_allclose(np.linalg.norm(fitted.arrays["centroids"], axis=1), 1)
    with pytest.raises(ConfigError, match="from 0 to 1"):
        avengers_pro.choose(fitted, ["5"], tradeoff=1.5)


# --- MasRouter ------------------------------------------------------------------------------------------------------

ARMS = ("direct", "closed-book", "self-consistency:samples=3", "self-consistency:samples=5,role=critic", "rag:k=5",
        "closed-book:model=strong")  # fmt: skip


@pytest.mark.parametrize(
    ("arm", "choices"),
    [
        ("direct", ("direct", "", "", "")),
        ("closed-book", ("chain-of-thought", "", "", "")),
        ("self-consistency:samples=3", ("self-consistency", "3", "", "")),
        ("critic:rounds=2,role=skeptic,model=strong", ("critic", "2", "skeptic", "strong")),
        ("rag:k=5", ("rag:k=5", "", "", "")),
        ("org/qwen-1.5b/rag", ("rag", "", "", "org/qwen-1.5b")),
        ("pre-retrieve:router=runs/a", ("pre-retrieve:router=runs/a", "", "", "")),
    ],
)
def test_the_choices_are_read_from_the_specification(arm: str, choices: tuple[str, ...]) -> None:
    assert masrouter.levels(arm) == choices


def test_the_tree_branches_only_where_there_is_a_choice() -> None:
    plan = masrouter.tree(ARMS)
    assert [len(edges) for edges in plan.choices] == [4, 2, 2]  # modes; samples; models
    assert plan.paths.sum(axis=1).tolist() == [1, 2, 2, 2, 1, 2]


def test_two_arms_that_make_the_same_choices_are_refused() -> None:
    with pytest.raises(ConfigError, match="leave one out"):
        masrouter.tree(["critic:rounds=1", "critic:rounds=1,role="])


@settings(deadline=None)
@given(st.integers(0, 1000))
def test_the_arms_shares_sum_to_one(seed: int) -> None:
    plan, rng = masrouter.tree(ARMS), np.random.default_rng(seed)
    shares = masrouter.branch_shares(rng.normal(size=(plan.edges, 4)), rng.normal(size=(5, 4)), plan)
    arms = [
        math.prod(share for share, on in zip(row, path, strict=True) if on) for row in shares for path in plan.paths
    ]
    np.testing.assert_allclose(np.reshape(arms, (5, len(ARMS))).sum(axis=1), 1)


def test_the_gradient_of_the_cascade_is_that_of_finite_differences() -> None:
    plan, rng = masrouter.tree(ARMS), np.random.default_rng(0)
    weights, vectors = rng.normal(size=(plan.edges, 4)), masrouter.with_one(rng.normal(size=(6, 3)))
    utility = rng.normal(size=(6, len(ARMS)))

    def loss(flat: Floats) -> tuple[float, Floats]:
        return masrouter.loss(flat.reshape(weights.shape), vectors, utility, plan, 0.1)

    numeric = approx_fprime(weights.ravel(), lambda at: loss(at)[0], 1e-7)
    np.testing.assert_allclose(loss(weights.ravel())[1], numeric, atol=1e-5)


def test_the_likeliest_branch_is_taken_at_every_choice_even_if_another_arm_is_likelier() -> None:
    """Mode b has .6, its two halves .3 each; mode a has .4 in one arm, the likeliest of all. The cascade takes b."""
    arms = ["a", "b:samples=1", "b:samples=2"]
    weights = np.zeros((masrouter.tree(arms).edges, 3))
    weights[:, -1] = np.log([0.4, 0.6, 0.49, 0.51])
    fitted = Fitted({"encoder": "plane", "arm_names": arms, "cost_weight": 0.0}, {"weights": weights})
    assert masrouter.choose(fitted, ["0", "90"]).tolist() == [2, 2]


def test_a_dear_arm_is_not_worth_a_small_gain() -> None:
    outcomes = Outcomes(
        [str(n) for n in range(8)],
        [str(10 * n) for n in range(8)],
        ["direct", "self-consistency:samples=5"],
        np.tile([0.5, 0.6], (8, 1)),
        np.tile([1.0, 5.0], (8, 1)),
    )
    for cost_weight, arm in ((0.0, 1), (0.2, 0)):
        fitted = masrouter.fit(Task(outcomes, np.zeros(8)), cost_weight=cost_weight)
        named = Fitted({**fitted.settings, "arm_names": list(outcomes.arms)}, fitted.arrays)
        assert set(masrouter.choose(named, outcomes.questions)) == {arm}

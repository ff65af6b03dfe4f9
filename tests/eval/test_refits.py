"""Intervals of what was fitted: they hold for other questions to fit on, and no question judges what it taught."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from flarekit.errors import ConfigError
from flarekit.escalation.split import normalize_question
from flarekit.eval.analysis.information.refits import (
    FOLDS,
    GROUPS,
    SEEDS,
    Values,
    drawn,
    fixed,
    refitted,
    resamples,
    scored,
)
from flarekit.stats.ranking import auroc, auroc_within


@pytest.fixture(autouse=True, scope="module")
def all_groups(few_fits: None) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flarekit.eval.analysis.information.refits.GROUPS", GROUPS)
        yield


Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


def means_apart(features: Floats, labels: Floats) -> Values:
    """The direction from the mean of the "no" to that of the "yes": cheap to fit, and noisy in many dimensions."""
    texts = [f"question {row}" for row in range(len(labels))]

    def fit(rows: Rows, read: Rows) -> Floats:
        yes = labels[rows] > 0
        towards = features[rows][yes].mean(axis=0) - features[rows][~yes].mean(axis=0)
        return np.asarray(features[read] @ towards)

    return refitted(texts, labels, fit)


def trial(rng: np.random.Generator, n: int, signal: float) -> tuple[Floats, Floats, Floats]:
    """Draws of the AUROC, of it with the fits as given, and of its difference to a fit on the other features."""
    labels = (rng.random(n) < 0.3).astype(float)
    features = rng.normal(size=(n, 30))
    features[:, 0] += signal * labels
    ours, theirs = (means_apart(features[:, part], labels) for part in (slice(0, 15), slice(15, 30)))
    draws = resamples(n, 1000, int(rng.integers(1 << 30)))
    whole = scored(auroc, labels, ours, draws)
    as_given = scored(auroc, labels, Values(ours.whole, ours.without[:0]), draws)
    return whole, as_given, whole - scored(auroc, labels, theirs, draws)


def left_out(found: list[Floats], null: float) -> float:
    bounds = np.array([np.nanquantile(one[1:], (0.025, 0.975)) for one in found])
    return float(((bounds[:, 0] > null) | (bounds[:, 1] < null)).mean())


def test_labels_that_were_permuted_are_found_to_tell_something_about_as_often_as_promised() -> None:
    rng = np.random.default_rng(0)
    whole, as_given, apart = zip(*(trial(rng, 90, 0.0) for _ in range(100)), strict=True)
    assert left_out(list(whole), 0.5) <= 0.10
    assert left_out(list(apart), 0.0) <= 0.10
    assert left_out(list(as_given), 0.5) >= 0.12  # what the fits as given would promise


def test_intervals_cover_what_a_fit_on_such_questions_gets() -> None:
    rng = np.random.default_rng(1)
    found = [trial(rng, 90, 1.0)[0] for _ in range(100)]
    assert 1 - left_out(found, float(np.mean([one[0] for one in found]))) >= 0.88


ALIKE = st.lists(
    st.sampled_from(["Who is Ann?", "who is ANN", "Where?", "When?", "Why?", "Café?", "Cafe\u0301"]), min_size=8
)


@settings(max_examples=30)
@given(ALIKE)
def test_questions_of_the_same_words_are_never_fitted_on_and_judged_on(texts: list[str]) -> None:
    labels = np.arange(len(texts), dtype=float) % 2
    said = [normalize_question(text) for text in texts]

    def fit(rows: Rows, read: Rows) -> Floats:
        assert not {said[row] for row in rows} & {said[row] for row in read}
        return np.zeros(len(read))

    refitted(texts, labels, fit)


def test_every_question_is_read_by_every_split_and_without_every_group() -> None:
    texts, labels = [f"{row}" for row in range(60)], np.arange(60, dtype=float) % 2
    sizes: list[int] = []

    def fit(rows: Rows, read: Rows) -> Floats:
        sizes.append(len(rows))
        return np.full(len(read), float(len(rows)))

    values = refitted(texts, labels, fit)
    assert values.whole.shape == (SEEDS, 60)
    assert values.without.shape == (GROUPS, SEEDS, 60)
    assert (values.whole == 48).all()
    assert (values.without > 43).all()
    assert (values.without.mean(axis=(1, 2)) < 48).all()
    assert len(sizes) <= values.fits == SEEDS * FOLDS * (1 + GROUPS)


def test_where_one_kind_of_label_is_left_to_fit_on_all_values_are_equal() -> None:
    texts, labels = ["same"] * 5 + [f"{row}" for row in range(20)], np.array([1.0] * 5 + [0.0] * 20)
    values = refitted(texts, labels, lambda rows, read: np.ones(len(read)))
    assert (values.whole[:, :5] == 0).all()


def test_what_was_not_fitted_is_bootstrapped_alone() -> None:
    labels, values = np.arange(40) % 2.0, np.random.default_rng(0).normal(size=40)
    draws = resamples(40, 50)
    found = drawn(lambda one, weights: auroc(labels, one, weights), fixed(values), draws)
    assert found == pytest.approx(auroc(labels, values, draws.judged), nan_ok=True)
    with pytest.raises(ConfigError, match="at least 2 resamples"):
        resamples(40, 1)


def test_within_types_a_signal_that_tells_only_the_type_gets_a_half() -> None:
    labels, types = [1, 1, 1, 0, 1, 0, 0, 0], list("aaaabbbb")
    assert float(auroc(labels, [1] * 4 + [0] * 4)) == 0.75
    assert float(auroc_within(labels, [1] * 4 + [0] * 4, types)) == 0.5
    assert float(auroc_within(labels, [3, 3, 3, 2, 1, 0, 0, 0], types)) == 1
    assert np.isnan(float(auroc_within([1, 1, 0, 0], [1, 2, 3, 4], list("aabb"))))
    # A question that is drawn twice counts as two.
    weights = np.array([[1, 1, 1, 2, 1, 1, 0, 3]])
    again = np.repeat(np.arange(8), weights[0])
    values = np.array([3, 1, 2, 2, 1, 0, 4, 0.5])
    expected = auroc_within(np.take(labels, again), values[again], [types[row] for row in again])
    assert auroc_within(labels, values, types, weights)[0] == pytest.approx(float(expected))

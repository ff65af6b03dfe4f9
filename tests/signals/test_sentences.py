"""Where the sentences of a stream of tokens end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fakes.scripted import tokens
from flarekit.signals.sentences import SentenceTracker

WORDS = tokens(*[" and"] * 6)


def begins(tracker: SentenceTracker, count: int = 6) -> list[bool]:
    return [tracker.begins(token) for token in WORDS[:count]]


def test_a_sentence_begins_behind_the_mark_that_ends_the_one_before() -> None:
    tracker = SentenceTracker()
    found = [tracker.begins(token) for token in tokens("Emma", " sang", ".", " She", " left", ".")]
    assert found == [False, False, False, True, False, False]


def test_one_without_a_mark_is_over_at_the_look_ahead() -> None:
    assert begins(SentenceTracker(2)) == [False, False, True, False, True, False]
    assert not any(begins(SentenceTracker(lookahead=None)))


@pytest.mark.parametrize(
    ("act", "then"),
    [
        (SentenceTracker.end, [True, False, True]),
        (SentenceTracker.restart, [False, False, True]),
        (SentenceTracker.begin_draft, [False, False, True]),
    ],
    ids=lambda act: getattr(act, "__name__", ""),
)
def test_the_look_ahead_counts_from_where_the_caller_says(
    act: Callable[[SentenceTracker], None], then: list[bool]
) -> None:
    tracker = SentenceTracker(2)
    begins(tracker, 1)
    act(tracker)
    assert begins(tracker, 3) == then


@pytest.mark.parametrize(("act", "ended"), [(SentenceTracker.restart, False), (SentenceTracker.begin_draft, True)])
def test_a_draft_may_go_on_with_a_sentence_that_proves_to_have_ended(
    act: Callable[[SentenceTracker], None], ended: bool
) -> None:
    tracker = SentenceTracker()
    for token in tokens("Emma", " sang", "."):
        tracker.begins(token)
    act(tracker)
    assert tracker.begins(tokens(" She")[0]) == ended

"""Fusion of several rankings, by hand and over real parts of an index."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.embedders import VOCABULARY, WordVectors, corpus_of, plain
from flarekit.errors import ConfigError
from flarekit.retrievers.corpus.passages import Passages, write_passages
from flarekit.retrievers.dense.dense import DensePart
from flarekit.retrievers.index.hybrid import Fusion, HybridRanker
from flarekit.retrievers.index.ranked import Ranking
from flarekit.retrievers.lexical.bm25_index import BM25Part


class Told:
    """A ranker that has been told what to find: scores by the passages' numbers, for every query the same."""

    def __init__(self, scores: Mapping[int, float]) -> None:
        self._numbers = np.array(sorted(scores, key=lambda number: (-scores[number], number)), dtype=np.int64)
        self._scores = np.array([scores[int(number)] for number in self._numbers], dtype=np.float32)
        self.asked: list[int] = []

    def rank(self, queries: Sequence[str], k: int) -> list[Ranking]:
        self.asked.append(k)
        return [(self._numbers[:k], self._scores[:k])] * len(queries)


def fuse(*scores: Mapping[int, float], k: int = 10, **options: Any) -> dict[int, float]:
    [(numbers, totals)] = HybridRanker([Told(one) for one in scores], **options).rank(["?"], k)
    return dict(zip(numbers.tolist(), totals.tolist(), strict=True))


SCORES = st.dictionaries(st.integers(0, 60), st.floats(-50, 50, width=32), max_size=40)
FUSIONS: list[Fusion] = ["weighted", "ranks"]


# --- fusion ----------------------------------------------------------------------------------------------------------


def test_weighted_fusion_adds_up_what_is_taken_to_nought_and_one() -> None:
    fused = fuse({1: 30.0, 2: 20.0, 3: 10.0}, {3: 0.9, 1: 0.5, 4: 0.4}, weights=(0.75, 0.25))
    assert list(fused) == [1, 2, 3, 4]
    assert fused == pytest.approx({1: 0.75 + 0.25 * 0.2, 2: 0.375, 3: 0.25, 4: 0.0})


def test_rank_fusion_adds_up_reciprocal_ranks_whatever_the_scores() -> None:
    fused = fuse({1: 99.0, 2: 2.0}, {2: 0.9, 3: 0.8}, fusion="ranks")
    assert list(fused) == [2, 1, 3]
    assert fused == pytest.approx({2: 1 / 62 + 1 / 61, 1: 1 / 61, 3: 1 / 62})


@pytest.mark.parametrize("fusion", FUSIONS)
def test_ties_keep_the_corpus_order(fusion: Fusion) -> None:
    assert list(fuse({9: 1.0}, {4: 1.0}, fusion=fusion, weights=(1, 1) if fusion == "weighted" else None)) == [4, 9]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_what_one_part_finds_alone_is_found_and_nothing_is_nothing(fusion: Fusion) -> None:
    assert list(fuse({}, {7: 0.1, 2: 0.3}, fusion=fusion)) == [2, 7]
    assert fuse({}, {}, fusion=fusion) == {}


def test_equal_scores_are_all_the_best() -> None:
    assert fuse({1: 5.0, 2: 5.0}, {}) == pytest.approx({1: 0.6, 2: 0.6})


@given(scores=SCORES, k=st.integers(1, 50), fusion=st.sampled_from(FUSIONS))
def test_of_a_single_part_the_fusion_keeps_the_order(scores: dict[int, float], k: int, fusion: Fusion) -> None:
    [(numbers, _)] = Told(scores).rank(["?"], k)
    fused = fuse(scores, k=k, fusion=fusion, weights=(1.0,) if fusion == "weighted" else None)
    by_score = sorted(fused, key=lambda number: -scores[number])
    if fusion == "ranks":
        assert list(fused) == numbers.tolist()
    else:  # scores that are next to one another may become one
        assert sorted(scores[n] for n in fused) == pytest.approx(sorted(scores[n] for n in numbers.tolist()), abs=1e-4)
        assert [scores[n] for n in by_score] == pytest.approx([scores[n] for n in fused], abs=1e-4)


@given(left=SCORES, right=SCORES, k=st.integers(1, 30), fusion=st.sampled_from(FUSIONS))
def test_the_best_of_the_union_come_best_first(
    left: dict[int, float], right: dict[int, float], k: int, fusion: Fusion
) -> None:
    fused = fuse(left, right, k=k, fusion=fusion)
    assert len(fused) == min(k, len(left | right))
    assert fused.keys() <= (left | right).keys()
    assert list(fused.values()) == sorted(fused.values(), reverse=True)


@pytest.mark.parametrize(("fusion", "few", "many"), [("weighted", 20, 60), ("ranks", 100, 100)])
def test_parts_are_asked_for_more_than_is_wanted(fusion: Fusion, few: int, many: int) -> None:
    part = Told({1: 1.0})
    ranker = HybridRanker([part, part], fusion=fusion)
    ranker.rank(["?"], 2)
    ranker.rank(["?"], 30)
    assert part.asked == [few, few, many, many]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"weights": (0.5,)}, r"2 parts need as many weights, none below 0 and one above, not \[0\.5\]"),
        ({"weights": (1.5, -0.5)}, "none below 0"),
        ({"weights": (0.0, 0.0)}, "one above"),
        ({"weights": (float("nan"), 1.0)}, "2 parts need"),
        ({"weights": (float("inf"), 1.0)}, "2 parts need"),
        ({"weights": (0.5, 0.5), "fusion": "ranks"}, "fusion of ranks has no weights; leave them out"),
        ({"fusion": "borda"}, "no fusion is called 'borda'; there are weighted, ranks"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        HybridRanker([Told({}), Told({})], **options)


# --- over a real index -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def passages(tmp_path_factory: pytest.TempPathFactory) -> Passages:
    texts = [f"{a} {b} {c}" for a in VOCABULARY for b in VOCABULARY for c in VOCABULARY[:3]]
    return write_passages(tmp_path_factory.mktemp("passages"), corpus_of(texts))


def parts(folder: Path, passages: Passages) -> tuple[BM25Part, DensePart]:
    for name in ("bm25", "dense"):
        (folder / name).mkdir()
    lexical = BM25Part.build(folder / "bm25", passages)
    dense = DensePart.build(folder / "dense", passages, embedder=WordVectors(), flat_up_to=0)
    return BM25Part(folder / "bm25", lexical, passages), DensePart(
        folder / "dense", dense, passages, embedder=WordVectors()
    )


@pytest.mark.parametrize("fusion", FUSIONS)
def test_one_query_finds_what_it_finds_in_a_batch(tmp_path: Path, passages: Passages, fusion: Fusion) -> None:
    ranker = HybridRanker(parts(tmp_path, passages), fusion=fusion)
    queries = ["capital of norway", "riga river", "a novel", "who", "", "oslo born latvia", "unheard-of"] * 4
    together = plain(ranker.rank(queries, 5))
    assert together == [plain(ranker.rank([query], 5))[0] for query in queries]
    assert together[3:5] == [([], []), ([], [])]


def test_what_both_parts_find_best_is_the_best(tmp_path: Path, passages: Passages) -> None:
    [(numbers, scores)] = HybridRanker(parts(tmp_path, passages)).rank(["latvia novel capital"], 3)
    # In the corpus's words any order of the three counts the same; "capital" alone may be last.
    assert {frozenset(passages[int(number)].text.split()) for number in numbers[:2]} == {
        frozenset({"latvia", "novel", "capital"})
    }
    assert scores[0] == pytest.approx(1)

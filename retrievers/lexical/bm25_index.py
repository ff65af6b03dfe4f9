"""BM25 over corpora of any size: every score is computed when the index is built, and is read from disk afterwards.

A query adds up a few sorted lists of (passage, score), one a word (eager sparse scoring: Lù, arXiv:2407.03618).
What a word adds is bounded by its highest score, so that the long lists of frequent words are only looked up for the
passages that can still be among the best (MaxScore: Turtle and Flood, IPM 1995).

Variant, parameters and scores are those of `flarekit.retrievers.lexical.bm25`, which is the reference. Scores are
stored as float32 and added as float64, which rounds nothing in a query of ordinary length: passages that tie keep their
order.

In the folder: the sorted words (`words.bin`, `words.npy`: where each begins), and for each where its list begins
(`starts.npy`) and its highest score (`peaks.npy`), and the lists one after the other (`numbers.npy`, `scores.npy`).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from flarekit.errors import ConfigError, DataError
from flarekit.retrieval import Passage
from flarekit.retrievers.corpus.passages import check_offsets, load_array, map_bytes
from flarekit.retrievers.index.ranked import Ranking
from flarekit.retrievers.lexical.analyzer import asked_words, words, words_before

Tokenizer = Callable[[str], list[str]]

RULES = "uax29"
"""How words are told apart, as indexes record it."""
_RUN = 2_000_000
"""Words that are sorted at a time when an index is built: about 100 MB of memory."""
_REPORTED = 1_000
"""Passages between two reports of progress."""
_SPARSE = 32
"""Sums over fewer passages than one in so many are made by sorting, the others in an array with a place for each."""
_LOOK = 8
"""How much more there must be left to add before it pays to look for passages that cannot be reached any more."""


def tokenizer(name: str, *, asked: bool = False, rules: str | None = RULES) -> Tokenizer:
    """How texts become words: `words` (`flarekit.retrievers.lexical.analyzer`), or the same with a language's stemmer.

    Any algorithm of Snowball is a name (`english`, `german`, `porter`, …). Case and accents are folded and English
    stopwords are left out before it. With `asked` it is for queries. Indexes of before `rules` were recorded have none.
    `ConfigError` for another name, or where PyStemmer is not installed.
    """
    if rules not in (None, RULES):
        raise ConfigError(f"no rules for words are called {rules!r}; this version knows {RULES}")
    plain = words_before if rules is None else asked_words if asked else words
    if name == "words":
        return plain
    try:
        import Stemmer
    except ImportError as error:
        raise ConfigError(f"the tokenizer {name!r} needs PyStemmer: pip install PyStemmer") from error
    if name not in (known := Stemmer.algorithms()):
        raise ConfigError(f"no tokenizer is called {name!r}; there are words, {', '.join(sorted(known))}")

    def stems(text: str) -> list[str]:
        # A stemmer of its own each time: one serves a single thread, and to make it takes less than a microsecond.
        found: list[str] = Stemmer.Stemmer(name, 0).stemWords(plain(text))
        return found

    return stems


class BM25Part:
    """The lexical part of an index; words and scores are memory-mapped, and searched where they are.

    Over a million passages of 16 words that count, a question takes .6 ms of one core in the median and 19 ms at the
    99th percentile, and one of nothing but the most frequent words 25 ms; rank-bm25 takes 1.3 s.
    """

    @classmethod
    def build(
        cls,
        folder: Path,
        passages: Sequence[Passage],
        *,
        tokenizer: str = "words",
        k1: float = 0.9,
        b: float = 0.4,
        on_progress: Callable[[int], None] = lambda more: None,
    ) -> dict[str, Any]:
        """Write the part over `passages` to `folder`; what it was made with, for the manifest.

        In memory are the vocabulary and one run of words at a time, whatever the corpus's size. `ConfigError` for
        parameters out of range, `DataError` for a corpus without any word.
        """
        if k1 < 0 or not 0 <= b <= 1:
            raise ConfigError(f"BM25 needs k1 >= 0 and 0 <= b <= 1, not k1={k1} and b={b}")
        vocabulary, lengths, runs = _read(folder, passages, tokenizer, on_progress)
        if not vocabulary:
            raise DataError(f"no words to index in a corpus of {len(passages)} passages; give passages with text")
        ranks = _write_words(folder, vocabulary)
        norms = k1 * (1 - b + b * lengths / lengths.mean())
        postings = _write_lists(folder, runs, ranks, norms, k1)
        return {
            "tokenizer": tokenizer,
            "rules": RULES,
            "k1": k1,
            "b": b,
            "words": len(vocabulary),
            "postings": postings,
        }

    def __init__(self, folder: Path, made: Mapping[str, Any], passages: Sequence[Passage]) -> None:
        """Open what `build` wrote to `folder`; `DataError` where its arrays do not fit each other or the passages."""
        self._tokens = tokenizer(made["tokenizer"], asked=True, rules=made.get("rules"))
        self._words = _Words(folder)
        self._count = len(passages)
        self._starts = load_array(folder / "starts.npy", np.int64)
        self._numbers = load_array(folder / "numbers.npy", np.int32)
        self._peaks, self._scores = (load_array(folder / f"{name}.npy", np.float32) for name in ("peaks", "scores"))
        check_offsets(folder / "starts.npy", self._starts, len(self._numbers))
        sizes = len(self._starts) - 1, len(self._numbers)
        if 0 in sizes or sizes != (len(self._words), len(self._scores)) or len(self._peaks) != sizes[0]:
            raise DataError(f"{folder}: arrays of other sizes than each other's; build the index again")
        if self._numbers.min() < 0 or self._numbers.max() >= self._count or not np.isfinite(self._scores).all():
            raise DataError(f"{folder}: passages that are not there, or scores that are none; build the index again")

    def rank(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """For each query the `k` best of the passages that share a word with it, ties in the corpus's order."""
        # One after the other: on two cores, threads made a batch of short queries slower by a half.
        return [self._rank(query, k) for query in queries]

    def _rank(self, query: str, k: int) -> Ranking:
        lists = sorted(self._lists(query), key=lambda one: len(one.numbers))
        numbers, scores = _best(*_sums_of_the_best(lists, k, self._count), k)
        # rank-bm25's BM25Plus adds this to every passage, matching or not.
        constant = sum(one.constant for one in lists)
        return numbers.astype(np.int64), (scores + constant).astype(np.float32)

    def _lists(self, query: str) -> Iterator[_List]:
        for word, times in Counter(self._tokens(query)).items():
            number = self._words.find(word)
            if number is None:
                continue
            begin, end = int(self._starts[number]), int(self._starts[number + 1])
            constant = times * float(np.log((self._count + 1) / (end - begin)))
            peak = times * float(self._peaks[number])
            yield _List(self._numbers[begin:end], self._scores[begin:end], np.float64(times), peak, constant)


class _List(NamedTuple):
    """What a word of a query adds to which passages."""

    numbers: NDArray[np.int32]
    """Of the passages that hold the word, ascending."""
    scores: NDArray[np.float32]
    times: np.float64
    """How often the query has the word, each time of which counts; NumPy's, so that a product is not a float32."""
    peak: float
    """The most that the word adds to a passage, all its times together."""
    constant: float


Sums = tuple[NDArray[np.int32], NDArray[np.float64]]
"""Numbers of passages, ascending, and their scores."""


def _sums_of_the_best(lists: Sequence[_List], k: int, count: int) -> Sums:
    """The sums over `lists`, shortest first, of all passages that can be among the `k` best (or tie with them)."""
    sizes = np.cumsum([0, *(len(one.numbers) for one in lists)])
    peaks = np.cumsum([0, *(one.peak for one in lists)])
    for place in range(1, len(lists)):
        missed = peaks[-1] - peaks[place]  # the most that a passage can have that is in none of the lists before
        if peaks[place] > missed and _LOOK * sizes[place] < sizes[-1] - sizes[place]:
            numbers, scores = _sums(lists[:place], count)
            if len(numbers) >= k and (least := np.partition(scores, -k)[-k]) > missed:
                can = scores >= least - missed
                return _look_up(numbers[can], scores[can], lists[place:])
    return _sums(lists, count)


def _sums(lists: Sequence[_List], count: int) -> Sums:
    """The sums over `lists` of all passages in them; `count` is that of the corpus."""
    if sum(len(one.numbers) for one in lists) < count // _SPARSE:
        numbers = np.concatenate([np.empty(0, np.int32), *(one.numbers for one in lists)])
        scores = np.concatenate([np.empty(0), *(one.scores * one.times for one in lists)])
        found, places = np.unique(numbers, return_inverse=True)
        return found, np.bincount(places, weights=scores, minlength=len(found)).astype(np.float64, copy=False)
    totals = np.zeros(count)
    for one in lists:
        np.add.at(totals, one.numbers, one.scores * one.times)
    found = np.flatnonzero(totals > 0).astype(np.int32)
    return found, totals[found]


def _look_up(numbers: NDArray[np.int32], totals: NDArray[np.float64], lists: Sequence[_List]) -> Sums:
    """The sums of these passages only, with more lists added."""
    for one in lists:
        places = np.minimum(np.searchsorted(one.numbers, numbers), len(one.numbers) - 1)
        totals += np.where(one.numbers[places] == numbers, one.scores[places] * one.times, 0)
    return numbers, totals


def _best(numbers: NDArray[np.int32], scores: NDArray[np.float64], k: int) -> Sums:
    """The `k` best of them, best first; ties as they come."""
    if len(numbers) > k:
        least = np.partition(scores, -k)[-k]
        above = np.flatnonzero(scores > least)
        chosen = np.concatenate([above, np.flatnonzero(scores == least)[: k - len(above)]])
        numbers, scores = numbers[chosen], scores[chosen]
    order = np.argsort(-scores, kind="stable")
    return numbers[order], scores[order]


class _Words(Sequence[bytes]):
    """The sorted words, on disk."""

    def __init__(self, folder: Path) -> None:
        self._offsets = load_array(folder / "words.npy", np.int64)
        self._bytes = map_bytes(folder / "words.bin")
        check_offsets(folder / "words.npy", self._offsets, len(self._bytes))

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, number: int) -> bytes: ...
    @overload
    def __getitem__(self, number: slice) -> list[bytes]: ...
    def __getitem__(self, number: int | slice) -> bytes | list[bytes]:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        return self._bytes[int(self._offsets[number]) : int(self._offsets[number + 1])]

    def find(self, word: str) -> int | None:
        """Its number, or None where no passage has it."""
        sought = word.encode()
        number = bisect_left(self, sought)
        return number if number < len(self) and self[number] == sought else None


def _read(
    folder: Path, passages: Sequence[Passage], name: str, on_progress: Callable[[int], None]
) -> tuple[dict[str, int], NDArray[np.int64], list[Path]]:
    """Every word's number, in the order of their first occurrence; the passages' lengths in words; and the runs."""
    tokens = tokenizer(name)
    vocabulary: dict[str, int] = defaultdict(count().__next__)
    runs: list[Path] = []
    lengths, pending = array("q"), array("q")
    written = 0
    for number, passage in enumerate(passages, start=1):
        found = tokens(f"{passage.title} {passage.text}")
        pending.extend([vocabulary[word] for word in found])
        lengths.append(len(found))
        if len(pending) >= _RUN or number == len(passages):
            runs.append(folder / f"run-{len(runs)}.npy")
            np.save(runs[-1], _run(pending, lengths[written:], written), allow_pickle=False)
            pending, written = array("q"), number
        if number % _REPORTED == 0 or number == len(passages):
            on_progress((number - 1) % _REPORTED + 1)
    return vocabulary, np.frombuffer(lengths, dtype=np.int64), runs


def _run(words: array[int], lengths: array[int], first: int) -> NDArray[np.int32]:
    """Words, passages and how often the one occurs in the other: shape (3, pairs), sorted by word, then passage."""
    numbers = np.repeat(np.arange(first, first + len(lengths)), np.frombuffer(lengths, dtype=np.int64))
    pairs, times = np.unique(np.frombuffer(words, dtype=np.int64) << 32 | numbers, return_counts=True)
    return np.stack([pairs >> 32, pairs & 0xFFFFFFFF, times]).astype(np.int32)


def _write_words(folder: Path, vocabulary: Mapping[str, int]) -> NDArray[np.int64]:
    """Write the words in their order (that of code points is that of UTF-8); the place there of each word's number."""
    places, lengths = np.empty(len(vocabulary), dtype=np.int64), np.zeros(len(vocabulary) + 1, dtype=np.int64)
    with (folder / "words.bin").open("wb") as file:
        for place, word in enumerate(sorted(vocabulary)):
            places[vocabulary[word]] = place
            lengths[place + 1] = file.write(word.encode())
    np.save(folder / "words.npy", np.cumsum(lengths), allow_pickle=False)
    return places


def _write_lists(
    folder: Path, runs: Sequence[Path], places: NDArray[np.int64], norms: NDArray[np.float64], k1: float
) -> int:
    """Deal the runs out to the words' lists; how many entries these have together."""
    sizes = sum(np.bincount(places[np.load(run)[0]], minlength=len(places)) for run in runs)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    np.save(folder / "starts.npy", starts, allow_pickle=False)
    numbers = _create(folder / "numbers.npy", np.dtype(np.int32), int(starts[-1]))
    scores = _create(folder / "scores.npy", np.dtype(np.float32), int(starts[-1]))
    rarity = np.log((len(norms) + 1) / sizes)
    ends = starts[:-1].copy()  # of what is written of each list
    for run in runs:
        words, passages, times = np.load(run)
        firsts = np.flatnonzero(np.diff(words, prepend=-1))
        counts = np.diff(firsts, append=len(words))
        lists = places[words]
        spots = ends[lists] + np.arange(len(words)) - np.repeat(firsts, counts)
        numbers[spots] = passages
        scores[spots] = rarity[lists] * (times * (k1 + 1) / (times + norms[passages]))
        ends[lists[firsts]] += counts
        run.unlink()
    np.save(folder / "peaks.npy", np.maximum.reduceat(scores, starts[:-1]), allow_pickle=False)
    return len(numbers)


def _create(path: Path, dtype: np.dtype[Any], size: int) -> NDArray[Any]:
    """A new array on disk, to be filled."""
    created: NDArray[Any] = np.lib.format.open_memmap(path, "w+", dtype, (size,))  # type: ignore[no-untyped-call]
    return created

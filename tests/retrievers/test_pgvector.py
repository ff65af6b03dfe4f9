"""PostgreSQL with pgvector, for real."""

import pytest

from fakes.elsewhere import CORPUS, Letters, cosines, find, free_port, ids
from flarekit.errors import ConfigError, DataError, EngineUnavailable, RequestRejected
from flarekit.retrieval import Passage
from flarekit.retrievers.remote import pgvector


def test_pgvector_ranks_by_cosine(database: str) -> None:
    told: list[int] = []
    assert pgvector.load(database, "exact", CORPUS, Letters(), on_progress=told.append) == len(CORPUS) == sum(told)
    hits = find(pgvector.PgVectorRetriever(database, "exact", Letters()), "capital of Latvia", 3)
    expected = cosines("capital of Latvia")
    assert [hit.score for hit in hits] == pytest.approx(sorted(expected.values(), reverse=True)[:3], abs=1e-5)


def test_a_table_of_ones_own_is_searched_by_its_own_names(database: str) -> None:
    import psycopg

    with psycopg.connect(database) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS ours")
        connection.execute("CREATE TABLE ours.pages (page int, head text, body text, place vector)")
        [vector] = Letters().embed(["Oslo"], query=False)
        connection.execute("INSERT INTO ours.pages VALUES (7, NULL, 'A city.', %s::vector)", [str(vector.tolist())])
    fields = {"id": "page", "title": "head", "text": "body", "vector": "place"}
    [hit] = find(pgvector.PgVectorRetriever(database, "ours.pages", Letters(), fields=fields), "Oslo")
    assert hit.passage == Passage("7", "", "A city.")
    assert hit.score == pytest.approx(1, abs=1e-5)
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE passages_own (id int, vector vector)")
    with pytest.raises(ConfigError, match="was not made here and is not overwritten"):
        pgvector.load(database, "passages_own", CORPUS, Letters())


def test_a_load_that_fails_leaves_the_table_as_it_was(database: str) -> None:
    import psycopg

    pgvector.load(database, "again", CORPUS, Letters())
    pgvector.load(database, "again", CORPUS[:2], Letters())
    for broken, message in [([*CORPUS, CORPUS[0]], "'Oslo' occurs twice"), ([], "no passages to load")]:
        with pytest.raises(DataError, match=message):
            pgvector.load(database, "again", broken, Letters())
    with pytest.raises(RequestRejected, match="0x00"):
        pgvector.load(database, "again", [Passage("nul", "", "a\0b")], Letters())
    assert sorted(ids(find(pgvector.PgVectorRetriever(database, "again", Letters()), "capital"))) == ["Oslo", "Riga"]
    with psycopg.connect(database) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE tablename LIKE 'again%'").fetchall()
    assert tables == [("again",)]


def test_pgvector_says_what_does_not_fit(database: str) -> None:
    pgvector.load(database, "fits", CORPUS[:3], Letters())
    other = Letters()
    other.name = "other"
    for retriever, kind, message in [
        (pgvector.PgVectorRetriever(database, "nowhere", Letters()), ConfigError, '"nowhere" does not exist'),
        (pgvector.PgVectorRetriever(database, "fits", other), ConfigError, "by letters, not 48 by other"),
        (pgvector.PgVectorRetriever(database, "fits", Letters(), fields={"text": "body"}), ConfigError, '"body"'),
        (pgvector.PgVectorRetriever(database, "fits", Letters(), fields={"vector": "v"}), ConfigError, "column 'v'"),
        (
            pgvector.PgVectorRetriever(f"postgresql://a@127.0.0.1:{free_port()}/b", "fits", Letters(), timeout=2),
            EngineUnavailable,
            "refused",
        ),
    ]:
        with pytest.raises(kind, match=message) as caught:
            find(retriever, "Oslo")
        assert "\n" not in str(caught.value)


def test_a_lost_connection_is_made_again(database: str) -> None:
    import psycopg

    pgvector.load(database, "lost", CORPUS, Letters())
    retriever = pgvector.PgVectorRetriever(database, "lost", Letters())
    before = ids(find(retriever, "Oslo"))
    with psycopg.connect(database) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    assert ids(find(retriever, "Oslo")) == before


def test_more_passages_than_the_index_usually_gives(database: str) -> None:
    """HNSW gives 40 candidates unless told otherwise; enough rows that it is used at all."""
    many = [Passage(str(number), "Town", f"town {number} river {number % 90}") for number in range(3000)]
    pgvector.load(database, "many", many, Letters())
    assert len(find(pgvector.PgVectorRetriever(database, "many", Letters()), "town 5 river 5", 300)) == 300

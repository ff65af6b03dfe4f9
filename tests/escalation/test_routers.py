"""Trained routers of every kind: what is fitted and judged on, how they are kept, and what a broken folder is."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.scripted import ScriptedEngine
from fakes.toy_outcomes import toy
from fakes.trained_routers import LIGHT, train, trained, words  # noqa: F401 - a fixture that is used by itself
from flarekit.engines import encoders as encoder
from flarekit.errors import ConfigError, DataError, FlarekitError
from flarekit.escalation.outcomes import Outcomes
from flarekit.escalation.registry import KINDS
from flarekit.escalation.split import folds, normalize_question, split
from flarekit.escalation.trained import ArmRouter, ScoreRouter, save_router
from flarekit.escalation.training import train_router
from flarekit.policies import parse_policy
from flarekit.prompts.few_shot import Prompt
from flarekit.signals.answer import PostSignal
from flarekit.signals.question import PreSignal, load_chooser, load_router
from flarekit.signals.token import StreamSignal

SCORING = [name for name in LIGHT if KINDS[name].shape == "score"]
CHOOSING = [name for name in LIGHT if KINDS[name].shape == "chooser"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_router(trained("tfidf-lr"), tmp_path / "router")
    return tmp_path / "router"


# --- learning -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SCORING)
def test_a_separable_label_is_learnt(kind: str) -> None:
    router = trained(kind)
    assert isinstance(router, ScoreRouter)
    assert router.manifest["metrics"]["auroc"]["estimate"] > 0.9
    hard, easy = router.probability(["Who was the film 99?", "When was the film 99?"])
    assert hard > easy


@pytest.mark.parametrize("kind", CHOOSING)
def test_the_arm_that_a_question_needs_is_learnt(kind: str) -> None:
    options: dict[str, Any] = {"adaptive-rag": {}, "avengers-pro": {"alpha": 1.0, "top": 1}, "masrouter": {}}[kind]
    router = train(kind, **options)
    assert isinstance(router, ArmRouter)
    chosen = router.choose(["When was the film 99?", "Who was the film 99?", "Whose was the film 99?"])
    assert [router.arms[place] for place in chosen] == ["closed-book", "rag", "iter-retgen"]
    metrics = router.manifest["metrics"]
    assert metrics["score"] == metrics["score of an oracle"]
    assert metrics["score against the best single arm"]["low"] > 0


def test_the_manifest_says_what_the_router_is() -> None:
    made = trained("tfidf-lr").manifest
    assert (made["kind"], made["format"], made["target"], made["seed"]) == ("tfidf-lr", 2, "wrong", 0)
    assert made["arms"] == ["closed-book", "rag"]
    assert made["labels"] == {"false": 30, "true": 60}
    assert (len(made["split"]["calibration"]), len(made["split"]["test"])) == (63, 27)
    beside = {"auroc of question type (rule)", "auroc of question length"}
    assert set(made["metrics"]) == {"auroc", "average precision", "auroc within types", *beside}
    assert "auroc of tfidf-lr" in trained("knn").manifest["metrics"]
    assert set(made["metrics"]["auroc"]) == {"estimate", "low", "high"}


def test_the_same_seed_gives_the_same_router() -> None:
    for kind in LIGHT:
        first, again = trained(kind), train(kind)
        for name, array in first.fitted.arrays.items():
            np.testing.assert_array_equal(array, again.fitted.arrays[name])
        assert {**first.manifest, "created": ""} == {**again.manifest, "created": ""}
    assert train("knn", seed=1).manifest["split"] != trained("knn").manifest["split"]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", LIGHT)
def test_too_few_questions_are_refused(kind: str, count: int) -> None:
    if KINDS[kind].shape != "chooser":
        with pytest.raises(DataError, match="needs at least 4 examples of each kind"):
            train(kind, toy(count))
    else:
        with pytest.raises(DataError, match="at least 4 questions"):
            train(kind, toy(count))


def test_questions_without_words_are_refused() -> None:
    whole = toy(30)
    marks = Outcomes(whole.ids, ["?" * (number + 1) for number in range(30)], whole.arms, whole.scores, whole.costs)
    with pytest.raises(DataError, match="no words"):
        train("tfidf-lr", marks)


def test_a_label_that_all_share_is_refused() -> None:
    whole = toy(30)
    easy = Outcomes(whole.ids, whole.questions, whole.arms, np.ones_like(whole.scores), whole.costs)
    with pytest.raises(DataError, match="at least 4 examples"):
        train("knn", easy)
    with pytest.raises(DataError, match="nothing to choose"):
        train("adaptive-rag", easy)


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        ("knn", {"alpha": 1}, "a knn router has no option 'alpha'; there are encoder, k"),
        ("knn", {"k": "many"}, "k=many: input should be a valid integer"),
        ("knn", {"k": 0}, "k must be at least 1"),
        ("avengers-pro", {"alpha": 2.0}, "is from 0 to 1"),
        ("hybrid-llm", {"labels": "soft"}, "labels=soft"),
        ("oracle", {}, "no router is of the kind 'oracle'; there are tfidf-lr"),
        ("knn", {"weak": "rag"}, "are both rag"),
        ("knn", {"strong": "flare"}, "'flare' is no arm; there are closed-book, rag, iter-retgen"),
        ("knn", {"target": "lucky"}, "no target is called 'lucky'"),
        ("knn", {"test_share": 1.0}, "between 0 and 1"),
        ("masrouter", {"arms": ["rag"]}, "two different arms at least"),
        ("masrouter", {"arms": ["rag", "rag"]}, "two different arms at least"),
        (
            "avengers-pro",
            {"arms": ["rag", "closed-book"], "alpha": 0.5},
            "three different arms at least, not rag, clos",
        ),
        ("avengers-pro", {"arms": ["rag", "closed-book", "rag"]}, "three different arms at least"),
    ],
)
def test_a_bad_option_is_one_clear_line(kind: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        train(kind, **options)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


# --- splitting ------------------------------------------------------------------------------------------------------

WRITINGS = st.sampled_from(["{}", "{} ", "{}?", "{}??"])


@st.composite
def doubled(draw: st.DrawFn) -> Outcomes:
    """Outcomes in which some questions occur again under another id, written a little differently."""
    whole = toy(45)
    rows = [*range(45), *draw(st.lists(st.integers(0, 44), max_size=15))]
    again = whole.take(range(45))
    texts = [again.questions[row] for row in rows]
    written = [texts[i] if i < 45 else draw(WRITINGS).format(texts[i].upper()) for i in range(len(rows))]
    return Outcomes(
        [f"q{number}" for number in range(len(rows))], written, whole.arms, whole.scores[rows], whole.costs[rows]
    )


@pytest.mark.parametrize("kind", LIGHT)
@settings(max_examples=8, deadline=None)
@given(outcomes=doubled(), seed=st.integers(0, 2**32 - 1), share=st.floats(0.2, 0.5))
def test_no_question_is_both_fitted_and_judged_on(kind: str, outcomes: Outcomes, seed: int, share: float) -> None:
    parts = train(kind, outcomes, seed=seed, test_share=share).manifest["split"]
    text = dict(zip(outcomes.ids, map(normalize_question, outcomes.questions), strict=True))
    fitted, judged = ({text[id_] for id_ in parts[side]} for side in ("calibration", "test"))
    assert fitted.isdisjoint(judged)
    assert judged
    assert sorted([*parts["calibration"], *parts["test"]]) == sorted(outcomes.ids)


@pytest.mark.parametrize("kind", LIGHT)
def test_what_is_known_of_the_questions_that_are_judged_on_changes_nothing(kind: str) -> None:
    """The outcomes of test questions are turned around, within what decides the split: the router stays the same."""
    whole = toy()
    router = trained(kind)
    test = [list(whole.ids).index(id_) for id_ in router.manifest["split"]["test"]]
    scores, costs = whole.scores.copy(), whole.costs.copy()
    scores[test] = np.where(scores[test] == scores[test].max(axis=1, keepdims=True), 1.0, scores[test] * 0.9)
    costs[test] *= 7
    changed = Outcomes(whole.ids, whole.questions, whole.arms, scores, costs)
    again = train(kind, changed)
    assert again.manifest["split"] == router.manifest["split"]
    for name, array in router.fitted.arrays.items():
        np.testing.assert_array_equal(array, again.fitted.arrays[name])
    assert again.fitted.texts == router.fitted.texts


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefghij"), st.sampled_from("xy")), min_size=1, max_size=40),
    st.integers(0, 2**32 - 1),
)
def test_folds_hold_every_question_once_and_keep_equal_ones_together(rows: list[tuple[str, str]], seed: int) -> None:
    questions, strata = zip(*rows, strict=True)
    fold = folds(questions, strata, 5, seed)
    assert all(0 <= number < 5 for number in fold)
    assert all(
        len({number for text, number in zip(questions, fold, strict=True) if text == one}) == 1 for one in questions
    )


def test_a_split_has_some_of_every_stratum_on_both_sides() -> None:
    questions = [f"q {number}" for number in range(20)]
    fitted, judged = split(questions, ["rare"] * 2 + ["often"] * 18, 0.2, 0)
    assert {row < 2 for row in fitted} == {row < 2 for row in judged} == {True, False}
    assert len(judged) == 1 + 4


# --- keeping --------------------------------------------------------------------------------------------------------

ANY_QUESTION = st.text(min_size=1) | st.lists(st.sampled_from(["who", "when", "film", "12"])).map(" ".join)


@pytest.mark.parametrize("kind", [*SCORING, *CHOOSING])
@settings(max_examples=10, deadline=None)
@given(questions=st.lists(ANY_QUESTION, min_size=1, max_size=5))
def test_a_router_that_is_saved_and_loaded_says_the_same(
    tmp_path_factory: pytest.TempPathFactory, kind: str, questions: list[str]
) -> None:
    kept, router = tmp_path_factory.getbasetemp() / f"kept-{kind}", trained(kind)
    if not kept.exists():
        save_router(router, kept)
    loaded = load_router(kept)
    if isinstance(router, ScoreRouter):
        assert isinstance(loaded, ScoreRouter)
        assert loaded.manifest == router.manifest
        found = loaded.probability(questions)
        assert (found == router.probability(questions)).all()
        assert found.shape == (len(questions),)
        assert ((found >= 0) & (found <= 1)).all()
    else:
        assert isinstance(loaded, ArmRouter)
        assert isinstance(router, ArmRouter)
        assert list(loaded.choose(questions)) == list(router.choose(questions))


@pytest.mark.parametrize("kind", LIGHT)
def test_every_kind_is_what_policies_take_it_for(kind: str, tmp_path: Path) -> None:
    save_router(trained(kind), tmp_path)
    loaded = load_router(tmp_path)
    assert loaded.name == kind
    match KINDS[kind].shape:
        case "score" | "asked":
            assert isinstance(loaded, PreSignal)
            assert loaded.high == 1.0
        case "stream":
            assert isinstance(loaded, StreamSignal)
        case "answer":
            assert isinstance(loaded, PostSignal)
        case "chooser":
            assert load_chooser(tmp_path).arms == ("closed-book", "rag", "iter-retgen")
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".npz"}


def test_another_kind_can_take_the_folder_over(folder: Path) -> None:
    save_router(trained("knn"), folder)
    assert load_router(folder).name == "knn"


def test_a_router_cannot_be_saved_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        save_router(trained("knn"), tmp_path / "file")


async def test_a_score_router_is_a_signal_that_costs_nothing(folder: Path) -> None:
    loaded = load_router(folder)
    assert isinstance(loaded, ScoreRouter)
    probe = await loaded.measure("Who was the film 99?", ScriptedEngine(), Prompt())
    assert probe.signal == "tfidf-lr"
    assert probe.value == loaded.probability(["Who was the film 99?"])[0]
    assert (probe.prompt_tokens, probe.generated_tokens) == (0, 0)


def test_a_policy_is_written_down_with_its_router(folder: Path) -> None:
    spec = f"pre-retrieve:threshold=0.5,router={folder}"
    assert parse_policy(spec).spec == spec


# --- broken folders -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LIGHT)
@settings(max_examples=12, deadline=None)
@given(data=st.data(), share=st.floats(0, 1, exclude_max=True))
def test_a_file_that_is_cut_anywhere_is_no_router(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject, share: float
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    save_router(trained(kind), folder)
    name = data.draw(st.sampled_from(sorted(path.name for path in folder.iterdir())))
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: math.floor(share * len(whole))])
    with pytest.raises(DataError) as error:
        load_router(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)
    shutil.rmtree(folder)


@pytest.mark.parametrize("kind", LIGHT)
def test_weights_of_another_router_are_refused(kind: str, tmp_path: Path) -> None:
    save_router(trained(kind), tmp_path)
    for name, array in trained(kind).fitted.arrays.items():
        for broken in (array.ravel()[:-1] if array.size > 1 else np.zeros((2, 2)), array * np.nan):
            np.savez(tmp_path / "weights.npz", **{**dict(trained(kind).fitted.arrays), name: broken})  # type: ignore[arg-type]
            with pytest.raises(DataError, match="not a whole router"):
                load_router(tmp_path)


def test_nothing_is_unpickled(folder: Path) -> None:
    arrays = dict(trained("tfidf-lr").fitted.arrays)
    np.savez(folder / "weights.npz", **{**arrays, "idf": np.array([{"a": 1}], dtype=object)})  # type: ignore[arg-type]
    with pytest.raises(DataError, match="not a whole router"):
        load_router(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("weights.npz", b"\xff\xfe"),
        ("weights.npz", b""),
        ("texts.json", b"[]"),
        ("texts.json", b'{"terms": ["a"]}'),
        ("texts.json", b'{"terms": 3}'),
        ("router.json", b"[]"),
        ("router.json", b"nonsense"),
        ("router.json", b'{"kind": "tfidf-lr"}'),
    ],
)
def test_a_file_of_another_content_is_no_router(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=r"not a (whole router|router's manifest)"):
        load_router(folder)


def test_a_router_of_an_older_format_says_so(folder: Path) -> None:
    manifest = json.loads((folder / "router.json").read_bytes())
    (folder / "router.json").write_text(json.dumps(manifest | {"format": 1}))
    with pytest.raises(DataError, match=r"the format 1 of another flarekit.*train it again"):
        load_router(folder)


def test_a_router_of_an_unknown_kind_is_refused(folder: Path) -> None:
    (folder / "router.json").write_text('{"kind": "oracle"}')
    with pytest.raises(DataError, match="no router is of the kind 'oracle'; there are tfidf-lr"):
        load_router(folder)


def test_an_encoder_of_another_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_router(trained("knn"), tmp_path)
    loaded = load_router(tmp_path)
    assert isinstance(loaded, ScoreRouter)
    short = encoder.Encoder("short", lambda texts: np.ones((len(texts), 3), dtype=np.float32))
    monkeypatch.setattr(encoder, "load_encoder", lambda name: short)
    with pytest.raises(DataError, match=r"vectors of 3 numbers.*train it again"):
        loaded.probability(["Who?"])


def test_a_chooser_that_has_no_trade_off_refuses_one() -> None:
    for kind in ("adaptive-rag", "masrouter"):
        router = trained(kind)
        assert isinstance(router, ArmRouter)
        with pytest.raises(FlarekitError):
            router.choose(["Who?"], tradeoff=0.9)


def test_a_variant_of_an_arm_does_not_push_it_out() -> None:
    known = toy()
    arms = (*known.arms, "closed-book:role=expert")
    scores, costs = (np.column_stack([values, values[:, 0]]) for values in (known.scores, known.costs))
    router = train_router("adaptive-rag", Outcomes(known.ids, known.questions, arms, scores, costs))
    assert isinstance(router, ArmRouter)
    assert list(router.arms) == ["closed-book", "rag", "iter-retgen"]

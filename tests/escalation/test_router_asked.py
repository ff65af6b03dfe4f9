"""Routers that need a model: one that is asked with examples, and an encoder that is fine-tuned."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes.scripted import ScriptedEngine
from fakes.toy_outcomes import toy, word_encoder
from flarekit.engines import encoders as encoder
from flarekit.errors import ConfigError, DataError
from flarekit.escalation.base import Fitted
from flarekit.escalation.outcomes import Outcomes
from flarekit.escalation.routers import finetune
from flarekit.escalation.routers.in_context import ask_prompt, shown
from flarekit.escalation.split import normalize_question
from flarekit.escalation.trained import AskedRouter, ScoreRouter, save_router
from flarekit.escalation.training import train_router
from flarekit.prompts.few_shot import Prompt
from flarekit.signals.question import load_router
from flarekit.stats.arrays import Floats
from flarekit.tokens import Usage


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "load_encoder", functools.cache(word_encoder))


class Opinionated(ScriptedEngine):
    """Says yes with probability .6 and no with .2, to whatever it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def choose(self, prompt: Sequence[int], choices: Sequence[int]) -> tuple[list[float], Usage]:
        self.asked.append("".join(map(chr, prompt)))
        # Here a token is a character: what tells yes from no is the space's successor.
        return [math.log(0.3), math.log(0.3), math.log(0.1), math.log(0.1)], Usage(len(prompt), 0, 1)


# --- asking ---------------------------------------------------------------------------------------------------------


def test_the_prompt_shows_examples_and_ends_where_yes_or_no_follows() -> None:
    text = ask_prompt("Who\nwas it?", [("When?", True), ("Where?", False)])
    assert text.count("to answer it correctly? yes") == text.count("to answer it correctly? no") == 1
    assert text.endswith("Question: Who was it?\nWould you need to look this up to answer it correctly?")


async def test_the_score_is_yes_against_no_and_what_asking_cost_is_counted(tmp_path: Path) -> None:
    save_router(train_router("in-context", toy(), examples=4), tmp_path)
    router, engine = load_router(tmp_path), Opinionated()
    assert isinstance(router, AskedRouter)
    assert router.manifest["metrics"] is None
    probe = await router.measure("Who was it?", engine, Prompt())
    assert probe.value == pytest.approx(0.75)
    assert (probe.prompt_tokens, probe.generated_tokens) == (len(engine.asked[0]), 1)
    assert engine.asked[0].count("Question: ") == 5


def test_half_of_the_examples_needed_help_and_none_is_judged_on() -> None:
    router = train_router("in-context", toy(), examples=6)
    assert isinstance(router, AskedRouter)
    examples = shown(router.fitted, "Who?")
    assert sorted(needed for _, needed in examples) == [False] * 3 + [True] * 3
    judged = {toy().questions[list(toy().ids).index(id_)] for id_ in router.manifest["split"]["test"]}
    assert judged.isdisjoint(text for text, _ in examples)


@pytest.mark.usefixtures("words")
def test_the_nearest_examples_are_shown_the_nearest_last() -> None:
    router = train_router("in-context", toy(), examples=4, choice="nearest")
    assert isinstance(router, AskedRouter)
    examples = shown(router.fitted, "Who was the film 99?")
    assert [needed for _, needed in examples].count(True) == 2
    assert examples[-1][0].startswith("Who")
    assert examples[-1][1]


# --- fine-tuning ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two narrow blocks, with random weights and a vocabulary of characters."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("tiny")
    letters = "abcdefghijklmnopqrstuvwxyz0123456789?"
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "who",
        "when",
        "whose",
        *letters,
        *(f"##{x}" for x in letters),
    ]
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    transformers.BertModel(config).save_pretrained(folder)
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("routellm-bert", {"epochs": 12, "blocks": 0, "rate": 3e-3, "pooling": "cls"}),
        ("hybrid-llm", {"fine_tune": True}),
    ],
)
def test_a_fine_tuned_router_is_kept_with_its_encoder(
    tiny: Path, tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    router = train_router(kind, toy(60), target="strong-wins", encoder=str(tiny), **options)
    assert isinstance(router, ScoreRouter)
    if kind == "routellm-bert":
        assert router.manifest["metrics"]["auroc"]["estimate"] > 0.8
    save_router(router, tmp_path / "router")
    loaded = load_router(tmp_path / "router")
    assert isinstance(loaded, ScoreRouter)
    questions = toy(9).questions
    np.testing.assert_allclose(loaded.probability(questions), router.probability(questions), atol=1e-6)
    assert (tmp_path / "router" / "encoder" / "model.safetensors").exists()
    assert not list((tmp_path / "router").rglob("*.bin"))
    (tmp_path / "router" / "encoder" / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(DataError, match="not a whole router"):
        load_router(tmp_path / "router")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_nothing_is_fine_tuned_on_that_is_judged_on(tiny: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    whole, seen, tune = toy(30), set[str](), finetune.fine_tune

    def spy(questions: Sequence[str], labels: Floats, **options: Any) -> Fitted:
        seen.update(map(normalize_question, questions))
        return tune(questions, labels, **options)

    monkeypatch.setattr(finetune, "fine_tune", spy)
    again = [text.upper() for text in whole.questions[:10]]  # the same questions from another source
    doubled = Outcomes(
        [*whole.ids, *(f"again-{number}" for number in range(10))],
        [*whole.questions, *again],
        whole.arms,
        np.vstack([whole.scores, whole.scores[:10]]),
        np.vstack([whole.costs, whole.costs[:10]]),
    )
    made = train_router("routellm-bert", doubled, seed=seed, encoder=str(tiny), epochs=1).manifest["split"]
    text = dict(zip(doubled.ids, map(normalize_question, doubled.questions), strict=True))
    assert seen == {text[id_] for id_ in made["calibration"]}
    assert seen.isdisjoint(text[id_] for id_ in made["test"])


def test_the_same_seed_fine_tunes_the_same_router(tiny: Path) -> None:
    found = [train_router("routellm-bert", toy(30), encoder=str(tiny), epochs=1) for _ in range(2)]
    heads = [router.fitted.arrays["coefficients"] for router in found]
    np.testing.assert_array_equal(heads[0], heads[1])


def test_only_the_last_blocks_are_trained(tiny: Path) -> None:
    router = train_router("routellm-bert", toy(30), encoder=str(tiny), epochs=1, blocks=1)
    before = pytest.importorskip("transformers").AutoModel.from_pretrained(tiny)
    layers = router.fitted.network.model.encoder.layer
    for number, same in enumerate((True, False)):
        left, right = (one[number].attention.self.query.weight for one in (before.encoder.layer, layers))
        assert bool((left == right).all()) == same


# --- encoders -------------------------------------------------------------------------------------------------------


def test_the_default_encoder_gives_vectors_of_length_one_and_knows_meanings() -> None:
    pytest.importorskip("sentence_transformers")
    made = encoder.load_encoder()
    assert made is encoder.load_encoder()
    vectors = made.encode(["Who wrote Emma?", "Who is the author of Emma?", "How high is Mount Everest?"])
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert vectors[0] @ vectors[1] > 0.7 > vectors[0] @ vectors[2]


def test_an_encoder_that_is_nowhere_is_one_clear_line(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ConfigError) as error:
        encoder.load_encoder(str(tmp_path / "nowhere"))
    assert "cannot be loaded" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_library_says_how_to_get_it() -> None:
    with pytest.raises(ConfigError, match=r'pip install "flarekit\[encoders\]"'):
        encoder.import_encoders("no_such_encoder_library")

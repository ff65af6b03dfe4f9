"""A cross-encoder so small that it is made in a test."""

from __future__ import annotations

from pathlib import Path

import pytest

VOCABULARY = ["oslo", "riga", "capital", "norway", "latvia", "river", "novel", "born"]


TEXTS = [f"{a} {b} {c}" for a in VOCABULARY for b in VOCABULARY for c in VOCABULARY[:3]]


def tiny_model(folder: Path, *, scores: int | None = 1) -> Path:
    """A BERT of two narrow blocks that gives a pair of texts so many scores, or none."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    pytest.importorskip("sentence_transformers")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *VOCABULARY]))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=5 + len(VOCABULARY),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=scores or 1,
        initializer_range=0.5,  # so that the scores of different pairs are apart
    )
    kind = transformers.BertForSequenceClassification if scores else transformers.BertModel
    kind(config).save_pretrained(folder)
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def read_alone(model: str, query: str, text: str) -> float:
    """The score of a pair by transformers alone."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    network = transformers.AutoModelForSequenceClassification.from_pretrained(model).eval()
    with torch.inference_mode():
        return float(network(**tokenizer(query, text, return_tensors="pt")).logits[0, 0])

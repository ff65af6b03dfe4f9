"""`routellm-bert`: an encoder fine-tuned to say whether the strong arm wins (RouteLLM, arXiv:2406.18665, section 4.2).

A logistic head on the encoder's mean or first-token (CLS) embedding, trained together with the encoder's last blocks.
The paper trains all of BERT-base on some ten thousand preferences for two thousand steps; with a few hundred questions
and no GPU ours is MiniLM with its last two blocks, three times over the questions. `blocks=0` trains all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.special import expit

from flarekit.engines.encoders import DEFAULT, encoder_path, import_encoders
from flarekit.errors import ConfigError, DataError
from flarekit.escalation.base import Fitted, Task, at_least
from flarekit.stats.arrays import Floats

_LONGEST = 96
_BATCH = 16
Pooling = Literal["mean", "cls"]


@dataclass(frozen=True, slots=True)
class Network:
    """An encoder of the transformers library with its tokenizer."""

    model: Any
    tokenizer: Any
    pooling: Pooling = "mean"

    def pooled(self, questions: Sequence[str]) -> Any:
        """The questions' embeddings, a tensor of shape (questions, dimensions)."""
        batch = self.tokenizer(list(questions), padding=True, truncation=True, max_length=_LONGEST, return_tensors="pt")
        hidden = self.model(**batch).last_hidden_state
        if self.pooling == "cls":
            return hidden[:, 0]
        mask = batch["attention_mask"].unsqueeze(-1)
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1)

    def save(self, folder: Path) -> None:
        """Write it as the transformers library does, with safetensors."""
        self.model.save_pretrained(folder, safe_serialization=True)
        self.tokenizer.save_pretrained(folder)


def load_network(path: str | Path, pooling: Pooling = "mean") -> Network:
    """The encoder at `path` (a folder, or a name on the hub); weights from safetensors alone, no code is run.

    `ConfigError` where it cannot be loaded.
    """
    transformers = import_encoders("transformers")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path)
        model = transformers.AutoModel.from_pretrained(path, use_safetensors=True, attn_implementation="eager").eval()
    except Exception as error:  # whatever a hub, a folder or a model's code may raise
        raise ConfigError(f"the encoder {str(path)!r} cannot be loaded ({str(error).splitlines()[0]})") from error
    return Network(model, tokenizer, pooling)


def fit(
    task: Task,
    *,
    encoder: str = DEFAULT,
    epochs: int = 3,
    blocks: int = 2,
    pooling: Pooling = "mean",
    rate: float = 1e-4,
) -> Fitted:
    """Fine-tune on the labels; see `fine_tune`."""
    return fine_tune(
        task.questions, task.labels, encoder=encoder, epochs=epochs, blocks=blocks, pooling=pooling, rate=rate,
        seed=task.seed,
    )  # fmt: skip


def fine_tune(
    questions: Sequence[str],
    labels: Floats,
    *,
    encoder: str = DEFAULT,
    epochs: int = 3,
    blocks: int = 2,
    pooling: Pooling = "mean",
    rate: float = 1e-4,
    seed: int = 0,
) -> Fitted:
    """Minimise the cross-entropy against labels from 0 to 1 with AdamW, the rate falling to zero.

    The head learns ten times as fast as the encoder, whose weights are good already. `DataError` where all labels are
    the same; `ConfigError` where torch or the encoder is missing.
    """
    at_least("epochs", epochs, 1)
    at_least("blocks", blocks, 0)
    if np.ptp(labels) == 0:
        raise DataError("every question has the same label, so there is nothing to tell apart")
    torch = import_encoders("torch")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = load_network(encoder_path(encoder), pooling)
        tuned = _trainable(network.model, blocks)
        head = torch.nn.Linear(network.model.config.hidden_size, 1)
        groups = [{"params": tuned, "lr": rate}, {"params": list(head.parameters()), "lr": 10 * rate}]
        batches = [batch for epoch in range(epochs) for batch in _batches(len(questions), seed + epoch)]
        optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / len(batches))
        network.model.train()
        for batch in batches:
            logits = head(network.pooled([questions[row] for row in batch])).squeeze(-1)
            target = torch.tensor(labels[batch], dtype=torch.float32)
            torch.nn.functional.binary_cross_entropy_with_logits(logits, target).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        network.model.eval()
    settings = {"encoder": encoder, "epochs": epochs, "blocks": blocks, "pooling": pooling, "rate": rate}
    coefficients = head.weight.detach().numpy()[0].astype(np.float64)
    intercept = np.asarray(head.bias.detach().numpy()[0], dtype=np.float64)
    return Fitted(settings, {"coefficients": coefficients, "intercept": intercept}, network=network)


def predict(fitted: Fitted, questions: Sequence[str]) -> Floats:
    """P(label) of each question. Shape (questions,), 0 to 1."""
    torch = import_encoders("torch")
    # Alike long questions together, so that little of a batch is padding.
    order = sorted(range(len(questions)), key=lambda row: len(questions[row]))
    logits = np.zeros(len(questions))
    with torch.inference_mode():
        for begin in range(0, len(order), _BATCH):
            rows = order[begin : begin + _BATCH]
            vectors = fitted.network.pooled([questions[row] for row in rows]).numpy().astype(float)
            logits[rows] = vectors @ fitted.arrays["coefficients"] + fitted.arrays["intercept"]
    return np.asarray(expit(np.asarray(logits, dtype=float)))


def check(fitted: Fitted) -> None:
    """`ValueError` unless there are an encoder and a head of its size."""
    sizes = fitted.expect(coefficients=("d",), intercept=())
    if fitted.network is None or fitted.network.model.config.hidden_size != sizes["d"]:
        raise ValueError("an encoder is expected, and a head of its size")


def _trainable(model: Any, blocks: int) -> list[Any]:
    """The parameters of the last blocks, all others frozen; all of them where `blocks` is 0 or the model has fewer."""
    layers = getattr(getattr(model, "encoder", None), "layer", [])
    if blocks and blocks < len(layers):
        model.requires_grad_(False)
        for layer in layers[-blocks:]:
            layer.requires_grad_(True)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _batches(count: int, seed: int) -> list[Any]:
    order = np.random.default_rng(seed).permutation(count)
    return np.array_split(order, max(1, round(count / _BATCH)))

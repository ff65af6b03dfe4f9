"""Which sampled answers mean the same: groups for semantic entropy, by entailment in both directions.

Kuhn et al. (arXiv:2302.09664, section 3.2) call two answers one where a model of natural language inference finds that
each entails the other, with the question before both (Farquhar et al. 2024, "Entailment estimators"): "Oslo" and "It
is Oslo" are the same answer to "What is Norway's capital?" and none to "Which city is larger?".
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from flarekit.engines.encoders import import_encoders, load_cross_encoder, one_thread
from flarekit.errors import ConfigError
from flarekit.text.canonical import canonical

_ONE_AT_A_TIME = threading.Lock()
"""Sessions judge their answers in threads of their own, which would only wait for one another's cores."""


def same_entailment(answers: Sequence[str], question: str, model: str) -> list[int]:
    """A group number for each answer: that of the first earlier group whose first answer means the same, or its own.

    `model` is a cross-encoder that tells "entailment" from other relations. `ConfigError` where it is none, or not to
    be had.
    """
    asked, forms = " ".join(question.split()), [canonical(answer, question) for answer in answers]
    groups: list[int] = []
    for place, answer in enumerate(answers):
        firsts = [first for first, group in enumerate(groups) if first == group]
        alike = next((first for first in firsts if forms[first] == forms[place]), None)
        if alike is None and firsts:
            pairs = [(f"{asked} {answers[first]}", f"{asked} {answer}") for first in firsts]
            entailed = _entails([*pairs, *((right, left) for left, right in pairs)], model)
            both = zip(entailed, entailed[len(firsts) :], strict=False)
            alike = next((first for first, told in zip(firsts, both, strict=True) if all(told)), None)
        groups.append(place if alike is None else alike)
    return groups


def _entails(pairs: Sequence[tuple[str, str]], name: str) -> list[bool]:
    """Whether entailment is the likeliest relation of each premise to its hypothesis."""
    model = load_cross_encoder(name)
    labels = {int(place): str(label).lower() for place, label in (model.config.id2label or {}).items()}
    place = next((place for place, label in labels.items() if label == "entailment"), None)
    if place is None or len(labels) < 2:
        raise ConfigError(
            f"the cross-encoder {name!r} knows no entailment (its labels are {', '.join(labels.values())})"
        )
    with _ONE_AT_A_TIME, one_thread():
        identity = import_encoders("torch").nn.Identity()
        scores = np.asarray(model.predict(pairs, activation_fn=identity, show_progress_bar=False))
    return [bool(row.argmax() == place) for row in scores]

"""Answers scored as the datasets' own scripts score them, and passages by how many of the needed ones were found.

HotpotQA's `hotpot_evaluate_v1.py` (2WikiMultihopQA scores answers the same way) and MuSiQue's script, which is that of
SQuAD 2, normalise answers alike. Their F1 differs in two places: HotpotQA gives nothing for a wrong "yes", "no" or
"noanswer", however many words are shared, and nothing where neither answer has a word left after normalising.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from flarekit.errors import ConfigError
from flarekit.eval.data.dataset import Metric

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_VERDICTS = frozenset({"yes", "no", "noanswer"})


def normalize_answer(text: str) -> str:
    """An answer without case, ASCII punctuation and English articles, its words set apart by one space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str], metric: Metric = "hotpotqa") -> float:
    """1.0 if the prediction equals one of the accepted answers once both are normalised, else 0.0.

    Raises `ConfigError` for an unknown metric, or without any accepted answer.
    """
    return _best(lambda answer: float(normalize_answer(prediction) == normalize_answer(answer)), answers, metric)


def f1(prediction: str, answers: Sequence[str], metric: Metric = "hotpotqa") -> float:
    """The best harmonic mean of word precision and recall over the accepted answers, in [0, 1].

    Raises `ConfigError` for an unknown metric, or without any accepted answer.
    """
    return _best(lambda answer: _f1(normalize_answer(prediction), normalize_answer(answer), metric), answers, metric)


def supporting_recall(retrieved_ids: Collection[str], supporting_ids: Collection[str]) -> float | None:
    """The share of the supporting passages that were retrieved, in [0, 1]; None where none are known."""
    needed = set(supporting_ids)
    return len(needed.intersection(retrieved_ids)) / len(needed) if needed else None


def _best(score: Callable[[str], float], answers: Sequence[str], metric: Metric) -> float:
    if metric not in ("hotpotqa", "musique"):
        raise ConfigError(f"unknown metric {metric!r}; known are hotpotqa and musique")
    if isinstance(answers, str) or not answers:
        raise ConfigError(f"answers must be a list of at least one accepted answer, not {answers!r}")
    return max(score(answer) for answer in answers)


def _f1(prediction: str, answer: str, metric: Metric) -> float:
    if metric == "hotpotqa" and prediction != answer and not _VERDICTS.isdisjoint((prediction, answer)):
        return 0.0
    predicted, expected = prediction.split(), answer.split()
    if metric == "musique" and not (predicted and expected):
        return float(predicted == expected)
    shared = (Counter(predicted) & Counter(expected)).total()
    # Equals 2PR / (P + R) with P = shared / predicted and R = shared / expected, without dividing by zero.
    return 2 * shared / (len(predicted) + len(expected)) if shared else 0.0

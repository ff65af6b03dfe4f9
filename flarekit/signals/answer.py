"""Signals that are measured after generation, by asking the engine again.

=================  ============================================================  =================  ===================
name               value                                                         cost               source
=================  ============================================================  =================  ===================
vote-share         1 - the share of sampled answers that give the commonest one  n more answers     self-consistency,
                                                                                                    arXiv:2203.11171
semantic-entropy   entropy of the meanings of sampled answers, in nats           n more answers     Farquhar et al.
                                                                                                    2024; 2302.09664
self-verification  share of n short judgements that do not call the answer       the prompt read,   AutoMix,
                   correct                                                       a few tokens each  arXiv:2310.12963
=================  ============================================================  =================  ===================

All of them sample with seeds, so that a run can be repeated; none needs more than the completions API.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Literal, Protocol, runtime_checkable

from flarekit.engines.engine import Engine
from flarekit.errors import ConfigError
from flarekit.prompts.few_shot import Prompt, one_line
from flarekit.prompts.marks import without_marks
from flarekit.retrieval import Passage
from flarekit.signals.sampling import answers_of, majority, same_words, sample, sample_answers
from flarekit.signals.token import SignalCard
from flarekit.tokens import text_of
from flarekit.trace import Probe, Role, Segment


@dataclass(frozen=True, slots=True)
class Answered:
    """A finished answer, and who gave it to what."""

    question: str
    answer: str
    """The short answer."""
    prompt: Prompt
    passages: Sequence[Passage]
    """As they stood in the prompt."""
    engine: Engine
    role: Role
    ids: Sequence[int]
    """The prompt that the engine answered."""
    limit: int
    """The longest answer, in tokens."""
    votes: dict[float, list[str]]
    """Sampled answers that are already there, by temperature, and need not be paid for again."""


@runtime_checkable
class PostSignal(SignalCard, Protocol):
    """One number for a finished answer; higher means less certain."""

    async def judge(self, answered: Answered) -> Probe:
        """The value, with what it cost."""
        ...


Grouping = Callable[[Sequence[str], str], Sequence[int]]
"""A group number for each answer to a question: those that mean the same have the same number."""
GROUPINGS: dict[str, Callable[[str], Grouping]] = {"words": lambda model: same_words}
"""Ways to tell whether two answers mean the same, each made from the name of the model that tells, where one does.
`flarekit.escalation` adds "entailment"."""
NLI = "cross-encoder/nli-deberta-v3-xsmall"
"""The cross-encoder that is asked for entailment unless another one is named; a small one, on the Hugging Face hub."""

_SAMPLING = "seeded sampling (temperature, seed)"


@dataclass(frozen=True, slots=True)
class _VoteShare:
    samples: int = 5
    temperature: float = 0.7
    name: str = "vote-share"
    high: float = 1.0
    source: str = "self-consistency, arXiv:2203.11171"
    needs: str = _SAMPLING

    async def judge(self, answered: Answered) -> Probe:
        answers, segments = await _answers(answered, self.samples, self.temperature)
        return _probe(
            self.name, 1 - majority(same_words(answers, answered.question))[1], answered.role, segments, answers
        )


@dataclass(frozen=True, slots=True)
class _SemanticEntropy:
    samples: int = 5
    temperature: float = 0.7
    grouping: str = "words"
    nli: str = NLI
    name: str = "semantic-entropy"
    high: float = math.inf
    source: str = "Kuhn et al., arXiv:2302.09664; Farquhar et al. 2024"
    needs: str = _SAMPLING

    async def judge(self, answered: Answered) -> Probe:
        answers, segments = await _answers(answered, self.samples, self.temperature)
        groups = await asyncio.to_thread(find_grouping(self.grouping, self.nli), answers, answered.question)
        return _probe(self.name, entropy_of(groups), answered.role, segments, answers)


@dataclass(frozen=True, slots=True)
class _SelfVerification:
    samples: int = 5
    temperature: float = 1.0
    name: str = "self-verification"
    high: float = 1.0
    source: str = "AutoMix, arXiv:2310.12963, section 3.1"
    needs: str = _SAMPLING

    async def judge(self, answered: Answered) -> Probe:
        ids = await answered.engine.tokenize(await without_marks(verification_prompt(answered), answered.engine))
        segments = await sample(
            self.samples,
            answered.engine,
            ids,
            answered.role,
            max_tokens=3,
            stop=("\n",),
            top_logprobs=1,
            temperature=self.temperature,
        )
        said = [text_of(segment.tokens).strip() for segment in segments]
        agreed = sum(map(agrees, said))
        return _probe(self.name, 1 - agreed / len(said), answered.role, segments, said)


def agrees(judgement: str) -> bool:
    """Whether a sampled judgement calls the answer correct."""
    return judgement.strip().lower().startswith("correct")


POST_SIGNALS: dict[str, Callable[..., PostSignal]] = {
    "vote-share": _VoteShare,
    "semantic-entropy": _SemanticEntropy,
    "self-verification": _SelfVerification,
}
"""The signals that judge a finished answer, by name; their parameters are `samples`, `temperature` and, for
semantic-entropy, `grouping` and `nli`."""

_EXAMPLES: tuple[tuple[str, str, Literal["Correct", "Incorrect"]], ...] = (
    ("Which river flows through Vienna?", "the Danube", "Correct"),
    ("Who wrote Oliver Twist?", "Jane Austen", "Incorrect"),
    ("In which country is the Sagrada Familia?", "Spain", "Correct"),
    ("In which year was Marie Curie born?", "1901", "Incorrect"),
)


def verification_prompt(answered: Answered) -> str:
    """Four judged answers, then the one in question: the next word is the judgement."""
    worked = "\n".join(_case(question, answer) + f" {verdict}\n" for question, answer, verdict in _EXAMPLES)
    shown = [answered.prompt.brief(passage) for passage in answered.passages]
    context = "Passages:\n" + "".join(f"{one_line(one.title)}: {one.text}\n" for one in shown) if shown else ""
    instruction = "Judge whether the proposed answer is correct. Write Correct or Incorrect.\n\n"
    return instruction + worked + "\n" + context + _case(answered.question, answered.answer)


def entropy_of(groups: Sequence[int]) -> float:
    """Entropy in nats of the groups' shares, from 0 (all alike) to ln n (all different)."""
    shares = [count / len(groups) for count in Counter(groups).values()]
    return max(0.0, -sum(share * math.log(share) for share in shares))


def find_post_signal(name: str, **parameters: object) -> PostSignal:
    """The signal called `name` that judges a finished answer."""
    if name not in POST_SIGNALS:
        raise ConfigError(f"no signal from after generation is called {name!r}; there are {', '.join(POST_SIGNALS)}")
    return POST_SIGNALS[name](**parameters)


def find_grouping(name: str, model: str = NLI) -> Grouping:
    """The way to group answers that is called `name`; `model` is loaded when the first answers are grouped.

    `ConfigError` for an unknown name, and for embeddings: alone they take different answers for one.
    """
    if name == "embedding":
        raise ConfigError(
            'answers are no longer grouped by embeddings, to which "1985" and "1986" are one answer: '
            "use grouping=words, or grouping=entailment with a cross-encoder"
        )
    if name not in GROUPINGS:
        import_module("flarekit.escalation")
    if name not in GROUPINGS:
        raise ConfigError(f"answers cannot be grouped by {name!r}; there are {', '.join(GROUPINGS)}")
    return GROUPINGS[name](model)


async def _answers(answered: Answered, samples: int, temperature: float) -> tuple[list[str], list[Segment]]:
    known = answered.votes.get(temperature, [])
    if len(known) >= samples:
        return known[:samples], []
    segments = await sample_answers(
        answered.engine,
        answered.ids,
        answered.prompt,
        role=answered.role,
        samples=samples,
        temperature=temperature,
        limit=answered.limit,
    )
    answered.votes[temperature] = answers_of(segments, answered.prompt)
    return answered.votes[temperature], segments


def _probe(name: str, value: float, role: Role, segments: Sequence[Segment], texts: Sequence[str]) -> Probe:
    prompt = sum(segment.prompt_tokens for segment in segments)
    cached = sum(segment.cached_tokens or 0 for segment in segments)
    generated = sum(len(segment.tokens) for segment in segments)
    reckoned = any(segment.cached_estimated for segment in segments)
    return Probe(name, value, role, prompt, cached, generated, texts=list(texts), cached_estimated=reckoned)


def _case(question: str, answer: str) -> str:
    return f"Question: {' '.join(question.split())}\nProposed answer: {answer}\nJudgement:"

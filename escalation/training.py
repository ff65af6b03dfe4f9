"""Trained routers: classifiers that read only the question, and decide before anything is generated.

`train_router` fits any kind of `flarekit.escalation.registry` on one part of recorded outcomes and judges it on the
rest; `flarekit.escalation.trained` keeps it. What a kind computes is in the module of its family.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flarekit.errors import ConfigError, DataError
from flarekit.escalation import store as folders
from flarekit.escalation.base import Fitted, Task
from flarekit.escalation.baselines import LENGTH, by_type, lengths_of, lopsided, strata_of, types_of
from flarekit.escalation.outcomes import TARGETS, Outcomes, Target
from flarekit.escalation.registry import Kind, find_kind
from flarekit.escalation.routers.automix import AnswerRouter, hands_over
from flarekit.escalation.routers.mid_lr import MidRouter
from flarekit.escalation.split import digest, split
from flarekit.escalation.trained import ArmRouter, AskedRouter, Router, ScoreRouter, as_router
from flarekit.policies.spec import family_of, split_arm
from flarekit.stats.arrays import Floats
from flarekit.stats.quality import chooser_metrics, handover_metrics, resampled, score_metrics, summary
from flarekit.stats.ranking import auroc, auroc_within
from flarekit.tokens import Token

WORDS = "tfidf-lr"
"""The kind that every heavier one is held against."""


Recorded = Mapping[str, Sequence[Token]] | Mapping[str, Sequence[bool]]
"""What some kinds need of the weak arm's answers, by question id: `mid-lr` their tokens, `automix` whether each of
several judgements calls the answer correct."""


def train_router(
    kind: str,
    outcomes: Outcomes,
    *,
    target: Target | None = None,
    weak: str = "closed-book",
    strong: str | None = None,
    arms: Sequence[str] = (),
    answers: Recorded | None = None,
    test_share: float = 0.3,
    seed: int = 0,
    **options: Any,
) -> Router:
    """Fit a router on a calibration split of the questions and judge it on the rest; its manifest says how it did.

    Score routers predict `target` of the arms `weak` and `strong` (None: the kind's own); choosers choose among `arms`.
    `answers` is needed by `mid-lr` and `automix` alone. Further options are the kind's own (its module's `fit`).
    `DataError` where there is too little to learn from, `ConfigError` for an unknown kind, arm or option.
    """
    known = find_kind(kind)
    if known.shape == "chooser":
        outcomes, predicted = outcomes.only(_arms(known, outcomes, arms)), "choice"
        task = Task(outcomes, np.zeros(len(outcomes.ids)), 0, 0, predicted, seed)
        strata: Sequence[Hashable] = outcomes.scores.argmax(axis=1).tolist()
        if len(strata) < 4:
            raise DataError(f"a {kind} router needs at least 4 questions that every arm answered, not {len(strata)}")
    else:
        if known.shape in ("stream", "answer"):
            outcomes = _with_recorded(known, outcomes, answers)
        task = score_task(known, outcomes, target, weak, strong or known.strong, seed)
        truth = outcomes.labels(task.weak, task.strong, _target(task.target))
        if min(truth.sum(), (~truth).sum()) < 4:
            count = f"{truth.sum()} of {len(truth)}"
            raise DataError(f"a router for {task.target!r} needs at least 4 examples of each kind, not {count}")
        strata = truth.tolist()
    rows, test = split(outcomes.questions, strata, test_share, seed)
    fitted = fit_rows(known, task, rows, answers, options)
    router = as_router(_manifest(known, task, fitted, rows, test, strata), fitted)
    router.manifest["metrics"] = _metrics(router, task, rows, test, answers)
    router.manifest["warnings"] = _warnings(known, task)
    return router


def _warnings(kind: Kind, task: Task) -> list[str]:
    """What its figures are to be read with."""
    if kind.shape == "chooser":
        return []
    outcomes = task.outcomes
    truth = outcomes.labels(task.weak, task.strong, _target(task.target)).astype(float)
    said = lopsided(truth, strata_of(outcomes.questions, outcomes.kinds)[1])
    return [said] if said else []


def score_task(kind: Kind, outcomes: Outcomes, target: Target | None, weak: str, strong: str, seed: int) -> Task:
    """What a score router is to learn of all these questions; a tie of the arms counts half for `strong-wins`."""
    places, wanted = (outcomes.arm(weak), outcomes.arm(strong)), _target(target or kind.target)
    if places[0] == places[1]:
        raise ConfigError(f"the weak and the strong arm are both {outcomes.arms[places[0]]}; name two")
    labels = outcomes.labels(*places, wanted).astype(float)
    if wanted == "strong-wins":
        labels = 0.5 + 0.5 * np.sign(outcomes.scores[:, places[1]] - outcomes.scores[:, places[0]])
    return Task(outcomes, labels, *places, wanted, seed)


def fit_rows(
    kind: Kind,
    task: Task,
    rows: NDArray[np.int64],
    answers: Recorded | None,
    options: Mapping[str, Any],
) -> Fitted:
    """Fit on some of the questions, and on nothing that is known of the others."""
    part = Task(task.outcomes.take(rows), task.labels[rows], task.weak, task.strong, task.target, task.seed)
    recorded = [answers[id_] for id_ in part.outcomes.ids] if answers and kind.shape in ("stream", "answer") else []
    if kind.shape == "stream":
        return kind.fit(recorded, part.labels > 0.5, **options)
    if kind.shape == "answer":
        return kind.fit(part, recorded, **options)
    fitted = kind.fit(part, **options)
    if kind.shape != "chooser":
        return fitted
    # What the arms are is part of what a chooser has learnt: its weights are in their order.
    names = {"arms": len(part.outcomes.arms), "arm_names": list(part.outcomes.arms)}
    return Fitted({**fitted.settings, **names}, fitted.arrays, fitted.texts, fitted.network)


def _with_recorded(kind: Kind, outcomes: Outcomes, answers: Recorded | None) -> Outcomes:
    """The questions that something is recorded of; a `DataError` where it must be all of them and is not."""
    known = [row for row, id_ in enumerate(outcomes.ids) if answers and id_ in answers]
    if kind.shape == "stream" and len(known) < len(outcomes.ids):
        raise DataError(f"a {kind.name} router needs recorded tokens of every answer; train it on run directories")
    if not known:
        raise DataError(
            f"a {kind.name} router needs recorded judgements of the weak answers; run them with --policy watch or "
            "--policy self-verify-cascade"
        )
    return outcomes.take(known)


def _arms(kind: Kind, outcomes: Outcomes, wanted: Sequence[str]) -> Sequence[str]:
    """The arms to choose among: those that are asked for, or those of the kind's own that were recorded, or all."""
    if not wanted and kind.arms:
        families = {family_of(split_arm(arm)[1]) for arm in outcomes.arms}
        wanted = [arm for arm in kind.arms if arm in families]  # one that fits several arms is refused below
    wanted = wanted or outcomes.arms
    found = [outcomes.arms[outcomes.arm(arm)] for arm in wanted]
    kind.check_arms(found)
    return found


def _target(target: str) -> Target:
    found = next((one for one in TARGETS if one == target), None)
    if found is None:
        raise ConfigError(f"no target is called {target!r}; there are {', '.join(TARGETS)}")
    return found


def _manifest(
    kind: Kind,
    task: Task,
    fitted: Fitted,
    rows: NDArray[np.int64],
    test: NDArray[np.int64],
    strata: Sequence[Hashable],
) -> dict[str, Any]:
    outcomes = task.outcomes
    chooser = kind.shape == "chooser"
    counted = [str(outcomes.arms[int(str(one))] if chooser else one).lower() for one in strata]
    return {
        "kind": kind.name,
        "format": folders.FORMAT,
        "target": task.target,
        "arms": list(outcomes.arms) if chooser else [outcomes.arms[task.weak], outcomes.arms[task.strong]],
        "encoder": fitted.settings.get("encoder"),
        "seed": task.seed,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "flarekit": version("flarekit"),
        "labels": {one: counted.count(one) for one in sorted(set(counted))},
        "split": {
            "calibration": [outcomes.ids[row] for row in rows],
            "test": [outcomes.ids[row] for row in test],
        },
        "digests": [digest(outcomes.questions[row]) for row in rows],
        "hyperparameters": dict(fitted.settings),
        "shapes": {name: list(array.shape) for name, array in fitted.arrays.items()},
        "texts": bool(fitted.texts),
        "network": fitted.network is not None,
    }


def _metrics(
    router: Router,
    task: Task,
    rows: NDArray[np.int64],
    test: NDArray[np.int64],
    answers: Recorded | None,
) -> dict[str, Any] | None:
    """How the router does on the test questions; None where only an engine can say."""
    outcomes, judged = task.outcomes, task.outcomes.take(test)
    match router:
        case ArmRouter():
            best = int(outcomes.scores[rows].mean(axis=0).argmax())
            return chooser_metrics(router.choose(judged.questions), judged.scores, judged.costs, best)
        case ScoreRouter():
            scores = router.probability(judged.questions)
        case MidRouter():
            tokens: Any = answers
            scores = np.array([router.highest(tokens[id_]) for id_ in judged.ids])
        case AnswerRouter():
            said: Any = [(answers or {})[id_] for id_ in judged.ids]
            handed = hands_over(router.fitted, said)
            return handover_metrics(handed, judged.scores[:, task.weak], judged.scores[:, task.strong])
        case AskedRouter():
            return None
    return score_metrics(judged.labels(task.weak, task.strong, _target(task.target)), scores) | _beside(
        router.name, task, rows, test, scores
    )


def _beside(name: str, task: Task, rows: NDArray[np.int64], test: NDArray[np.int64], scores: Floats) -> dict[str, Any]:
    """What the least that a router must beat does, fitted and judged on the same questions; and AUROC within types."""
    outcomes = task.outcomes
    truth = outcomes.labels(task.weak, task.strong, _target(task.target)).astype(float)
    strata = strata_of(outcomes.questions, outcomes.kinds)[1]
    weights = resampled(len(test))
    found = {"auroc within types": summary(auroc_within(truth[test], scores, [strata[row] for row in test], weights))}
    read = {
        one: by_type(types, truth, rows, test) for one, types in types_of(outcomes.questions, outcomes.kinds).items()
    }
    read[LENGTH] = lengths_of(outcomes.questions)[test]
    if name != WORDS:
        words = find_kind(WORDS)
        fitted = fit_rows(words, task, rows, None, {})
        read[WORDS] = words.function("predict")(fitted, outcomes.take(test).questions)
    return found | {f"auroc of {one}": summary(auroc(truth[test], values, weights)) for one, values in read.items()}

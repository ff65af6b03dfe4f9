"""A calibrated threshold in sentences: what it does, and what it promises for further questions; and as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from flarekit.eval.analysis.wording import interval_text, number, share
from flarekit.eval.calibration.calibrate import Calibrated, Outcome


def explain(found: Calibrated) -> list[str]:
    """The result in sentences: what the threshold does, what it promises, and how it did elsewhere."""
    scale = "" if found.threshold else ", that is always"
    lines = [
        f"{found.target.text}: {found.policy} acts where {found.signal} ({found.moment}) is at or above "
        f"{found.threshold:g}{scale}; elsewhere the answer of {found.base} is accepted.",
        f"On the {found.reached.n} questions that it was chosen on: {_figures(found, found.reached)}",
        _promise(found),
    ]
    if found.judged:
        lines.append(f"On the {found.judged.n} other questions: {_figures(found, found.judged)}")
    if found.left_out:
        lines.append(f"{found.left_out} questions were left out, because {found.signal} was trained on them.")
    if found.unread:
        lines.append(f"{found.unread} questions were left out, because {found.signal} was not measured on them.")
    return lines


def as_json(found: Calibrated) -> str:
    """Every figure; null where one is unknown."""
    return json.dumps(_without_nan(asdict(found) | {"target": found.target.text}), indent=2, allow_nan=False)


def _figures(found: Calibrated, reached: Outcome) -> str:
    said = [f"acts on {interval_text(reached.rate, share)}"]
    said.append(f"accepts and is wrong on {interval_text(reached.risk, share)}")
    if not math.isnan(reached.wrong_accepted.estimate):
        said.append(f"of the accepted answers {interval_text(reached.wrong_accepted, share)} are wrong")
    if reached.cost:
        said.append(f"costs {interval_text(reached.cost, number)} {found.unit} a question")
    return f"{'; '.join(said)}."


def _promise(found: Calibrated) -> str:
    """The statement that holds for further questions of the same kind."""
    target, n, bound = found.target, found.reached.n, share(found.target.amount)
    draw = f"drawn like these {n}"
    if found.threshold == 0 and target.kind in ("risk", "wrong-accepted"):
        return (
            f"No guarantee can be given with {n} questions for any higher threshold: to act on all is the safe choice."
        )
    match target.kind:
        case "rate":
            return (
                f"No guarantee, but the {n} values' quantile: a further question is acted on with probability at most "
                f"{bound}, on average over the draws of such questions, where values don't tie."
            )
        case "cost":
            later = f", as if acting took one answer of {found.helped} on top" if found.moment != "pre" else ""
            return f"No guarantee, but a mean of recorded costs of {found.base} and {found.helped}{later}."
        case "risk":
            return (
                f"Guarantee: of a further question {draw}, the probability that its answer is accepted and wrong is at "
                f"most {bound}, over the draw of all {n + 1} (conformal risk control, arXiv:2208.02814)."
            )
        case "wrong-accepted":
            return (
                f"Guarantee: with probability {share(target.confidence)} over the draw of these {n} questions, at most "
                f"{bound} of the answers accepted on further ones are wrong (Learn then Test, arXiv:2110.01052)."
            )


def _without_nan(value: Any) -> Any:
    """NaN, a share of nothing, has no place in JSON, and neither has infinity."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""Which questions must not judge a policy: those that a trained router in it was fitted on.

A router's manifest names them by id and by what they say, since the same question may have another id in another
source. A chooser's arms may hold routers of their own, whose questions count as well. Every reader of recorded answers
that judges policies asks here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flarekit.escalation.split import digest
from flarekit.eval.data.dataset import Question
from flarekit.io.bounded import read_json
from flarekit.policies.spec import parse_spec, split_arm


@dataclass(frozen=True, slots=True)
class Lessons:
    """The questions that the routers of a policy were fitted on."""

    ids: frozenset[str] = frozenset()
    """As the router's sources called them: "dataset/id" where two of them used an id."""
    digests: frozenset[str] = frozenset()
    """Of what they say; none of a router that was trained before manifests held them."""
    unknown: frozenset[str] = frozenset()
    """Folders that cannot be read, or do not say."""

    def __or__(self, other: Lessons) -> Lessons:
        return Lessons(self.ids | other.ids, self.digests | other.digests, self.unknown | other.unknown)

    def among(self, questions: Iterable[Question], dataset: str) -> frozenset[str]:
        """The ids of those questions that the routers were fitted on."""
        if not (self.ids or self.digests):
            return frozenset()
        said = {one.id: digest(one.text) for one in questions}
        known = {text for key, text in said.items() if not self.ids.isdisjoint((key, f"{dataset}/{key}"))}
        return frozenset(key for key, text in said.items() if text in known | self.digests)


def lessons_of(policy: str) -> Lessons:
    """Those of every router that a policy's specification names; "MODEL/specification" will do as well."""
    folder = parse_spec(split_arm(policy)[1]).parameters.get("router")
    if folder is None:
        return Lessons()
    try:
        return lessons(read_json(Path(folder) / "router.json"), folder)
    except (OSError, ValueError):
        return Lessons(unknown=frozenset({folder}))


def lessons(manifest: Mapping[str, Any], folder: str) -> Lessons:
    """Those of a router with this manifest, and of the routers among the arms that it chooses."""
    try:
        fitted = frozenset(map(str, manifest["split"]["calibration"]))
        found = Lessons(fitted, frozenset(map(str, manifest.get("digests", ()))))
        arms = map(str, manifest["arms"] if manifest.get("target") == "choice" else ())
    except (KeyError, TypeError, AttributeError):
        return Lessons(unknown=frozenset({folder}))
    for arm in arms:
        found |= lessons_of(arm)
    return found

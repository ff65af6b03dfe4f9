"""How a policy is written down: `name` or `name:key=value,key=value`, as an arm also `model/name:key=value`.

The only module that takes such a string apart. It is pure: reading a spec opens no file and builds no policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DEFAULTS: dict[str, Mapping[str, object]] = {}
"""The parameters of every policy that is registered, by its name, with what they default to."""
THRESHOLDS = ("theta", "threshold")
"""What policies call the threshold that a curve is drawn over."""


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """A spec, taken apart. Whether there is such a policy, and whether it has these parameters, `parse_policy` says."""

    family: str
    """The policy's name."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """As they are written, in that order."""
    malformed: str = ""
    """The first part that is not written key=value."""

    def __str__(self) -> str:
        """The spec, as it is written down."""
        rest = ",".join(f"{key}={value}" for key, value in self.parameters.items())
        return f"{self.family}:{rest}" if rest else self.family

    @property
    def threshold_name(self) -> str | None:
        """What the policy calls its threshold; None where it has none, or none of that name is known."""
        known = DEFAULTS.get(self.family, {})
        return next((name for name in THRESHOLDS if name in known), None)

    @property
    def threshold(self) -> float | None:
        """The threshold as written, or the policy's default for it; None where it has none."""
        known = DEFAULTS.get(self.family, {})
        for name in THRESHOLDS:
            value = self.parameters.get(name, known.get(name))
            if isinstance(value, str | float | int):
                return float(value)
        return None

    @property
    def passages(self) -> int | None:
        """Passages that a look-up brings (k), as written or by default; None where the policy has no such number."""
        defaults = DEFAULTS.get(self.family, {})
        return int(str(self.parameters.get("k", defaults["k"]))) if "k" in defaults else None

    @property
    def curve(self) -> str:
        """The spec without its threshold, which is the same for all points of a curve."""
        return str(self.without(*THRESHOLDS))

    def without(self, *names: str) -> PolicySpec:
        """The spec without these parameters."""
        return PolicySpec(self.family, {key: value for key, value in self.parameters.items() if key not in names})


def parse_spec(spec: str) -> PolicySpec:
    """Take `name:key=value,key=value` apart; a part without "=" is named in `malformed`."""
    family, _, rest = spec.partition(":")
    pairs = [part.partition("=") for part in rest.split(",") if part]
    malformed = next((key for key, equals, _ in pairs if not equals), "")
    return PolicySpec(family, {key.strip(): value.strip() for key, _, value in pairs}, malformed)


def family_of(spec: str) -> str:
    """The name of the policy that a spec writes down."""
    return parse_spec(spec).family


def split_arm(arm: str) -> tuple[str, str]:
    """The model of an arm, empty where it names none, and the policy's spec.

    A model's own name may hold a slash, and so may a parameter; a policy's name does not.
    """
    head, colon, parameters = arm.partition(":")
    model, _, name = head.rpartition("/")
    return model, f"{name}{colon}{parameters}"

"""The named policies: every published system in a few lines that read like its paper's algorithm.

`baselines` act always or never, `before` decide before generation, `retrieval` and `handover` during it, `after` once
the answer stands. `base` holds what a policy is, and how one is written down.
"""

# In the order in which a table lists them: by moment.
# isort: off
from flarekit.policies import baselines
from flarekit.policies import pre as before
from flarekit.policies import mid_retrieve as retrieval
from flarekit.policies import mid_escalate as handover
from flarekit.policies import post as after

# isort: on
from flarekit.policies.base import (
    POLICIES,
    Budget,
    Builder,
    Policy,
    Rule,
    arm_policy,
    parse_policy,
    policy,
    with_settings,
)

__all__ = [
    "POLICIES",
    "Budget",
    "Builder",
    "Policy",
    "Rule",
    "after",
    "arm_policy",
    "baselines",
    "before",
    "handover",
    "parse_policy",
    "policy",
    "retrieval",
    "with_settings",
]

"""How a policy is written down: taken apart in one module, without opening anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flarekit.policies import POLICIES, parse_policy
from flarekit.policies.spec import PolicySpec, family_of, parse_spec, split_arm

names = st.sampled_from(sorted(POLICIES))
words = st.text(st.characters(codec="ascii", exclude_characters=",=: ", categories=("L", "N", "P")), min_size=1)


@given(names, st.dictionaries(words, words, max_size=4))
def test_a_spec_is_written_as_it_is_read(family: str, parameters: dict[str, str]) -> None:
    spec = PolicySpec(family, parameters)
    assert parse_spec(str(spec)) == spec
    assert family_of(str(spec)) == family


@given(names, st.dictionaries(words, words, max_size=3), words)
def test_points_of_one_curve_differ_in_the_threshold_alone(family: str, others: dict[str, str], value: str) -> None:
    one = PolicySpec(family, {**others, "threshold": value})
    assert parse_spec(str(one)).curve == PolicySpec(family, others).without("theta", "threshold").curve


@given(st.sampled_from(["", "weak", "org/model-1.5b"]), names, words)
def test_an_arm_is_a_model_and_a_spec(model: str, family: str, value: str) -> None:
    spec = f"{family}:router=runs/{value}"
    assert split_arm(f"{model}/{spec}" if model else spec) == (model, spec)


@pytest.mark.parametrize(
    ("spec", "threshold", "passages"),
    [
        ("flare", 0.8, 3),
        ("flare:theta=0.5,k=1", 0.5, 1),
        ("closed-book", None, None),
        ("rag:k=5", None, 5),
        ("?", None, None),
    ],
)
def test_defaults_are_the_policys_own(spec: str, threshold: float | None, passages: int | None) -> None:
    assert (parse_spec(spec).threshold, parse_spec(spec).passages) == (threshold, passages)


def test_the_order_of_parameters_does_not_matter() -> None:
    assert parse_policy("flare:beta=0.1,theta=0.6").spec == parse_policy("flare:theta=0.6,beta=0.1").spec


def test_a_part_without_an_equals_sign_is_named() -> None:
    assert parse_spec("flare:theta").malformed == "theta"

"""How policies are written down, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flarekit.errors import ConfigError, DataError
from flarekit.policies import POLICIES, parse_policy
from flarekit.policies.triggers import Trigger
from flarekit.signals.token import find_signal


def test_a_spec_is_canonical() -> None:
    assert parse_policy("flare:beta=0.40,theta=0.60").spec == "flare:theta=0.6"
    assert parse_policy("flare:theta=0.8").spec == "flare"


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_spec_is_read_back_as_the_same_policy(theta: float, beta: float) -> None:
    spec = parse_policy(f"flare:theta={theta},beta={beta}").spec
    assert parse_policy(spec).spec == spec


TRAINED = {"adaptive-rag", "avengers-pro", "masrouter"}


@pytest.mark.parametrize("name", [name for name in POLICIES if name not in {*TRAINED, "automix"}])
def test_every_policy_has_defaults_and_a_docstring(name: str) -> None:
    policy = parse_policy(name)
    assert policy.spec == policy.family == name
    assert POLICIES[name].__doc__


@pytest.mark.parametrize("name", sorted(TRAINED))
def test_a_policy_that_must_be_trained_says_so(name: str) -> None:
    with pytest.raises(ConfigError, match="needs the parameter router="):
        parse_policy(name)
    assert POLICIES[name].__doc__


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("flair", "no policy is called 'flair'"),
        ("flare:tetha=0.5", "no parameter is called 'tetha'"),
        ("flare:theta=1.5", "theta=1.5"),
        ("flare:theta=often", "theta=often"),
        ("flare:theta", "key=value"),
        ("rag:k=0", "k=0"),
        ("escalate:threshold=2", "outside the range of min-prob, 0 to 1"),
        ("escalate:signal=mood", "no signal is called 'mood'"),
        ("pre-retrieve:signal=mood", "no signal from before generation is called 'mood'"),
    ],
)
def test_a_wrong_spec_is_one_clear_line(spec: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_policy(spec)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_router_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match=r"nowhere/router\.json does not exist"):
        parse_policy("pre-retrieve:router=nowhere")


def test_a_threshold_on_another_scale_is_refused() -> None:
    with pytest.raises(ConfigError, match="range"):
        Trigger(find_signal("min-prob"), 1.2, "mid")


def test_a_signal_of_the_stream_cannot_be_measured_before_it() -> None:
    with pytest.raises(ConfigError, match="moment"):
        Trigger(find_signal("entropy"), 1.2, "pre")

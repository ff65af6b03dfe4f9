"""Sweeps: what a grid stands for, what is wrong with one, and that a sweep is planned, run and finished."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Flarekit
from hypothesis import given
from hypothesis import strategies as st

from fakes.cached_engines import told
from fakes.scripted_vllm import ScriptedVLLM
from flarekit.errors import ConfigError, FlarekitError
from flarekit.eval.runs.recorded import read_run
from flarekit.eval.runs.runs import make_config, read_settings, run
from flarekit.eval.runs.sweeps import TWINS, expand, make_sweep, plan, sweep
from flarekit.policies import parse_policy

THETAS = {"policy": "flare", "theta": {"from": 0.2, "to": 0.8, "steps": 3}}


def settings(**changes: Any) -> dict[str, Any]:
    return {"arms": [THETAS], "engine": "http://host:8000", "out": "runs/x"} | changes


# --- grids ----------------------------------------------------------------------------------------------------------


def test_a_grid_is_every_combination_of_its_values() -> None:
    grid = {"policy": ["mid-retrieve", "escalate"], "threshold": [0.5, 0.9], "read": ["token", "sentence"]}
    assert expand([grid]) == [
        "mid-retrieve:threshold=0.5,read=token",
        "mid-retrieve:threshold=0.5",
        "mid-retrieve:threshold=0.9,read=token",
        "mid-retrieve:threshold=0.9",
        "escalate:threshold=0.5",
        "escalate:threshold=0.5,read=sentence",
        "escalate:threshold=0.9",
        "escalate:threshold=0.9,read=sentence",
    ]


def test_numbers_at_equal_distances_have_both_ends_and_no_trailing_digits() -> None:
    assert expand([THETAS]) == ["flare:theta=0.2", "flare:theta=0.5", "flare"]


def test_an_arm_that_several_grids_name_is_run_once() -> None:
    assert expand(["rag", {"policy": "rag", "k": [3, 5]}]) == ["rag", "rag:k=5"]


def test_action_and_moment_name_the_twins() -> None:
    grid = {"action": ["retrieve", "escalate"], "moment": ["pre", "mid", "post"]}
    assert expand([grid]) == list(TWINS.values())
    for (action, moment), name in TWINS.items():
        rules = parse_policy(name).rules
        assert {rule.trigger.moment for rule in rules} == {moment}
        assert {rule.action.name for rule in rules} == {action}


@given(st.lists(st.sampled_from([0.1, 0.3, 0.5, 0.7]), min_size=1), st.lists(st.sampled_from([1, 3, 5]), min_size=1))
def test_every_arm_is_a_policy_and_none_comes_twice(thetas: list[float], ks: list[int]) -> None:
    specs = expand([{"policy": "flare", "theta": thetas, "k": ks}])
    assert len(specs) == len(set(thetas)) * len(set(ks))
    assert [parse_policy(spec).spec for spec in specs] == specs


@pytest.mark.parametrize(
    ("arms", "says"),
    [
        (None, "arms: a list of grids is expected"),
        ([], "arms: a list of grids is expected"),
        ([3], "arms.0: a grid is a policy's name or a mapping, not 3"),
        (["rag", {"k": 3}], "arms.1: a grid needs a policy, or an action and a moment"),
        ([{"policy": "flair"}], "arms.0: no policy is called 'flair'"),
        ([{"policy": "flare", "theta": [0.5, 2]}], "arms.0: policy flare: theta=2:"),
        ([{"policy": "flare", "tetha": 0.5}], "arms.0: policy flare: no parameter is called 'tetha'"),
        ([{"policy": "flare", "theta": {"from": 0, "to": 1}}], "arms.0: theta: {from, to, steps} with numbers"),
        ([{"policy": "flare", "theta": []}], "arms.0: theta: a value or a list of values"),
        ([{"action": "ask", "moment": "mid"}], "arms.0: no policy is made of ask and mid"),
    ],
)
def test_what_is_wrong_in_a_grid_is_named_with_its_place(arms: Any, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        expand(arms)
    assert str(error.value).startswith(says)
    assert "\n" not in str(error.value)


# --- experiments ----------------------------------------------------------------------------------------------------


def test_one_model_and_one_retriever_are_one_run_with_a_cache_beside_it() -> None:
    [config] = make_sweep(settings())
    assert (config.out, config.cache) == (Path("runs/x"), Path("runs/x/completions.sqlite"))
    assert config.policies == ["flare:theta=0.2", "flare:theta=0.5", "flare"]


def test_every_pair_of_models_and_retriever_is_a_run_of_its_own_over_one_cache() -> None:
    models = [{"engine": "http://a:1", "model": "small"}, {"engine": "http://a:2", "model": "large"}]
    configs = make_sweep(settings(models=models, retrievers=["bm25", "bm25:k1=1.2"]))
    assert [config.out.name for config in configs] == [
        "small_bm25",
        "small_bm25_k1=1.2",
        "large_bm25",
        "large_bm25_k1=1.2",
    ]
    assert {config.cache for config in configs} == {Path("runs/x/completions.sqlite")}
    assert [config.engine for config in configs] == ["http://a:1", "http://a:1", "http://a:2", "http://a:2"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"policies": ["rag"]}, "policies: a sweep lists its policies under arms"),
        ({"models": {}}, "models: a list of mappings is expected"),
        ({"models": [{"modl": "x"}]}, "modl: extra inputs are not permitted"),
        ({"models": [{}, {}]}, "models: two of them cannot be told apart"),
        ({"retrievers": []}, "retrievers: a list of names is expected"),
        ({"limit": 0}, "limit:"),
    ],
)
def test_what_is_wrong_in_an_experiment_is_named(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        make_sweep(settings(**change))
    assert str(error.value).startswith(says)


@pytest.mark.parametrize("name", ["thresholds", "verdict"])
def test_the_experiments_in_benchmarks_can_be_made(name: str) -> None:
    file = Path(__file__).parents[2] / "benchmarks" / f"{name}.yaml"
    [config] = make_sweep(read_settings(file) | {"engine": "http://host:8000", "out": "runs/x"})
    assert len(config.policies) >= 20


async def test_a_sweep_is_planned_carried_out_and_finished(tmp_path: Path) -> None:
    with ScriptedVLLM() as server:
        configs = make_sweep(settings(engine=server.url, out=str(tmp_path / "run"), limit=4))
        [before] = plan(configs)
        assert (before.sessions, before.most_tokens) == (12, 12 * 640)
        tally = await sweep(configs)
        assert tally.asked == len(server.completions)
        [after] = plan(make_sweep(settings(engine=server.url, out=str(tmp_path / "run"), limit=6)))
        assert (after.done, after.sessions) == (12, 6)


async def test_thresholds_swept_give_the_answers_of_runs_of_their_own(tmp_path: Path) -> None:
    with ScriptedVLLM() as server:
        [config] = make_sweep(settings(engine=server.url, out=str(tmp_path / "swept"), limit=5))
        swept = await sweep([config])
        own = 0
        for spec in config.policies:
            alone = {"policies": [spec], "engine": server.url, "limit": 5, "out": tmp_path / spec}
            asked = len(server.completions)
            await run(make_config(alone))
            own += len(server.completions) - asked
            assert told(tmp_path / spec).items() <= told(tmp_path / "swept").items()
    assert swept.asked < own


async def test_one_question_at_a_time_asks_nothing_twice_however_many_arms(tmp_path: Path) -> None:
    with ScriptedVLLM() as server:
        arms = [{"policy": "flare", "theta": {"from": 0.05, "to": 1, "steps": 20}}]
        configs = make_sweep(settings(arms=arms, engine=server.url, out=str(tmp_path / "many"), limit=3, concurrency=3))
        tally = await sweep(configs)
        prompts = [tuple(body["prompt"]) for body in server.completions]
        assert len(set(prompts)) == len(prompts) == tally.asked
    traces = read_run(tmp_path / "many").traces
    assert len(traces) == 20
    first = next(iter(traces.values()))
    assert {key: trace.segments[0].tokens[0].text for key, trace in first.items()}


def test_the_command_prints_its_plan_and_carries_it_out(flarekit: Flarekit, tmp_path: Path) -> None:
    with ScriptedVLLM() as server:
        (tmp_path / "experiment.yaml").write_text(
            yaml.safe_dump(settings(engine=server.url, out=str(tmp_path / "run"), limit=2))
        )
        ended = flarekit("sweep", str(tmp_path / "experiment.yaml"), "--plan")
        assert ended.status == 0
        assert "3,840" in ended.out, "6 sessions of 640 tokens"
        assert not (tmp_path / "run").exists()
        ended = flarekit("sweep", str(tmp_path / "experiment.yaml"))
        assert ended.status == 0
        assert "tokens came from the cache" in ended.err
        assert flarekit("compare", str(tmp_path / "run")).status == 0
        asked = len(server.completions)
        assert flarekit("sweep", str(tmp_path / "experiment.yaml"), "--no-cache", "--out", tmp_path / "own").status == 0
        assert len(server.completions) - asked > asked
    assert told(tmp_path / "own") == told(tmp_path / "run")


@pytest.mark.parametrize("text", ["arms: [flair]", "arms: [", "- x", "arms: [rag]"])
def test_the_command_says_in_one_line_what_is_wrong(flarekit: Flarekit, tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    ended = flarekit("sweep", str(tmp_path / "bad.yaml"))
    assert ended.status == 2
    assert ended.complaint


def test_a_sweep_without_a_strong_engine_says_which_arm_needs_one(tmp_path: Path) -> None:
    import asyncio

    with ScriptedVLLM() as server, pytest.raises(FlarekitError, match="policy escalate needs a strong engine"):
        asyncio.run(sweep(make_sweep(settings(arms=["escalate"], engine=server.url, out=str(tmp_path / "x")))))

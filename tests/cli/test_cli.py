"""The command line: bad input is one line and exit status 2, and answers go to stdout, everything else to stderr.

The scripted server stands where a request must be refused, or where a server must lack what flarekit needs.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Ended, Flarekit, TestServer

from fakes.scripted_vllm import Body, Refusal, ScriptedVLLM, chunk, complete, events, usage
from flarekit.escalation import KINDS
from flarekit.eval.data.formats import load_dataset
from flarekit.eval.runs.recorded import read_run
from flarekit.policies import POLICIES
from flarekit.signals.answer import POST_SIGNALS
from flarekit.signals.question import PRE_SIGNALS
from flarekit.signals.token import SIGNALS
from flarekit.trace_format import read_trace

NOWHERE = "http://127.0.0.1:9"
"""The discard port, where nothing listens."""


def process(*arguments: object) -> Ended:
    """The program in a process of its own."""
    command = [sys.executable, "-c", "from flarekit.cli import main; main()", *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


# --- bad input ------------------------------------------------------------------------------------------------------

PASSAGE = {"id": "1", "title": "Emma", "text": "Emma is a novel by Jane Austen."}


@pytest.fixture
def bad(tmp_path: Path) -> dict[str, Path]:
    return {
        "missing": tmp_path / "nowhere.jsonl",
        "folder": tmp_path,
        "empty": write(tmp_path / "empty.jsonl"),
        "malformed": write(tmp_path / "malformed.jsonl", PASSAGE, PASSAGE | {"id": "2"}, "nonsense"),
        "incomplete": write(tmp_path / "incomplete.jsonl", PASSAGE, {"id": "2", "title": "Ann"}),
        "twice": write(tmp_path / "twice.jsonl", PASSAGE, PASSAGE),
        "musique": write(tmp_path / "musique.jsonl", {"id": "2hop__1", "question": "Who?", "paragraphs": []}),
        "broken.yaml": write(tmp_path / "broken.yaml", "policies: [rag"),
        "typo.yaml": write(tmp_path / "typo.yaml", "policies: [rag]", "engine: http://host", "outt: x"),
        "list.yaml": write(tmp_path / "list.yaml", "- rag"),
    }


RUN = ("run", "--engine", NOWHERE, "--out", "{folder}/out")
RAG = (*RUN, "--policy", "rag")
BAD = [
    ((*RAG, "--corpus", "{missing}"), "{missing}: no such file"),
    ((*RAG, "--corpus", "{empty}"), "{empty}: no passages"),
    ((*RAG, "--corpus", "{malformed}"), "{malformed}:3: not JSON"),
    ((*RAG, "--corpus", "{incomplete}"), "{incomplete}:2: no field 'text'"),
    ((*RAG, "--corpus", "{twice}"), "{twice}:2: the id '1' is already on line 1"),
    ((*RAG, "--corpus", "{folder}"), "{folder} is no index"),
    ((*RAG, "--dataset", "hotpotqa", "--data", "{missing}"), "{missing}: no such file"),
    ((*RAG, "--dataset", "hotpotqa", "--data", "{musique}"), "load it as musique"),
    ((*RAG, "--dataset", "musique", "--data", "{malformed}"), "{malformed}:3: not JSON"),
    ((*RAG, "--dataset", "trivia", "--data", "{empty}"), "unknown dataset 'trivia'; known are hotpotqa"),
    ((*RAG, "--dataset", "world", "--data", "{missing}"), "{missing}: not a folder"),
    (RAG, f"{NOWHERE}: All connection attempts failed; is a server running there?"),
    ((*RAG[:2], "localhost:8000", *RAG[3:]), "not 'localhost:8000'"),
    ((*RAG, "--limit", "0"), "limit: "),
    ((*RAG, "--concurrency", "-1"), "concurrency: "),
    ((*RUN, "--policy", "flair"), "no policy is called 'flair'; there are closed-book, direct, rag"),
    ((*RUN, "--policy", "flare:tetha=0.5"), "policy flare: no parameter is called 'tetha'; there are theta"),
    ((*RUN, "--policy", "flare:theta=1.5"), "policy flare: theta=1.5: "),
    ((*RUN, "--policy", "mid-retrieve:threshold=2"), "threshold 2 is outside the range of min-prob, 0 to 1"),
    ((*RUN, "--policy", "pre-retrieve:router={missing}"), "{missing}/router.json"),
    ((*RUN, "--policy", "escalate"), "policy escalate needs a strong engine: give its URL with --strong"),
    (RUN, "policies: field required"),
    (("run", "--policy", "rag", "--out", "{folder}/out"), "engine: field required"),
    (("run", "--policy", "rag", "--engine", NOWHERE), "out: field required"),
    (("run", "{missing}"), "{missing}: cannot be read"),
    (("run", "{broken.yaml}"), "{broken.yaml}: not YAML"),
    (("run", "{list.yaml}"), "{list.yaml}: holds no settings"),
    (("run", "{typo.yaml}", "--out", "{folder}/out"), "outt: "),
    (("ask", "Who?", "--engine", NOWHERE, "--policy", "closed-book"), "is a server running there?"),
    (("ask", "Who?", "--engine", NOWHERE, "--policy", "flair"), "no policy is called 'flair'"),
    (("ask", "Who?", "--engine", NOWHERE, "--corpus", "{malformed}"), "{malformed}:3: not JSON"),
    (("compare", "{missing}"), "{missing}: not a run directory"),
    (("doctor", "--engine", NOWHERE), "is a server running there?"),
    (("router", "train", "{missing}", "--out", "{folder}/r"), "{missing}"),
    (("router", "train", "{malformed}", "--out", "{folder}/r"), "{malformed}:1: no field 'answers'"),
    (("world", "--out", "{folder}/w", "--passages", "10"), "50"),
    (("world", "--out", "{empty}"), "{empty}: "),
]


def filled(template: str, places: dict[str, Path]) -> str:
    for name, path in places.items():
        template = template.replace(f"{{{name}}}", str(path))
    return template


@pytest.mark.parametrize(("arguments", "says"), BAD, ids=[says for _, says in BAD])
def test_bad_input_is_one_line_and_status_2(
    flarekit: Flarekit, bad: dict[str, Path], arguments: tuple[str, ...], says: str
) -> None:
    ended = flarekit(*(filled(argument, bad) for argument in arguments))
    assert ended.status == 2
    assert filled(says, bad) in ended.complaint
    assert ended.out == ""
    assert not (bad["folder"] / "out").exists()


@pytest.mark.parametrize("arguments", [("ask", "Who?"), ("ask",), ("doctor",), ("run", "--limit", "x"), ("fly",)])
def test_a_command_that_is_not_complete_shows_its_usage(flarekit: Flarekit, arguments: tuple[str, ...]) -> None:
    ended = flarekit(*arguments)
    assert ended.status == 2
    assert ended.err.startswith("Usage: flarekit")
    assert "Traceback" not in ended.err


def test_a_process_ends_with_status_2_and_says_nothing_but_the_error() -> None:
    ended = process("doctor", "--engine", NOWHERE)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.splitlines() == [f"flarekit: {ended.complaint}"]


def test_brackets_in_a_message_are_printed_as_they_are(flarekit: Flarekit, tmp_path: Path) -> None:
    place = tmp_path / "[bold]odd[/]"
    assert str(place) in flarekit("compare", place).complaint


# --- with a scripted server -----------------------------------------------------------------------------------------


def run_options(server: ScriptedVLLM, out: Path) -> list[object]:
    return ["run", "--engine", server.url, "--policy", "closed-book", "--limit", 3, "--out", out]


def test_a_run_records_and_shows_its_progress(flarekit: Flarekit, tmp_path: Path) -> None:
    with ScriptedVLLM() as server:
        ended = flarekit(*run_options(server, tmp_path / "out"))
    assert (ended.status, ended.out) == (0, "")
    assert "3/3" in ended.err
    assert f"flarekit compare {tmp_path / 'out'}" in ended.err
    assert len(read_run(tmp_path / "out").traces["closed-book"]) == 3


def test_options_win_over_the_yaml_file(flarekit: Flarekit, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with ScriptedVLLM() as server:
        plan = write(
            tmp_path / "run.yaml", f"engine: {server.url}", "policies: [rag, flare]", "limit: 1", f"out: {out}"
        )
        assert flarekit("run", plan, "--policy", "closed-book", "--limit", 2).status == 0
    assert {policy: len(arm) for policy, arm in read_run(out).traces.items()} == {"closed-book": 2}


def test_an_unknown_model_is_refused_with_those_that_are_served(flarekit: Flarekit, tmp_path: Path) -> None:
    with ScriptedVLLM() as server:
        ended = flarekit(*run_options(server, tmp_path / "out"), "--model", "huge")
    assert ended.status == 2
    assert "does not serve 'huge', but scripted" in ended.complaint


def test_a_prompt_beyond_the_context_is_told(flarekit: Flarekit, tmp_path: Path) -> None:
    with ScriptedVLLM(max_model_len=100) as server:
        ended = flarekit("ask", "Who?", "--engine", server.url, "--policy", "closed-book")
    assert ended.status == 2
    assert "the context holds 100" in ended.complaint


def test_ask_without_a_corpus_says_what_is_missing(flarekit: Flarekit) -> None:
    with ScriptedVLLM() as server:
        ended = flarekit("ask", "Who?", "--engine", server.url, "--policy", "rag")
    assert ended.status == 2
    assert "--corpus FILE" in ended.complaint


def test_a_failure_in_the_middle_keeps_what_was_answered(flarekit: Flarekit, tmp_path: Path) -> None:
    def thrice(body: Body) -> Iterator[bytes]:
        if len(server.completions) > 2:
            raise Refusal(400, "no more", "prompt")
        yield from complete(body)

    with ScriptedVLLM(thrice) as server:
        ended = flarekit(*run_options(server, tmp_path / "out"), "--concurrency", 1)
    assert (ended.status, "no more" in ended.complaint) == (2, True)
    assert len(read_run(tmp_path / "out").traces["closed-book"]) == 2


def without_logprobs(body: Body) -> Iterator[bytes]:
    poor = chunk("a", [97])
    poor["choices"][0]["logprobs"] = None
    yield events(poor, usage(3, 1))


def test_doctor_finds_a_server_without_log_probabilities_and_says_how_to_mend_it(flarekit: Flarekit) -> None:
    with ScriptedVLLM(without_logprobs) as server:
        ended = flarekit("doctor", "--engine", server.url)
    assert ended.status == 2
    assert "sends no log-probabilities" in ended.out
    assert "vLLM 0.10 or newer" in ended.out


def test_a_run_on_a_server_without_log_probabilities_points_to_the_doctor(flarekit: Flarekit, tmp_path: Path) -> None:
    with ScriptedVLLM(without_logprobs) as server:
        ended = flarekit(*run_options(server, tmp_path / "out"))
    assert ended.status == 2
    assert "flarekit doctor" in ended.complaint


# --- without any server ---------------------------------------------------------------------------------------------


def test_world_writes_a_folder_that_can_be_asked(flarekit: Flarekit, tmp_path: Path) -> None:
    ended = flarekit("world", "--out", tmp_path / "w", "--passages", 80, "--questions", 12, "--seed", 3)
    assert ended.status == 0
    assert "80 passages" in ended.out
    world = load_dataset("world", tmp_path / "w")
    assert (len(world.corpus), len(world.questions)) == (80, 12)


def test_policies_are_listed(flarekit: Flarekit) -> None:
    ended = flarekit("policies")
    assert ended.status == 0
    assert set(POLICIES) | set(KINDS) <= set(ended.out.split())
    [flare] = [line for line in ended.out.splitlines() if line.startswith("flare ")]
    for said in ("arXiv:2305.06983", "pre, mid", "retrieve", "min-prob", "look-ups and discarded sentences"):
        assert said in flare


def test_a_policy_is_shown_with_its_parameters(flarekit: Flarekit) -> None:
    ended = flarekit("policies", "flare")
    assert ended.status == 0
    assert re.search(r"theta +0\.8", ended.out)
    assert "Retrieve with the question first." in ended.out
    assert flarekit("policies", "flair").complaint.startswith("no policy is called 'flair'")


def test_every_signal_is_listed_with_what_it_needs(flarekit: Flarekit) -> None:
    lines = flarekit("signals").out.splitlines()[1:]
    listed = {line.split()[0] for line in lines}
    assert {*PRE_SIGNALS, *SIGNALS, *POST_SIGNALS} <= listed
    needs = ("logprobs", "prompt_logprobs", "allowed_token_ids", "seeded sampling", "the text alone", "nothing")
    assert all(any(need in line for need in needs) for line in lines)


def test_help_names_every_command(flarekit: Flarekit) -> None:
    ended = flarekit("--help")
    assert ended.status == 0
    named = "ask run sweep compare information power calibrate router policies signals doctor vllm world demo"
    assert set(named.split()) <= set(ended.out.split())


def test_a_router_is_trained_from_outcomes(flarekit: Flarekit, tmp_path: Path) -> None:
    said = {"answers": ["Emma"], "one_retrieval": "Emma"}
    outcomes = write(
        tmp_path / "outcomes.jsonl",
        *(
            said | {"id": str(n), "question": f"Wh{'o' if n % 2 else 'en'} {n}?", "no_retrieval": "Emma"[n % 2 :]}
            for n in range(40)
        ),
    )
    ended = flarekit("router", "train", outcomes, "--out", tmp_path / "router")
    assert ended.status == 0
    assert re.search(r"predicts +'wrong'", ended.out)
    assert re.search(r"AUROC +1\.000 \[", ended.out)
    assert f"--policy pre-retrieve:router={tmp_path / 'router'},threshold=0.5" in ended.out
    assert flarekit("router", "info", tmp_path / "router").out == ended.out


# --- a real server --------------------------------------------------------------------------------------------------


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    second = {"id": "2", "title": "Jane Austen", "text": "Jane Austen was a writer from [Steventon]."}
    return write(tmp_path / "corpus.jsonl", PASSAGE, second)


ASK = ("ask", "Who wrote Emma?", "--policy", "flare")


@pytest.mark.vllm
def test_ask_streams_the_answer_and_tells_the_rest_aside(
    flarekit: Flarekit, vllm_server: TestServer, corpus: Path
) -> None:
    ended = flarekit(*ASK, "--corpus", corpus, "--engine", vllm_server.url)
    assert ended.status == 0
    assert "Austen" in ended.out
    assert ended.out.endswith("\n")
    assert "⌕ looked up: Who wrote Emma?" in ended.err
    assert "Emma" in ended.err
    assert "answer: " in ended.err


@pytest.mark.vllm
def test_ask_in_json_prints_one_trace_and_nothing_else(vllm_server: TestServer, corpus: Path) -> None:
    ended = process(*ASK, "--corpus", corpus, "--engine", vllm_server.url, "--json")
    assert (ended.status, ended.err) == (0, "")
    trace = read_trace(ended.out.encode())
    assert (trace.policy, trace.question) == ("flare", "Who wrote Emma?")
    assert trace.text
    assert trace.costs().retrievals >= 1


@pytest.mark.vllm
def test_doctor_finds_the_server_that_flarekit_starts_good(flarekit: Flarekit, vllm_server: TestServer) -> None:
    ended = flarekit("doctor", "--engine", vllm_server.url)
    assert ended.status == 0, ended.out
    assert ended.out.count("✓") == 6

"""`flarekit router`: train routers on recorded runs, and say what is in a trained one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flarekit.io.terminal import say

if TYPE_CHECKING:
    from flarekit.escalation.registry import Kind as Known

Target = Literal["wrong", "helps", "hurts", "strong-wins"]
Kind = Literal[
    "tfidf-lr",
    "embedding-lr",
    "knn",
    "routellm-mf",
    "routellm-sw",
    "routellm-bert",
    "hybrid-llm",
    "in-context",
    "adaptive-rag",
    "avengers-pro",
    "masrouter",
    "mid-lr",
    "automix",
]

app = typer.Typer(help="Routers that are trained on recorded runs.", no_args_is_help=True)


@app.command()
def train(
    sources: Annotated[list[Path], typer.Argument(help="Run directories, or JSONL files of recorded outcomes.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    kind: Annotated[Kind, typer.Option(help="The kind of router.")] = "tfidf-lr",
    target: Annotated[
        Target | None,
        typer.Option(
            help="What to predict: the weak arm is wrong; help helps; help hurts; the strong arm does better."
        ),
    ] = None,
    weak: Annotated[str, typer.Option(help="The arm that answers without help.")] = "closed-book",
    strong: Annotated[
        str | None, typer.Option("--strong", "--helped", help="The arm that stands for help: rag; of automix, strong.")
    ] = None,
    arm: Annotated[
        list[str] | None, typer.Option(help="An arm that a chooser may choose; all recorded ones unless given.")
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="The encoder's name or folder; all-MiniLM-L6-v2.")] = None,
    alpha: Annotated[float | None, typer.Option(help="avengers-pro: weight of the score against the cost.")] = None,
    cost_weight: Annotated[
        float | None, typer.Option("--lambda", help="masrouter, automix: weight of the cost.")
    ] = None,
    clusters: Annotated[int | None, typer.Option(help="avengers-pro: how many.")] = None,
    labels: Annotated[str | None, typer.Option(help="hybrid-llm: det, prob or trans.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="Any other option of the kind, as NAME=VALUE, such as k=10.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split, and of what a kind draws.")] = 0,
    test_share: Annotated[float, typer.Option(help="Share of the questions to judge on.")] = 0.3,
) -> None:
    """Train a router on one part of what was recorded, and judge it on the rest."""
    # scikit-learn takes seconds to import: only this command waits for it.
    from flarekit.escalation.trained import save_router
    from flarekit.escalation.training import train_router
    from flarekit.eval.results.outcomes import read_outcomes

    given = {"encoder": encoder, "alpha": alpha, "cost_weight": cost_weight, "clusters": clusters, "labels": labels}
    options = {name: value for name, value in given.items() if value is not None} | _pairs(option or [], kind)
    outcomes = read_outcomes(sources, arms=_arms(kind, weak, strong, arm), weak=weak)
    router = train_router(
        kind,
        outcomes,
        target=target,
        weak=weak,
        strong=strong,
        arms=arm or (),
        answers=_recorded(kind, sources, weak),
        test_share=test_share,
        seed=seed,
        **options,
    )
    save_router(router, out)
    say("\n".join(_described(router.manifest, out)))


@app.command()
def info(folder: Annotated[Path, typer.Argument(help="A folder that `flarekit router train` wrote.")]) -> None:
    """Say what is in a trained router: what it predicts, how well, and how it is used."""
    from flarekit.escalation.store import read_manifest
    from flarekit.io.files import standing
    from flarekit.signals.question import load_router

    load_router(folder)  # refuses a folder that is not whole
    say("\n".join(_described(read_manifest(standing(folder)), folder)))


def _recorded(kind: Kind, sources: Sequence[Path], weak: str) -> Any:
    """What the kind needs of the weak arm's answers, by question id; None where that is nothing."""
    from flarekit.escalation.registry import KINDS
    from flarekit.eval.results.outcomes import read_answers, read_judgements

    match KINDS[kind].shape:
        case "stream":
            return read_answers(sources, weak)
        case "answer":
            return read_judgements(sources, weak)
        case _:
            return None


def _arms(kind: Kind, weak: str, strong: str | None, arms: Sequence[str] | None) -> Sequence[str]:
    """The arms to read: the fewer there are, the more questions have all of them."""
    from flarekit.escalation.registry import KINDS

    if KINDS[kind].shape == "chooser":
        return arms or ()
    strong = strong or KINDS[kind].strong
    # RouteLLM's factors are shared between arms, so it learns from all pairs that it is given.
    return [weak, strong, *(one for one in arms or () if one not in (weak, strong))]


def _pairs(options: Sequence[str], kind: Kind) -> dict[str, str]:
    from flarekit.errors import ConfigError
    from flarekit.escalation.registry import KINDS

    for option in options:
        if "=" not in option:
            raise ConfigError(f"an option is written NAME=VALUE, not {option!r}")
        KINDS[kind].check_option(option.partition("=")[0])
    return {name: value for name, _, value in (option.partition("=") for option in options)}


def _described(manifest: Mapping[str, Any], folder: Path) -> list[str]:
    """The manifest as lines to read."""
    from flarekit.escalation.registry import KINDS

    kind = KINDS[manifest["kind"]]
    split = {name: len(ids) for name, ids in manifest["split"].items()}
    total = max(sum(manifest["labels"].values()), 1)
    labels = ", ".join(f"{name} {count / total:.0%}" for name, count in manifest["labels"].items())
    ties = " (the first of equals)" if kind.shape == "chooser" else ""
    hyper = {key: value for key, value in manifest["hyperparameters"].items() if not isinstance(value, list)}
    return [
        f"{folder}: {kind.name}, {kind.paper}",
        f"  predicts     {_predicts(kind.shape, manifest)}",
        f"  arms         {', '.join(manifest['arms'])}",
        f"  questions    {split['calibration']} fitted on, {split['test']} judged on (seed {manifest['seed']})",
        f"  {'best arm     ' if kind.shape == 'chooser' else 'labels       '}{labels}{ties}",
        f"  settings     {', '.join(f'{key}={value}' for key, value in hyper.items()) or 'none'}",
        *_hands_over(manifest["hyperparameters"]),
        f"  made         {manifest['created']} by flarekit {manifest['flarekit']}",
        *_metrics(manifest["metrics"]),
        *_caution(kind, manifest["arms"]),
        *(f"  warning      {said}" for said in manifest.get("warnings", ())),
        f"  use it as    {_usage(kind.shape, kind.name, folder)}",
    ]


def _caution(kind: Known, arms: Sequence[str]) -> list[str]:
    """What is wrong with a router that this version would not train."""
    from flarekit.errors import ConfigError

    try:
        if kind.shape == "chooser":
            kind.check_arms(arms)
    except ConfigError as error:
        return [f"  caution      {error}; train it again"]
    return []


def _hands_over(settings: Mapping[str, Any]) -> list[str]:
    """The numbers of agreeing judgements at which an answer is handed over, where that is what was learnt."""
    if "hands_over_at" not in settings:
        return []
    counts = ", ".join(map(str, settings["hands_over_at"])) or "none"
    return [f"  hands over   where so many of {settings['samples']} judgements agree: {counts}"]


def _predicts(shape: str, manifest: Mapping[str, Any]) -> str:
    if shape == "chooser":
        return "which arm to take"
    meaning = {
        "wrong": "the weak arm is wrong",
        "helps": "the weak arm is wrong and the strong one better",
        "hurts": "the strong arm is worse",
        "strong-wins": "the strong arm is better",
    }
    return f"{manifest['target']!r}: {meaning[manifest['target']]}"


def _metrics(metrics: Mapping[str, Any] | None) -> list[str]:
    if metrics is None:
        return ["  not judged: its score is asked of an engine, and no trace holds that"]
    lines = [
        "  on the questions that it was not fitted on, with 95% intervals (2,000 resamples of these questions: of this "
        "router as it is fitted, not of its kind):"
    ]
    return lines + [f"    {name.replace('auroc', 'AUROC'):34} {_interval(value)}" for name, value in metrics.items()]


def _interval(value: Mapping[str, float | None]) -> str:
    return f"{_number(value['estimate'])} [{_number(value['low'])}, {_number(value['high'])}]"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _usage(shape: str, kind: str, folder: Path) -> str:
    match shape:
        case "chooser":
            return f"--policy {kind}:router={folder}"
        case "answer":
            return f"--policy {kind}:router={folder}"
        case "stream":
            return f"--policy mid-retrieve:router={folder},threshold=0.5"
        case _:
            return f"--policy pre-retrieve:router={folder},threshold=0.5"

"""Trained routers against each other, by questions that they were not fitted on.

Recorded outcomes of another system, by five-fold cross-validation:

    python benchmarks/routers.py outcomes hotpotqa.train.jsonl 2wikimultihopqa.train.jsonl --out rows.jsonl

Own runs, fitted on a part of their questions and judged on the rest, with a plot:

    python benchmarks/routers.py runs runs/hotpotqa-0.5b-bf16 runs/hotpotqa-1.5b \
        --weak qwen2.5-coder-0.5b/closed-book --strong qwen2.5-coder-1.5b/rag --plot docs/routers.svg
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import altair as alt
import numpy as np
import typer
from numpy.typing import NDArray

from flarekit.escalation.kinds import KINDS
from flarekit.escalation.outcomes import TARGETS, Outcomes, Target
from flarekit.escalation.quality import auroc, resampled
from flarekit.escalation.routers import ArmRouter, ScoreRouter, fit_rows, score_task, train_router
from flarekit.escalation.split import folds, split
from flarekit.eval.outcomes import read_outcomes
from flarekit.eval.routing import compared, holm, interval, oracle_scores, rate_curves, report, two_sided_p
from flarekit.eval.statistics import Interval

Floats = NDArray[np.float64]
BASELINE = "tfidf-lr"
ROUTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "tfidf-lr": ("tfidf-lr", {}),
    "embedding-lr": ("embedding-lr", {}),
    "knn": ("knn", {}),
    "routellm-mf": ("routellm-mf", {}),
    "routellm-sw": ("routellm-sw", {}),
    "routellm-bert": ("routellm-bert", {}),
    "hybrid-llm det": ("hybrid-llm", {"labels": "det"}),
    "hybrid-llm trans": ("hybrid-llm", {"labels": "trans"}),
}
"""Score routers that need no engine, by the name of their row. hybrid-llm has labels of its own whatever the target."""
CHOOSERS: dict[str, tuple[str, dict[str, Any]]] = {
    "adaptive-rag": ("adaptive-rag", {}),
    "avengers-pro α=1": ("avengers-pro", {"alpha": 1.0}),
    "avengers-pro α=0.7": ("avengers-pro", {"alpha": 0.7}),
    "avengers-pro α=0.5": ("avengers-pro", {"alpha": 0.5}),
    "masrouter λ=0.1": ("masrouter", {"cost_weight": 0.1}),
}
FOLDS = 5
RATES = (0.25, 0.5, 0.75)
app = typer.Typer(add_completion=False, help=__doc__)


class Rows:
    """Result rows, written down as soon as they are known."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        if path:
            path.write_text("")

    def add(self, **row: Any) -> None:
        """Write one row."""
        if self._path:
            with self._path.open("a") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


@app.command()
def outcomes(
    files: Annotated[list[Path], typer.Argument(help="JSONL files of recorded outcomes, one dataset each.")],
    out: Annotated[Path | None, typer.Option(help="Where to write every figure as a row of JSON.")] = None,
    seed: Annotated[int, typer.Option(help="Of the folds.")] = 0,
) -> None:
    """Five-fold cross-validation of every router that needs no engine."""
    rows = Rows(out)
    for path in files:
        data = read_outcomes([path])
        name = path.name.partition(".")[0]
        weak, strong = data.scores.T
        print(f"\n### {name}, {len(data.ids)} questions\n")
        print(f"Mean F1 {weak.mean():.3f} without retrieval, {strong.mean():.3f} with it.\n")
        targets: list[Target] = [target for target in TARGETS if target != "strong-wins"]
        by_target = {target: dict(pooled(data, target, seed, rows, name)) for target in targets}
        auroc_table(data, by_target, rows, name)
        rate_table(data, by_target["helps"], rows, name)
        chooser_table(data, seed, rows, name)
    print("\nin-context and p-ik need an engine: these files hold no model to ask, so they have no row.")


def pooled(data: Outcomes, target: Target, seed: int, rows: Rows, name: str) -> Iterator[tuple[str, Floats]]:
    """Every router's scores of every question, each by a router that was fitted on the other folds."""
    for router, (kind, options) in ROUTERS.items():
        began = perf_counter()
        task = score_task(KINDS[kind], data, target, "closed-book", "rag", seed)
        fold = folds(data.questions, task.labels.tolist(), FOLDS, seed)
        scores = np.empty(len(data.ids))
        for number in range(FOLDS):
            fitted = fit_rows(KINDS[kind], task, np.flatnonzero(fold != number), None, options)
            test = np.flatnonzero(fold == number)
            judged = ScoreRouter({}, fitted, kind, "").probability([data.questions[row] for row in test])
            # Folds are not on one scale: ranks within each are, and AUROC is of ranks.
            scores[test] = (judged[:, None] > judged).mean(axis=1) + (judged[:, None] == judged).mean(axis=1) / 2
        print(f"{name} {target} {router}: {perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        rows.add(dataset=name, target=target, router=router, scores=scores.round(5).tolist())
        yield router, scores


def auroc_table(data: Outcomes, by_target: dict[Target, dict[str, Floats]], rows: Rows, name: str) -> None:
    """AUROC of each target with its interval, and whether it is reliably better than the baseline's."""
    print("AUROC of a router trained on the column's target [95% interval]; difference to tfidf-lr [interval].\n")
    shares = {target: data.labels(0, 1, target).mean() for target in by_target}
    head = " | ".join(f"{target} ({share:.0%}) | Δ {target}" for target, share in shares.items())
    print(f"| router | {head} |\n|{' --- |' * (1 + 2 * len(shares))}")
    cells: dict[str, list[str]] = {router: [] for router in [*ROUTERS, "random"]}
    verdicts = []
    for target, found in by_target.items():
        truth = data.labels(0, 1, target)
        weights = resampled(len(truth))

        def measure(scores: Floats, weights: Floats, truth: NDArray[np.bool_] = truth) -> Floats:
            return auroc(truth, scores, weights)

        apart = {router: compared(measure, scores, found[BASELINE]) for router, scores in found.items()}
        del apart[BASELINE]
        holds = holm({router: two_sided_p(values) for router, values in apart.items()})
        for router, scores in found.items():
            value = interval(measure(scores, weights))
            difference = interval(apart[router]) if router in apart else None
            reliable = difference is not None and difference.excludes_zero and holds[router]
            cells[router] += [written(value), written(difference, sign=True) if difference else "–"]
            if difference and reliable:
                verdicts.append(f"{router} on {target}: reliably {'better' if difference.low > 0 else 'worse'}")
            rows.add(dataset=name, target=target, router=router, auroc=triple(value), reliable=reliable,
                     difference=triple(difference) if difference else None)  # fmt: skip
        cells["random"] += [".500", "–"]
    for router, texts in cells.items():
        print(f"| {router} | {' | '.join(texts)} |")
    said = "; ".join(verdicts) or "no reliable difference"
    print(f"\nAgainst tfidf-lr, with Holm's correction over the routers: {said}.\n")


def rate_table(data: Outcomes, found: dict[str, Floats], rows: Rows, name: str) -> None:
    """Mean F1 when a share of the questions retrieves, by routers that were trained on `helps`."""
    print("Mean F1 when the share of questions that a router trained on `helps` scores highest retrieves.\n")
    print(f"| router | {' | '.join(f'{rate:.0%}' for rate in RATES)} | APGR | CPT(50%) | CPT(80%) |")
    print(f"|{' --- |' * (4 + len(RATES))}")
    weak, strong = data.scores.T
    everyone = {**found, "random": np.zeros(len(weak)), "oracle": oracle_scores(weak, strong)}
    for router, scores in everyone.items():
        made = report(scores, weak, strong)
        values = [*made.scores.values(), made.apgr, *made.cpt.values()]
        print(f"| {router} | {' | '.join(map(written, values))} |")
        rows.add(dataset=name, router=router, rates={str(rate): triple(value) for rate, value in made.scores.items()},
                 apgr=triple(made.apgr), cpt={str(part): triple(value) for part, value in made.cpt.items()},
                 gap=triple(made.gap))  # fmt: skip
    print(f"\n{gap_note(made.gap)}\n")


def chooser_table(data: Outcomes, seed: int, rows: Rows, name: str) -> None:
    """Choosers by cross-validation, against a score router's curve at the retrieval rate that they chose."""
    print(
        "Choosers: mean F1 at the retrieval rate that they choose; chance is the straight line between the two arms.\n"
    )
    print("| chooser | retrieval rate | F1 | F1 over chance at that rate |\n| --- | --- | --- | --- |")
    weak, strong = data.scores.T
    fold = folds(data.questions, data.scores.argmax(axis=1).tolist(), FOLDS, seed)
    for router, (kind, options) in CHOOSERS.items():
        if len(data.arms) < KINDS[kind].fewest:
            continue
        task = score_task(KINDS["tfidf-lr"], data, "wrong", "closed-book", "rag", seed)
        choice = np.empty(len(data.ids), dtype=int)
        for number in range(FOLDS):
            fitted = fit_rows(KINDS[kind], task, np.flatnonzero(fold != number), None, options)
            test = np.flatnonzero(fold == number)
            choice[test] = ArmRouter({}, fitted, kind, "", data.arms).choose([data.questions[row] for row in test])
        weights = resampled(len(weak)) / len(weak)
        rate, score = weights @ choice, weights @ data.scores[np.arange(len(choice)), choice]
        over = score - (weights @ weak + rate * (weights @ (strong - weak)))
        print(f"| {router} | {rate[0]:.0%} | {written(interval(score))} | {written(interval(over), sign=True)} |")
        rows.add(dataset=name, router=router, rate=rate[0], f1=triple(interval(score)), over=triple(interval(over)))
    best = weights @ data.scores.max(axis=1)
    rate = float((strong > weak).mean())
    over = best - (weights @ weak + weights @ (strong > weak) * (weights @ (strong - weak)))
    print(f"| oracle | {rate:.0%} | {written(interval(best))} | {written(interval(over), sign=True)} |")


@app.command()
def runs(
    directories: Annotated[list[Path], typer.Argument(help="Run directories.")],
    weak: Annotated[str, typer.Option(help="The weak arm.")],
    strong: Annotated[str, typer.Option(help="The strong arm.")],
    out: Annotated[Path | None, typer.Option(help="Where to write every figure as a row of JSON.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Where to draw the curves (SVG, PNG).")] = None,
    seed: Annotated[int, typer.Option(help="Of the split.")] = 0,
    test_share: Annotated[float, typer.Option(help="Share of the questions to judge on.")] = 0.5,
) -> None:
    """PGR, APGR and CPT of every router on own runs, on questions that it was not fitted on."""
    rows = Rows(out)
    data = read_outcomes(directories, arms=[weak, strong], weak=weak)
    strata = data.labels(0, 1, "strong-wins").tolist()
    _, test = split(data.questions, strata, test_share, seed)
    judged = data.take(test)
    alone, helped = judged.scores.T
    fitted_on = len(data.ids) - len(test)
    print(f"\n### {data.arms[1]} over {data.arms[0]}, {fitted_on} questions fitted on, {len(test)} judged\n")
    print(f"Mean F1 {alone.mean():.3f} weak, {helped.mean():.3f} strong.\n")
    head = " | ".join(f"F1 at {rate:.0%}" for rate in RATES)
    print(f"| router | APGR | APGR − tfidf-lr | CPT(50%) | CPT(80%) | {head} |\n|{' --- |' * (5 + len(RATES))}")
    found: dict[str, Floats] = {}
    for router, (kind, options) in ROUTERS.items():
        trained = train_router(kind, data, target="strong-wins", weak=data.arms[0], strong=data.arms[1],
                               seed=seed, test_share=test_share, **options)  # fmt: skip
        assert isinstance(trained, ScoreRouter)
        assert trained.manifest["split"]["test"] == list(judged.ids)
        found[router] = trained.probability(judged.questions)
        print(f"{router} trained", file=sys.stderr, flush=True)
    found |= {"random": np.zeros(len(test)), "oracle": oracle_scores(alone, helped)}

    def area(scores: Floats, weights: Floats) -> Floats:
        return rate_curves(scores, alone, helped, weights).apgr()

    for router, scores in found.items():
        made = report(scores, alone, helped)
        apart = written(interval(compared(area, scores, found[BASELINE])), sign=True) if router != BASELINE else "–"
        values = [*made.cpt.values(), *made.scores.values()]
        print(f"| {router} | {written(made.apgr)} | {apart} | {' | '.join(map(written, values))} |")
        rows.add(router=router, apgr=triple(made.apgr), cpt={str(k): triple(v) for k, v in made.cpt.items()},
                 rates={str(k): triple(v) for k, v in made.scores.items()}, gap=triple(made.gap))  # fmt: skip
    print(f"\n{gap_note(made.gap)}")
    if plot:
        draw(found, lambda scores: rate_curves(scores, alone, helped), data.arms, plot)


def draw(found: dict[str, Floats], curve: Callable[[Floats], Any], arms: Sequence[str], path: Path) -> None:
    """Mean F1 against the share of questions that the strong arm answers, one line a router."""
    values = []
    for router, scores in found.items():
        made = curve(scores)
        values += [
            {"router": router, "rate": round(float(rate), 4), "f1": round(float(score), 4)}
            for rate, score in zip(made.rates[0], made.scores[0], strict=True)
        ]
    dash = alt.condition("datum.router == 'random' || datum.router == 'oracle'", alt.value([5, 4]), alt.value([1, 0]))
    chart = (
        alt.Chart(alt.InlineData(values=values))
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("rate:Q", title=f"Share of questions answered by {arms[1]}", axis=alt.Axis(format="%")),
            y=alt.Y("f1:Q", title="F1, mean over questions not fitted on", scale=alt.Scale(zero=False)),
            color=alt.Color("router:N", title=None, sort=list(found), scale=alt.Scale(scheme="tableau10")),
            order="rate:Q",
            strokeDash=dash,
        )
        .properties(width=560, height=340)
        .configure_view(stroke=None)
    )
    chart.save(str(path))


def gap_note(gap: Interval) -> str:
    """What the gap between the arms allows to say."""
    said = f"The strong arm is better by {written(gap, sign=True)}"
    if gap.excludes_zero:
        return f"{said}."
    return f"{said}: the interval holds zero, so PGR, APGR and CPT, which divide by it, are ill-conditioned here."


def written(value: Interval, sign: bool = False) -> str:
    """An estimate with its bounds."""
    numbers = [one(number, sign) for number in (value.estimate, value.low, value.high)]
    return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"


def one(number: float, sign: bool = False) -> str:
    """A number of three decimals; "never" where a part of the gap is not recovered at any rate."""
    if np.isinf(number):
        return "never"
    if np.isnan(number):
        return "unknown"
    return f"{number:+.3f}" if sign else f"{number:.3f}"


def triple(value: Interval) -> list[float | None]:
    """Estimate and bounds as JSON."""
    return [round(float(x), 5) if np.isfinite(x) else None for x in (value.estimate, value.low, value.high)]


if __name__ == "__main__":
    app()

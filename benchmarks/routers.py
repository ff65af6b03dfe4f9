"""Trained routers against each other, by questions that they were not fitted on.

All by cross-validation, with intervals that hold for other questions to fit on, too (`information.refits`).

Recorded outcomes of another system:

    python benchmarks/routers.py outcomes hotpotqa.train.jsonl 2wikimultihopqa.train.jsonl --out rows.jsonl

Own runs, with a plot:

    python benchmarks/routers.py runs runs/hotpotqa-0.5b-bf16 runs/hotpotqa-1.5b \
        --weak qwen2.5-coder-0.5b/closed-book --strong qwen2.5-coder-1.5b/rag --plot docs/routers.svg
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import altair as alt
import numpy as np
import typer
from numpy.typing import ArrayLike, NDArray

from flarekit.escalation.base import Task
from flarekit.escalation.baselines import lopsided, strata_of
from flarekit.escalation.outcomes import TARGETS, Outcomes, Target
from flarekit.escalation.registry import KINDS
from flarekit.escalation.trained import ArmRouter, ScoreRouter
from flarekit.escalation.training import fit_rows, score_task
from flarekit.eval.analysis.information.fitted import from_the_least
from flarekit.eval.analysis.information.refits import SEEDS, Values, drawn, fixed, refitted, resamples, scored
from flarekit.eval.analysis.routing import figure_interval, oracle_scores, rate_curves, shown_together
from flarekit.eval.results.outcomes import read_outcomes
from flarekit.stats.intervals import Interval
from flarekit.stats.ranking import auroc, auroc_within
from flarekit.stats.tests import bootstrap_p

Floats = NDArray[np.float64]
BASELINE = "tfidf-lr"
ROUTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "tfidf-lr": ("tfidf-lr", {}),
    "embedding-lr": ("embedding-lr", {}),
    "knn": ("knn", {}),
    "routellm-mf": ("routellm-mf", {}),
    "routellm-sw": ("routellm-sw", {}),
    "hybrid-llm det": ("hybrid-llm", {"labels": "det"}),
    "hybrid-llm trans": ("hybrid-llm", {"labels": "trans"}),
}
"""Score routers that need no engine, by the name of their row. hybrid-llm has labels of its own whatever the target.

routellm-bert is not among them: fine-tuning an encoder a hundred times over is dear, and without that its intervals
would not hold."""
SPLITS = {"routellm-mf": 1}
"""Splits into folds where one is all that is affordable; else those of `flarekit.eval.analysis.information.refits`."""
CHOOSERS: dict[str, tuple[str, dict[str, Any]]] = {
    "adaptive-rag": ("adaptive-rag", {}),
    "avengers-pro α=1": ("avengers-pro", {"alpha": 1.0}),
    "avengers-pro α=0.7": ("avengers-pro", {"alpha": 0.7}),
    "avengers-pro α=0.5": ("avengers-pro", {"alpha": 0.5}),
    "masrouter λ=0.1": ("masrouter", {"cost_weight": 0.1}),
}
RATES = (0.25, 0.5, 0.75)
RESAMPLES = 2000
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
        rate_table(data, by_target["helps"], rows, name, "helps")
        chooser_table(data, seed, rows, name)
    print("\nin-context and p-ik need an engine: these files hold no model to ask, so they have no row.")


def pooled(data: Outcomes, target: Target, seed: int, rows: Rows, name: str) -> Iterator[tuple[str, Values]]:
    """The type and length of every question, and every router's scores by fits on other folds."""
    labels = data.labels(0, 1, target).astype(float)
    yield from from_the_least(data, data.kinds, labels, seed=seed).items()
    for router, (kind, options) in ROUTERS.items():
        began = perf_counter()
        task = score_task(KINDS[kind], data, target, data.arms[0], data.arms[1], seed)
        fit = partial(ranked_by, kind, options, task)
        values = refitted(data.questions, labels, fit, seed=seed, seeds=SPLITS.get(router, SEEDS))
        print(
            f"{name} {target} {router}: {values.fits} fits, {perf_counter() - began:.0f} s", file=sys.stderr, flush=True
        )
        rows.add(dataset=name, target=target, router=router, scores=values.whole.round(5).tolist())
        yield router, values


def ranked_by(kind: str, options: dict[str, Any], task: Task, fitted_on: Any, read: Any) -> Floats:
    """The rank of each question among those that are read: fits are not on one scale, and AUROC is of ranks."""
    fitted = fit_rows(KINDS[kind], task, fitted_on, None, options)
    judged = ScoreRouter({}, fitted, kind, "").probability([task.questions[row] for row in read])
    return np.asarray((judged[:, None] > judged).mean(axis=1) + (judged[:, None] == judged).mean(axis=1) / 2)


def auroc_table(data: Outcomes, by_target: dict[Target, dict[str, Values]], rows: Rows, name: str) -> None:
    """AUROC of each target with its interval, within types, and whether it is reliably better than the baseline's."""
    source, types = strata_of(data.questions, data.kinds)
    print(f"AUROC of a router trained on the column's target [95% interval]; within types ({source}); difference to "
          "tfidf-lr [interval].\n")  # fmt: skip
    shares = {target: data.labels(0, 1, target).mean() for target in by_target}
    head = " | ".join(f"{target} ({share:.0%}) | within types | Δ {target}" for target, share in shares.items())
    print(f"| router | {head} |\n|{' --- |' * (1 + 3 * len(shares))}")
    cells: dict[str, list[str]] = {}
    verdicts, warnings = [], []
    draws = resamples(len(data.ids), RESAMPLES)
    for target, found in by_target.items():
        truth = data.labels(0, 1, target).astype(float)
        warnings += [f"{target}: {said}." for said in [lopsided(truth, types)] if said]

        def within(labels: ArrayLike, values: ArrayLike, weights: ArrayLike | None = None) -> Floats:
            return auroc_within(labels, values, types, weights)

        figures = {router: scored(auroc, truth, values, draws) for router, values in found.items()}
        apart = {router: one - figures[BASELINE] for router, one in figures.items() if router != BASELINE}
        holds = shown_together({router: bootstrap_p(values) for router, values in apart.items()})
        for router, values in found.items():
            value, inside = figure_interval(figures[router]), figure_interval(scored(within, truth, values, draws))
            difference = figure_interval(apart[router]) if router in apart else None
            reliable = difference is not None and difference.excludes_zero and holds[router]
            cells.setdefault(router, []).extend(
                [written(value), written(inside), written(difference, sign=True) if difference else "–"]
            )
            if difference and reliable:
                verdicts.append(f"{router} on {target}: reliably {'better' if difference.low > 0 else 'worse'}")
            rows.add(dataset=name, target=target, router=router, auroc=triple(value), within=triple(inside),
                     reliable=reliable, difference=triple(difference) if difference else None)  # fmt: skip
    for router, texts in cells.items():
        print(f"| {router} | {' | '.join(texts)} |")
    said = "; ".join(verdicts) or "no reliable difference"
    print(f"\nAgainst tfidf-lr, with Holm's correction over the routers of a target: {said}.\n")
    print("".join(f"Warning: {one}\n\n" for one in warnings), end="")


def rate_table(data: Outcomes, found: dict[str, Values], rows: Rows, name: str, target: Target) -> None:
    """Mean F1 when the share of questions with the highest scores goes to the strong arm."""
    print(f"Mean F1 when the share of questions that a router trained on `{target}` scores highest goes to the strong "
          "arm.\n")  # fmt: skip
    print(f"| router | {' | '.join(f'{rate:.0%}' for rate in RATES)} | APGR | APGR − tfidf-lr |")
    print(f"|{' --- |' * (3 + len(RATES))}")
    weak, strong = data.scores.T
    draws = resamples(len(weak), RESAMPLES)
    ends = {"random": fixed(np.zeros(len(weak))), "oracle": fixed(oracle_scores(weak, strong))}

    def area(scores: Floats, weights: Floats) -> Floats:
        return rate_curves(scores, weak, strong, weights).apgr()

    areas = {router: drawn(area, values, draws) for router, values in {**found, **ends}.items()}
    for router, values in {**found, **ends}.items():
        made = [figure_interval(drawn(partial(f1_at, rate, weak, strong), values, draws)) for rate in RATES]
        apart = figure_interval(areas[router] - areas[BASELINE])
        last = "–" if router == BASELINE else written(apart, sign=True)
        print(f"| {router} | {' | '.join(map(written, [*made, figure_interval(areas[router])]))} | {last} |")
        rows.add(dataset=name, router=router, apgr=triple(figure_interval(areas[router])), apart=triple(apart),
                 rates={str(rate): triple(one) for rate, one in zip(RATES, made, strict=True)})  # fmt: skip
    gap = figure_interval(rate_curves(np.zeros(len(weak)), weak, strong, draws.judged).gap)
    print(f"\n{gap_note(gap)}\n")


def f1_at(rate: float, weak: Floats, strong: Floats, scores: Floats, weights: Floats) -> Floats:
    """Mean F1 when that share of the questions goes to the strong arm."""
    return rate_curves(scores, weak, strong, weights).at(rate)


def chooser_table(data: Outcomes, seed: int, rows: Rows, name: str) -> None:
    """Choosers by cross-validation, against a score router's curve at the retrieval rate that they chose."""
    print(
        "Choosers: mean F1 at the retrieval rate that they choose; chance is the straight line between the two arms.\n"
    )
    print("| chooser | retrieval rate | F1 | F1 over chance at that rate |\n| --- | --- | --- | --- |")
    weak, strong = data.scores.T
    best_arm = data.scores.argmax(axis=1).astype(float)
    draws = resamples(len(weak), RESAMPLES)
    weights = draws.judged / len(weak)

    def over(choice: Floats, weights: Floats) -> Floats:
        gained = weights @ (choice * (strong - weak)) - (weights @ choice) * (weights @ (strong - weak)) / len(weak)
        return np.asarray(gained / len(weak))

    def score(choice: Floats, weights: Floats) -> Floats:
        return np.asarray(weights @ (weak + choice * (strong - weak)) / len(weak))

    for router, (kind, options) in CHOOSERS.items():
        if len(data.arms) < KINDS[kind].fewest:
            continue
        task = score_task(KINDS["tfidf-lr"], data, "wrong", "closed-book", "rag", seed)
        values = refitted(data.questions, best_arm, partial(chosen_by, kind, options, task), seed=seed)
        made, beyond = figure_interval(drawn(score, values, draws)), figure_interval(drawn(over, values, draws))
        rate = float(values.whole.mean())
        print(f"| {router} | {rate:.0%} | {written(made)} | {written(beyond, sign=True)} |")
        rows.add(dataset=name, router=router, rate=rate, f1=triple(made), over=triple(beyond))
    best = weights @ data.scores.max(axis=1)
    rate = float((strong > weak).mean())
    beyond = figure_interval(over((strong > weak).astype(float), draws.judged))
    print(f"| oracle | {rate:.0%} | {written(figure_interval(best))} | {written(beyond, sign=True)} |")


def chosen_by(kind: str, options: dict[str, Any], task: Task, fitted_on: Any, read: Any) -> Floats:
    """The place of the arm that a chooser takes for each question that is read."""
    fitted = fit_rows(KINDS[kind], task, fitted_on, None, options)
    router = ArmRouter({}, fitted, kind, "", task.outcomes.arms)
    return np.array(router.choose([task.questions[row] for row in read]), dtype=float)


@app.command()
def runs(
    directories: Annotated[list[Path], typer.Argument(help="Run directories.")],
    weak: Annotated[str, typer.Option(help="The weak arm.")],
    strong: Annotated[str, typer.Option(help="The strong arm.")],
    out: Annotated[Path | None, typer.Option(help="Where to write every figure as a row of JSON.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Where to draw the curves (SVG, PNG).")] = None,
    seed: Annotated[int, typer.Option(help="Of the split.")] = 0,
) -> None:
    """AUROC, F1 at shares of strong answers and APGR of every router on own runs."""
    rows = Rows(out)
    data = read_outcomes(directories, arms=[weak, strong], weak=weak)
    alone, helped = data.scores.T
    print(f"\n### {data.arms[1]} over {data.arms[0]}, {len(data.ids)} questions\n")
    print(f"Mean F1 {alone.mean():.3f} weak, {helped.mean():.3f} strong.\n")
    found = dict(pooled(data, "strong-wins", seed, rows, "runs"))
    auroc_table(data, {"strong-wins": found}, rows, "runs")
    rate_table(data, found, rows, "runs", "strong-wins")
    if plot:
        lines = {router: values.whole[0] for router, values in found.items()}
        lines |= {"random": np.zeros(len(alone)), "oracle": oracle_scores(alone, helped)}
        draw(lines, lambda scores: rate_curves(scores, alone, helped), data.arms, plot)


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
            y=alt.Y("f1:Q", title="F1, mean over questions, each by a fit on others", scale=alt.Scale(zero=False)),
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
    return f"{said}: the interval holds zero, so APGR, which divides by it, is ill-conditioned here."


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

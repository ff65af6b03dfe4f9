"""The kinds of trained routers, by name: what each predicts, who published it, and where its functions are.

The functions are imported when they are used: some kinds need libraries that take many seconds to load.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, get_type_hints

from pydantic import TypeAdapter, ValidationError

from flarekit.errors import ConfigError
from flarekit.escalation.base import Fitted

Shape = Literal["score", "chooser", "asked", "stream", "answer"]
"""A score of a question; a choice among arms; a score that an engine is asked for; a score of a running answer; a score
of a finished one."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of router."""

    name: str
    shape: Shape
    paper: str
    module: str
    suffix: str = ""
    """What its functions' names end in, where a module has several kinds."""
    target: str = "wrong"
    """What it predicts unless told otherwise."""
    strong: str = "rag"
    """The arm that stands for help unless told otherwise."""
    arms: tuple[str, ...] = ()
    """The arms that a chooser takes unless told otherwise; all, where there are none."""
    fewest: int = 2
    """Arms below which a chooser has nothing to weigh."""

    def function(self, name: str) -> Callable[..., Any]:
        """`fit`, `predict`, `choose` or `check` of this kind."""
        found: Callable[..., Any] = getattr(
            import_module(f"flarekit.escalation.routers.{self.module}"), name + self.suffix
        )
        return found

    def options(self) -> Sequence[str]:
        """The keyword parameters of its `fit`."""
        parameters = inspect.signature(self.function("fit")).parameters
        return [name for name, one in parameters.items() if one.kind is one.KEYWORD_ONLY]

    def check_option(self, name: str) -> None:
        """A `ConfigError` where it has no option of that name."""
        if name not in self.options():
            known = ", ".join(self.options()) or "none"
            raise ConfigError(f"a {self.name} router has no option {name!r}; there are {known}")

    def check_arms(self, arms: Sequence[str]) -> None:
        """A `ConfigError` where a chooser of this kind would have too few arms, or one of them twice."""
        if len(set(arms)) < len(arms) or len(arms) < self.fewest:
            count = {2: "two", 3: "three"}[self.fewest]
            why = "; between two, scores and costs are brought to 0 and 1 whatever they are" if self.fewest > 2 else ""
            given = ", ".join(arms)
            raise ConfigError(
                f"a router of the kind {self.name} chooses among {count} different arms at least, not {given}{why}"
            )

    def fit(self, *given: Any, **options: Any) -> Fitted:
        """Fit with options; `ConfigError` for an unknown one, or one of another type."""
        hints = get_type_hints(self.function("fit"))
        checked = {}
        for name, value in options.items():
            self.check_option(name)
            try:
                checked[name] = TypeAdapter(hints[name]).validate_python(value)
            except ValidationError as error:
                raise ConfigError(f"{name}={value}: {error.errors()[0]['msg'].lower()}") from error
        fitted: Fitted = self.function("fit")(*given, **checked)
        return fitted


_ROUTELLM = "RouteLLM (Ong et al. 2024, arXiv:2406.18665, section 4.2)"
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("tfidf-lr", "score", "the baseline: TF-IDF and logistic regression", "linear", "_words"),
        Kind("embedding-lr", "score", "an encoder router without fine-tuning", "linear", "_embedding"),
        Kind("knn", "score", "nearest neighbours (Li 2025, arXiv:2505.12601)", "knn"),
        Kind("routellm-mf", "score", _ROUTELLM, "routellm", "_mf", "strong-wins"),
        Kind("routellm-sw", "score", _ROUTELLM, "routellm", "_sw", "strong-wins"),
        Kind("routellm-bert", "score", _ROUTELLM, "finetune", "", "strong-wins"),
        Kind("hybrid-llm", "score", "Hybrid LLM (Ding et al. 2024, arXiv:2404.14618)", "hybrid_llm", "", "strong-wins"),
        Kind("in-context", "asked", "after SKR (Wang et al. 2023, arXiv:2310.05002)", "in_context"),
        Kind(
            "adaptive-rag",
            "chooser",
            "Adaptive-RAG (Jeong et al. 2024, arXiv:2403.14403)",
            "adaptive_rag",
            arms=("closed-book", "rag", "iter-retgen"),
        ),
        Kind("avengers-pro", "chooser", "Avengers-Pro (Zhang et al. 2025, arXiv:2508.12631)", "avengers_pro", fewest=3),
        Kind("masrouter", "chooser", "MasRouter (Yue et al. 2025, arXiv:2502.11133)", "masrouter"),
        Kind("mid-lr", "stream", "a learned trigger during generation, flarekit's own", "mid_lr"),
        Kind(
            "automix",
            "answer",
            "AutoMix (Madaan et al. 2023, arXiv:2310.12963)",
            "automix",
            "",
            "helps",
            strong="strong",
        ),
    )
}
"""Every kind of router, by name."""


def find_kind(name: str) -> Kind:
    """The kind called `name`; `ConfigError` where there is none."""
    if name not in KINDS:
        raise ConfigError(f"no router is of the kind {name!r}; there are {', '.join(KINDS)}")
    return KINDS[name]

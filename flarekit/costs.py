"""What an answer costs as one number: a price for every kind of token, for a look-up and for a second.

Costs are counted in tokens, look-ups and seconds (`flarekit.trace.Costs`); which of them matter is for their user to
say. Only the proportions between the prices count, so any common scale will do: with a price list in dollars per
million tokens, and dollars per million look-ups, the result reads as dollars per million questions.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, TypeAdapter

from flarekit.errors import ConfigError
from flarekit.io.settings import read_model
from flarekit.trace import Costs


class Prices(BaseModel):
    """The price of one token of each kind, of one look-up and of one second, all on one scale.

    The defaults are relative: 1 is what the weak model asks for one generated token.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    generated: NonNegativeFloat = 1.0
    prompt: NonNegativeFloat = 0.25
    """Reading runs in parallel and writing does not: public price lists ask a quarter to a fifth for it."""
    cached: NonNegativeFloat = 0.025
    """A prompt token out of the prefix cache; public price lists ask about a tenth of a read one."""
    strong_generated: NonNegativeFloat = 3.0
    """Arithmetic grows with the parameters: three times for 1.5 against 0.5 billion. Set it for any other pair."""
    strong_prompt: NonNegativeFloat = 0.75
    strong_cached: NonNegativeFloat = 0.075
    retrieval: NonNegativeFloat = 1.0
    """A look-up in a local index takes about as long as a token. The passages are paid for where they are read."""
    second: NonNegativeFloat = 0.0
    """A second that somebody waits. What else ran on the server is in it, so that it is worth most measured alone."""
    unit: str = "generated-token equivalents"
    """What the result is counted in, for labels, such as "USD per million questions"."""


def price(costs: Costs, prices: Prices) -> float:
    """What `costs` come to, at least 0, in `prices.unit`.

    Discarded tokens and probes are paid for like any other.
    """
    weak_prompt = costs.prompt_tokens - costs.strong_prompt_tokens
    weak_cached = costs.cached_tokens - costs.strong_cached_tokens
    return (
        (weak_prompt - weak_cached) * prices.prompt
        + weak_cached * prices.cached
        + (costs.generated_tokens - costs.strong_generated_tokens) * prices.generated
        + (costs.strong_prompt_tokens - costs.strong_cached_tokens) * prices.strong_prompt
        + costs.strong_cached_tokens * prices.strong_cached
        + costs.strong_generated_tokens * prices.strong_generated
        + costs.retrievals * prices.retrieval
        + costs.seconds * prices.second
    )


def load_prices(path: Path) -> Prices:
    """The prices of a YAML file with the fields of `Prices`; what it leaves out keeps its default.

    `DataError` where the file is missing or no YAML, `ConfigError` where a field is unknown or negative.
    """
    try:
        return read_model(path, TypeAdapter(Prices), missing={})
    except ConfigError as error:
        raise ConfigError(f"{error} (the fields are {', '.join(Prices.model_fields)})") from error

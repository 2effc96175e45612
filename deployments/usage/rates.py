"""What tokens of each sort cost, exactly. Pure.

A rate is whole pico-dollars for one token.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec import Struct


@dataclass(frozen=True, slots=True)
class Rates:
    """Pico-dollars for a token of each sort.

    `above` are the rates of longer prompts, by what they must exceed in tokens, the longest first; `tiers` those of
    service tiers by name.
    """

    input: int
    output: int
    cached: int
    written: int
    written_1h: int
    reasoning: int
    audio_input: int
    audio_output: int
    above: tuple[tuple[int, "Rates"], ...] = ()
    tiers: Mapping[str, "Rates"] = field(default_factory=dict)

    def holds_for(self, prompt: int, tier: str | None) -> "Rates":
        """Return the rates of a prompt of so many tokens, in the tier that served it."""
        rates = self.tiers.get(tier, self) if tier is not None else self
        for least, higher in rates.above:
            if prompt > least:
                return higher
        return rates


NOTHING = Rates(0, 0, 0, 0, 0, 0, 0, 0)


class Tokens(Struct, frozen=True):
    """What an attempt has used. `cached`, `written` (in the cache, for an hour or less) and `audio_input` are parts of
    `input`, `written_1h` is a part of `written`; `reasoning` and `audio_output` are parts of `output`.
    """

    input: int
    output: int
    cached: int = 0
    written: int = 0
    written_1h: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0
    tier: str | None = None


def cost_at(rates: Rates, tokens: Tokens) -> int:
    """Return nano-dollars, rounded half up. A part that is more than its whole counts as the whole."""
    if rates.above or rates.tiers:
        rates = rates.holds_for(tokens.input, tokens.tier)
    rest, done = tokens.input, tokens.output
    cached = tokens.cached if tokens.cached < rest else rest
    rest -= cached
    picos = cached * rates.cached
    if tokens.written or tokens.audio_input:
        written = min(tokens.written, rest)
        hourly, spoken = min(tokens.written_1h, written), min(tokens.audio_input, rest - written)
        rest -= written + spoken
        picos += (written - hourly) * rates.written + hourly * rates.written_1h + spoken * rates.audio_input
    if tokens.reasoning or tokens.audio_output:
        said = min(tokens.audio_output, done)
        thought = min(tokens.reasoning, done - said)
        done -= said + thought
        picos += thought * rates.reasoning + said * rates.audio_output
    picos += rest * rates.input + done * rates.output
    return (picos + 500) // 1000


def most_at(rates: Rates, prompt: int, written: int, tier: str | None = None) -> int:
    """Return the nano-dollars that so many tokens cost at most: a vendor may write the whole prompt into its cache."""
    rates = rates.holds_for(prompt, tier)
    return (prompt * max(rates.input, rates.written) + written * max(rates.output, rates.reasoning) + 500) // 1000

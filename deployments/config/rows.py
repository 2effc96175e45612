"""What a row's answers get beside their targets: `rows.{row}`, and `rows."*"` for those that are not named."""

from typing import Annotated, Literal

from pydantic import Field

from deployments.config.base.section import Section
from deployments.config.base.values import NoSwitch, Seconds
from deployments.latency.hedging import HedgeTerms

Hold = Literal["hold", "off"]


class Continuation(Section):
    """How an answer goes on at another provider when its stream breaks off.

    `tools` and `json`: `hold` holds calls of tools, and answers that must be JSON, back until they are whole. `mode`:
    whether another provider goes on with a `text` that was sent in part, or, of `all`, with one that is JSON too. It
    goes on `attempts` times at most, and with texts of `max_text` bytes.
    """

    mode: Literal["off", "text", "all"] = "off"
    attempts: Annotated[int, NoSwitch, Field(ge=1, le=5)] = 1
    max_text: Annotated[int, NoSwitch, Field(ge=1024, le=4 * 1024 * 1024)] = 256 * 1024

    tools: Hold = "off"
    json_answers: Hold = Field(default="off", alias="json")

    @property
    def holds_tools(self) -> bool:
        return self.tools == "hold"

    @property
    def holds_json(self) -> bool:
        return self.json_answers == "hold"


class Hedging(Section):
    """When a second provider is asked beside a first that says nothing for too long, and how often at the most.

    `budget` is the share of requests, and the delays are seconds until the second one is asked.
    """

    budget: Annotated[float, NoSwitch, Field(gt=0, le=0.2)] = 0.02
    min_delay: Seconds = 0.3
    max_delay: Seconds | None = None
    max_prompt_tokens: Annotated[int, NoSwitch, Field(ge=1)] = 4000

    @property
    def terms(self) -> HedgeTerms:
        most = None if self.max_delay is None else float(self.max_delay)
        return HedgeTerms(self.budget, float(self.min_delay), most, self.max_prompt_tokens)


class RowSettings(Section):
    continuation: Continuation = Continuation()
    hedging: Hedging | None = None


EVERY_ROW = "*"  # that has no settings of its own
USUAL = RowSettings()

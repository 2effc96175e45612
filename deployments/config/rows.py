"""What a row's answers get beside their targets: `rows.{row}`, and `rows."*"` for those that are not named."""

from typing import Literal

from pydantic import Field

from deployments.config.base.section import Section

Hold = Literal["hold", "off"]


class Continuation(Section):
    """How an answer goes on at another provider when its stream breaks off.

    `tools` and `json`: `hold` holds calls of tools, and answers that must be JSON, back until they are whole.
    """

    tools: Hold = "off"
    json_answers: Hold = Field(default="off", alias="json")

    @property
    def holds_tools(self) -> bool:
        return self.tools == "hold"

    @property
    def holds_json(self) -> bool:
        return self.json_answers == "hold"


class RowSettings(Section):
    continuation: Continuation = Continuation()


EVERY_ROW = "*"  # that has no settings of its own
USUAL = RowSettings()

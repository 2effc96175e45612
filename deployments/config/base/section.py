"""A part of serve_config.yaml: what has keys. An unknown key is an error that names those that are known. Pure."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Section(Strict):
    """A part of the file."""

    @model_validator(mode="before")
    @classmethod
    def _know_keys(cls, given: object) -> object:
        """Refuse a key that is not known, first of all and with the names that are: pydantic would name none."""
        known = [field.alias or name for name, field in cls.model_fields.items()]
        for key in given if isinstance(given, Mapping) else ():
            if key not in known:
                raise PydanticCustomError("unknown_key", "unknown key", {"key": key, "known": known})
        return given

"""The vendors' list prices, read from `prices.json` beside this file. Pure.

The file is made from genai-prices (MIT, Pydantic Services Inc. and its contributors), which is a dependency of the
tests alone: to import it takes a second and 32 MB in each process, and this table 10 ms. `python -m
tests.renew_prices` makes the file anew, and a test holds that both say the same.
"""

import json
import pathlib
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

Match = str | list[Any]  # of `prices.json`: a sign and a text, or `any` or `all` and several of them
FILE = pathlib.Path(__file__).with_name("prices.json")
_COMPACT_DATE = re.compile(r"-(20\d{2})(\d{2})(\d{2})$")


def vendor_price(address: str, model: str) -> Mapping[str, Any] | None:
    """Return what the vendor at an address asks for a model, as `prices` of the configuration has it; None if unknown.

    Dollars for a million tokens are texts, because they are decimal. `address` is the URL of the vendor's API.
    """
    table = _table()
    vendor = next((one for one in table if one["address"].match(address)), None)
    if vendor is None:
        return None
    name = model.lower()
    dashed = _COMPACT_DATE.sub(r"-\1-\2-\3", name)
    others = [other for id_ in vendor["falls_back"] for other in table if other["vendor"] == id_]
    for one in dict.fromkeys((name, dashed)):
        if (price := _among(vendor["models"], one)) is not None:
            return price
        for other in others:  # whose models this vendor offers too, but not by the other's tiers
            if (price := _among(other["models"], one)) is not None:
                return {key: value for key, value in price.items() if key != "service_tiers"}
    return None


def vendor_at(address: str) -> str | None:
    """Return who asks for money at an address; None if that is not known."""
    return next((one["vendor"] for one in _table() if one["address"].match(address)), None)


def _among(models: list[Any], name: str) -> dict[str, Any] | None:
    return next((price for match, price in models if matches(match, name)), None)


def matches(match: Match, name: str) -> bool:
    """Return whether a model's id, in lower case, is meant."""
    if not isinstance(match, str):
        how, *inner = match
        return (any if how == "any" else all)(matches(one, name) for one in inner)
    sign, text = match[0], match[1:]
    if sign == "/":
        return re.search(text, name) is not None
    return {"=": name == text, "^": name.startswith(text), "$": name.endswith(text), "*": text in name}[sign]


@cache
def _table() -> list[dict[str, Any]]:
    vendors = json.loads(FILE.read_bytes())["vendors"]
    return [{**vendor, "address": re.compile(vendor["address"])} for vendor in vendors]

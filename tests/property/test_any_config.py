"""Whatever stands in a config: it is taken, or refused in one line that repeats no key."""

import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.config.application import parse
from deployments.config.yaml_file import read_yaml
from deployments.errors import ConfigError
from deployments.secrecy import HIDDEN, looks_secret, objection_to_variable, shown
from tests.unit.test_config_mistakes import FULL, replaced

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
BEGINNINGS = [
    "sk-",
    "sk-proj-",
    "sk-ant-api03-",
    "gsk_",
    "hf_",
    "xai-",
    "AIza",
    "AKIA",
    "ghp_",
    "r8_",
    "nvapi-",
    "fw_",
    "",
]
# Without a beginning of a vendor's: 32 hexadecimal digits, or as many letters and digits as a key has.
KEYS = st.tuples(st.sampled_from(BEGINNINGS), st.text(LETTERS, min_size=32, max_size=64)).map("".join)
VARIABLES = st.lists(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=12), min_size=1, max_size=4).map(
    "_".join
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | KEYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
WORDS = [
    "a",
    "b:",
    ": ",
    "- ",
    "\n",
    "\n  ",
    "\t",
    "{",
    "}",
    "[",
    "]",
    ",",
    "'",
    '"',
    "&x ",
    "*x",
    "!t ",
    "<<: ",
    "? ",
    "|",
]
MORE = [
    "2024-99-99",
    "0x",
    "1:99",
    ".inf",
    "%",
    "@",
    "#",
    "---",
    "...",
    "\x00",
    "\ud800",
    "é",
    "=",
    "~",
    "1_",
    "0b",
    "!!int ",
]


@given(KEYS)
def test_a_key_is_no_name_of_a_variable_and_is_not_shown(key: str) -> None:
    assert looks_secret(key)
    assert shown(key) == HIDDEN
    objection = objection_to_variable(key)
    assert objection is not None
    assert key not in objection


@given(VARIABLES)
def test_a_usual_name_of_a_variable_is_taken_and_shown(name: str) -> None:
    if not name.startswith(("AKIA", "ASIA")):
        assert objection_to_variable(name) is None
        assert shown(name) == name


@given(st.lists(st.sampled_from(WORDS + MORE), max_size=14).map("".join) | st.text(max_size=60))
@settings(max_examples=400)
def test_any_text_is_read_as_yaml_or_refused_in_one_line(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "c.yaml")
        file.write_bytes(text.encode(errors="surrogatepass"))
        refused = refusal(read_yaml, str(file))
    assert refused is None or (refused.startswith(str(file)) and "\n" not in refused)


@given(st.data())
@settings(max_examples=300)
def test_any_value_in_any_place_is_taken_or_refused_in_one_line(data: st.DataObject) -> None:
    marker = "in this place"
    place, value = data.draw(st.sampled_from(list(replaced(FULL, marker)))), data.draw(JSON)
    refused = refusal(parse, placed(place, marker, value))
    assert refused is None or ("\n" not in refused and len(refused) < 1000)
    assert not (isinstance(value, str) and len(value) >= 32 and looks_secret(value) and value in (refused or ""))


def refusal(work: Callable[[Any], object], given: Any) -> str | None:
    """The sentence with which it is refused; None if it is taken. Any other error is one of the test's."""
    try:
        work(given)
    except ConfigError as error:
        return str(error)
    return None


def placed(at: Any, marker: str, value: Any) -> Any:
    """The config with a value where the marker stands; as a name, the value is one if it can be."""
    if at == marker:
        return value
    if isinstance(at, dict):
        names = {name: value if name == marker and isinstance(value, str) else name for name in at}
        return {names[name]: placed(inner, marker, value) for name, inner in at.items()}
    return [placed(inner, marker, value) for inner in at] if isinstance(at, list) else at

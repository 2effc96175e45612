"""The own tests of OpenAI's and of Anthropic's Python client, against our chat, Responses and Messages.

`uv run pytest -m clients`.
"""

import pathlib
from collections.abc import Mapping

import pytest

from tests.clients.vendor_suite import Suite
from tests.cluster.conftest import Cluster

pytestmark = pytest.mark.clients

_THREE = r"(method|raw_response|streaming_response)"
STORED = "stored completions: no such route, nothing is stored here"
NO_RESPONSES = "nothing is stored here: a 404 that says so"
EMPTY = "names no model and no input: a 400"
BASE64 = "the client asks for base64, and when it is strict wants a list before it has decoded it"
_ROW, _INPUT = "gpt-6-astra", 'model="gpt-6-astra", input="string"'

OPENAI = Suite(
    "openai",
    (),
    ("chat", "responses", "test_responses.py", "test_models.py", "test_embeddings.py"),
    {
        r"Completions::test_method_create_with_all_params_.*": "asks for at most 0 tokens: a 400",
        rf"Completions::test_{_THREE}_(retrieve|update|list|delete)\b.*": STORED,
        r"Completions::test_method_list_with_all_params\b.*": STORED,
        rf"Messages::test_{_THREE}_list\b.*": STORED,
        r"Messages::test_method_list_with_all_params\b.*": STORED,
        rf"Models::test_{_THREE}_delete\b.*": "no such route: the rows are in the config",
        r"Embeddings::test_method_create_with_all_params\b.*": "asks for 1 dimension: a row has one length, this 1536",
        rf"Embeddings::test_{_THREE}_create\[(strict|aiohttp)\]": BASE64,
        rf"Responses::test_{_THREE}_create_overload_.*": EMPTY,
        r"Responses::test_method_create_with_all_params_.*": "asks for a stored conversation in three ways: a 400",
        rf"Responses::test_{_THREE}_(retrieve|delete|cancel|compact)\b.*": NO_RESPONSES,
        rf"Responses::test_{_THREE}_retrieve_overload_.*": NO_RESPONSES,
        r"Responses::test_method_(retrieve|compact)_with_all_params.*": NO_RESPONSES,
        r"InputItems::test_(?!path_params).*": NO_RESPONSES,
        rf"InputTokens::test_{_THREE}_count\b.*": EMPTY,
        r"InputTokens::test_method_count_with_all_params\b.*": "asks for a stored conversation: a 400",
    },
    {
        "chat/test_completions.py": {r"\b(max_tokens|max_completion_tokens)=0,": r"\1=16,"},
        "test_embeddings.py": {r"\bdimensions=1,": "dimensions=1536,"},
        "test_responses.py": {
            r"\.create\(\)": f".create({_INPUT})",
            r"\.create\(\n\s+stream=True,\n\s+\)": f".create(stream=True, {_INPUT})",
            r"\n\s+(background|conversation|previous_response_id)=[^\n{]*,(?=\n)": "",
            r"\n(\s+)(background_options|prompt)=\{\n(?:.*\n)*?\1\},(?=\n)": "",
            r"\bmax_tool_calls=0,": "max_tool_calls=1,",
        },
        "responses/test_input_tokens.py": {
            r"\.count\(\)": f".count({_INPUT})",
            r'model="model"': f'model="{_ROW}"',
            r"\n\s+(conversation|previous_response_id)=[^\n{]*,(?=\n)": "",
        },
    },
)
ANTHROPIC = Suite(
    "anthropic",
    ("inline-snapshot==0.36.1", "http-snapshot[httpx]==0.1.9"),
    ("test_messages.py", "test_models.py"),
    {
        r"Messages::test_method_create_with_all_params_.*": "asks for a container: a 400, none is run here",
        r"Messages::test_deprecated_model_warning\b.*": "asks for models that no row has: a 404",
        rf"Models::test_{_THREE}_retrieve\b.*": "asks for a model that no row has: a 404",
        r"Models::test_method_retrieve_with_all_params\b.*": "asks for a model that no row has: a 404",
    },
    {
        "test_messages.py": {r"\n(\s+)container=\{\n(?:.*\n)*?\1\},(?=\n)": ""},
        "test_models.py": {r'model_id="model_id"': 'model_id="default"'},
    },
)
SUITES: Mapping[str, tuple[Suite, str]] = {"openai": (OPENAI, "/v1"), "anthropic": (ANTHROPIC, "")}
# With valid values these are all tests that ask for something that is here.
VALID = {
    "openai": "(create or count) and not Embeddings or create_with_all_params",
    "anthropic": "not deprecated_model_warning",
}


@pytest.fixture(scope="module", params=SUITES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def archive(name: str, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return SUITES[name][0].download(tmp_path_factory.mktemp(name))


@pytest.fixture
def source(name: str, archive: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return SUITES[name][0].unpack(archive, tmp_path)


def test_a_vendors_own_tests_pass_but_for_what_is_not_here(
    llm: Cluster, name: str, source: pathlib.Path, tables: dict[str, list[str]]
) -> None:
    suite, path = SUITES[name]
    marks = suite.run(source, f"{llm.url}{path}")
    tables[name] = list(suite.table(marks))
    suite.check(marks)


def test_with_valid_values_a_vendors_tests_of_what_is_here_pass(
    llm: Cluster, name: str, source: pathlib.Path, tables: dict[str, list[str]]
) -> None:
    suite, path = SUITES[name]
    suite.make_valid(source)
    marks = suite.run(source, f"{llm.url}{path}", "-k", VALID[name])
    tables[f"{name}, valid"] = list(suite.table(marks, ", with values that are taken here"))
    assert set(marks.values()) == {"pass"}, {test for test, mark in marks.items() if mark != "pass"}

"""Documents in messages: what they are, who takes them, and the form in which each vendor gets them."""

import base64
from typing import Any

import pytest

from deployments.openai_api.capabilities import Unsupported, find_unsupported
from deployments.openai_api.images import format_of
from deployments.providers.anthropic.request import to_messages
from deployments.providers.base import Call
from deployments.providers.bedrock.documents import BESIDE
from deployments.providers.bedrock.request import to_converse
from deployments.providers.google.request import to_generate
from deployments.providers.kinds import KINDS
from deployments.providers.time_limits import TimeLimits
from deployments.usage.media_tokens import file_tokens
from tests.providers.any_request import file_part, image_url

PDF = b"%PDF-1.7 pages"
SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
LLAMA = "meta.llama3-3-70b-instruct-v1:0"
EACH = ("bedrock", "google", "anthropic", "local")
WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
TEXT = {"type": "text", "text": "What is in it?"}
CALL = {"id": "a", "type": "function", "function": {"name": "open", "arguments": "{}"}}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def pdf(name: str | None = "a.pdf", data: bytes = PDF) -> dict[str, Any]:
    return file_part(name, "application/pdf", data)


def call(*messages: Any, model: str = SONNET) -> Call:
    return Call({"model": "row", "messages": list(messages)}, model, "row", TimeLimits())


def blocks(*messages: Any) -> list[Any]:
    return [block for message in to_converse(call(*messages))["messages"] for block in message["content"]]


def parts(*messages: Any) -> list[list[Any]]:
    return [content["parts"] for content in to_generate(call(*messages, model="gemini-3-pro"))["contents"]]


def missing(kind: str, *messages: Any, model: str = SONNET) -> tuple[str, ...]:
    return find_unsupported(KINDS[kind].capabilities, {"messages": list(messages)}, model).missing


@pytest.mark.parametrize(
    ("part", "form"),
    [
        (pdf(), "pdf"),
        (file_part("notes.txt", "text/plain", PDF), "pdf"),
        (file_part(None, "application/octet-stream", PDF), "pdf"),
        (file_part(None, "text/plain", b"words"), "txt"),
        (file_part("a.csv", "text/plain", b"1,2"), "csv"),
        (file_part("a.pdf", "text/plain", b"words"), "txt"),
        (file_part(None, "TEXT/CSV", b"1,2"), "csv"),
        (file_part("a.py", "text/x-python", b"pass"), "txt"),
        (file_part(None, "application/json", b"{}"), "txt"),
        (file_part(None, "text/xml", b"<?xml?>"), "txt"),
        (file_part(None, WORD, b"PK"), "docx"),
        (file_part("a.DOCX", "application/octet-stream", b"PK"), "docx"),
        (file_part("a.exe", "application/octet-stream", b"MZ"), None),
        (file_part("a.pdf", "application/pdf", b"\x89PNG\r\n\x1a\n"), None),
        (file_part("a.png", "image/png", b"pixels"), None),
        ({"type": "file", "file": {"file_id": "file-1"}}, None),
        ({"type": "file", "file": {"filename": "a.pdf", "file_data": "JVBERi0="}}, None),
        ({"type": "file", "file": None}, None),
    ],
)
def test_the_bytes_say_what_a_document_is_then_its_type_then_its_name(part: dict[str, Any], form: str | None) -> None:
    assert format_of(part) == form


def test_a_document_reaches_converse_under_a_name_that_it_takes() -> None:
    [text, document] = blocks(user(TEXT, pdf("John's  résumé_(1).pdf")))
    assert text == {"text": "What is in it?"}
    assert document == {"document": {"format": "pdf", "name": "John s r sum (1) pdf", "source": {"bytes": PDF}}}


def test_no_two_documents_of_a_request_have_one_name_for_converse_in_whichever_turn() -> None:
    answer = {"role": "assistant", "content": "Ah."}
    made = blocks(user(TEXT, pdf(), pdf("A.PDF")), answer, user(TEXT, pdf(None), pdf("☃"), pdf("x" * 300)))
    names = [block["document"]["name"] for block in made if "document" in block]
    assert names == ["a pdf", "A PDF-2", "document", "document-2", "x" * 180]


def test_a_document_that_stands_alone_has_a_text_beside_it_for_converse() -> None:
    assert blocks(user(pdf()))[1:] == [{"text": BESIDE}]
    assert len(blocks(user(TEXT, pdf()))) == 2


def test_a_document_in_a_result_is_a_part_of_the_result_for_converse() -> None:
    calls = {"role": "assistant", "tool_calls": [CALL]}
    made = blocks(user(TEXT), calls, {"role": "tool", "tool_call_id": "a", "content": [pdf()]})
    content = made[-1]["toolResult"]["content"]
    assert [next(iter(block)) for block in content] == ["document", "text"]


def test_a_document_reaches_gemini_with_its_name_in_words() -> None:
    [[text, name, data]] = parts(user(TEXT, pdf()))
    assert (text, name) == ({"text": "What is in it?"}, {"text": "File: a.pdf"})
    assert data == {"inlineData": {"mimeType": "application/pdf", "data": base64.urlsafe_b64encode(PDF).decode()}}
    [[data]] = parts(user(file_part(None, "text/csv", b"1,2")))
    assert data["inlineData"]["mimeType"] == "text/plain"


def test_a_document_in_a_result_stands_behind_the_result_for_gemini() -> None:
    calls = {"role": "assistant", "tool_calls": [CALL]}
    made = parts(user(TEXT), calls, {"role": "tool", "tool_call_id": "a", "content": [TEXT, pdf(None)]})
    assert [[next(iter(part)) for part in turn] for turn in made[2:]] == [["functionResponse"], ["text", "inlineData"]]
    assert "parts" not in made[2][0]["functionResponse"]


@pytest.mark.parametrize("kind", ["bedrock", "google", "anthropic", "local"])
def test_a_file_that_a_vendor_does_not_take_is_named(kind: str) -> None:
    for part in (
        {"type": "file", "file": {"file_id": "file-1"}},
        file_part("a.zip", "application/zip", b"PK"),
        {"type": "file", "file": {"filename": "a.png", "file_data": image_url("png")}},
    ):
        assert missing(kind, user(TEXT, part)) == ("messages.0.content",)
    assert missing(kind, user(TEXT), {"role": "assistant", "content": [pdf()]}) == ("messages.1.content",)


def test_what_only_converse_reads_is_missing_for_others() -> None:
    word = user(TEXT, file_part("a.docx", WORD, b"PK"))
    assert [missing(kind, word) for kind in EACH] == [(), *[("messages.0.content",)] * 3]
    assert [missing(kind, user(pdf())) for kind in EACH] == [(), (), (), ("messages.0.content",)]


def test_a_document_reaches_anthropic_with_its_name_and_texts_as_texts() -> None:
    made = call(user(TEXT, pdf("é.pdf"), file_part(None, "text/csv", b"1,2")))
    [text, document, table] = to_messages(made)["messages"][0]["content"]
    assert text == {"type": "text", "text": "What is in it?"}
    source = {"type": "base64", "media_type": "application/pdf", "data": PDF}
    assert document == {"type": "document", "source": source, "title": "é.pdf"}
    assert table == {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "1,2"}}


def test_a_document_in_a_result_is_a_part_of_the_result_for_anthropic() -> None:
    calls = {"role": "assistant", "tool_calls": [CALL]}
    made = call(user(TEXT), calls, {"role": "tool", "tool_call_id": "a", "content": [TEXT, pdf()]})
    [result] = to_messages(made)["messages"][-1]["content"]
    assert [block["type"] for block in result["content"]] == ["text", "document"]


@pytest.mark.parametrize(
    ("model", "name", "taken"),
    [
        (SONNET, "a.pdf", True),
        (SONNET, "a.txt", False),
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", "a.pdf", False),
        ("amazon.nova-pro-v1:0", "a.docx", True),
        (LLAMA, "a.pdf", False),
        ("", "a.pdf", False),
    ],
)
def test_a_document_of_more_than_four_and_a_half_megabytes_is_named_where_converse_refuses_it(
    model: str, name: str, taken: bool
) -> None:
    large = file_part(name, "application/octet-stream", bytes(4_800_000))
    assert missing("bedrock", user(TEXT, large), model=model) == (() if taken else ("messages.0.content",))
    small = file_part(name, "application/octet-stream", bytes(4_700_000))
    assert missing("bedrock", user(TEXT, small), model=model) == ()


def test_the_sixth_document_of_a_request_is_named_for_converse_alone() -> None:
    messages = [user(TEXT, *[pdf()] * 5), {"role": "assistant", "content": "Ah."}, user(pdf())]
    assert missing("bedrock", *messages[:2]) == ()
    assert missing("bedrock", *messages) == ("messages.2.content",)
    assert missing("google", *messages) == ()


def test_the_fields_of_a_file_that_nobody_knows_are_named() -> None:
    part = pdf()
    part["file"]["pages"] = [1]
    part["shade"] = "red"
    found = find_unsupported(KINDS["bedrock"].capabilities, {"messages": [user(part)]}, SONNET)
    assert found == Unsupported(dropped=("messages.0.content.0.file.pages", "messages.0.content.0.shade"))


def test_a_mark_behind_a_document_is_kept_where_the_model_takes_one_there() -> None:
    marked = {**pdf(), "cache_control": {"type": "ephemeral"}}
    assert find_unsupported(KINDS["bedrock"].capabilities, {"messages": [user(TEXT, marked)]}, SONNET) == Unsupported()
    assert blocks(user(TEXT, marked))[2:] == [{"cachePoint": {"type": "default"}}]


def test_a_text_in_a_file_counts_as_a_text_and_not_by_pages() -> None:
    assert file_tokens("claude", file_part("a.txt", "text/plain", b"word" * 1000)) == pytest.approx(1000, abs=8)
    assert file_tokens("claude", pdf()) == 2000

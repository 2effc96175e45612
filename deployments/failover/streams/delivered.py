"""What the client of a stream has had of an answer, and whether another model can go on with it. Pure."""

from collections.abc import Iterable

from deployments.openai_api.chat import frames_to_chunks
from deployments.openai_api.json_types import JsonDict
from deployments.providers.openai.stream.content import choices_of, index_of, is_thought, read_keys


def text_of(frames: Iterable[bytes], *, ended: bool = False) -> str | None:
    """Return the text of an answer that is nothing but text and thoughts before it; None for any other.

    None too where the answer has ended, unless `ended`, and where it broke off within one sign: half of it can't be
    taken back.
    """
    parts = list[str]()
    for chunk in frames_to_chunks(b"".join(frames)):
        if "error" in chunk or (part := _text_in(chunk, ended)) is None:
            return None
        parts.append(part)
    text = "".join(parts).encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # halves in two frames are one
    return None if text.endswith("\ufffd") else text


def _text_in(chunk: JsonDict, ended: bool) -> str | None:
    text = ""
    for choice in choices_of(chunk):
        delta = choice.get("delta")
        read = read_keys(delta)
        if index_of(choice) or (choice.get("finish_reason") and not ended) or choice.get("logprobs"):
            return None
        if not all(key == "content" or is_thought(key) for key in read) or not isinstance(delta, dict):
            return None
        if "content" in read:
            if not isinstance(delta["content"], str):
                return None
            text += delta["content"]
    return text

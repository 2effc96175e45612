"""However a server cuts a tool's name, its client gets the whole one, and every other fragment as it was."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from deployments.providers.kinds import PLAIN_NAMES
from deployments.providers.renaming.name_pieces import NamesInStream
from deployments.providers.renaming.tool_names import restorer

ODD = ["files.read", "日本", "x" * 70, "a b"]
CHANGED = {PLAIN_NAMES.name_for(name): name for name in ODD}
VALID = ["t", "t_", "look_up", "t_files_read"]
OWN = {**CHANGED, **{name: name for name in VALID}}


def chunk(choice: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
    choices = [{"index": choice, "delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps({"id": "c", "choices": choices}).encode() + b"\n\n"


def cut(draw: Any, text: str) -> list[str]:
    at = sorted(draw(st.sets(st.integers(1, len(text) - 1), max_size=4))) if len(text) > 1 else []
    return [text[a:b] for a, b in zip([0, *at], [*at, len(text)], strict=True)]


@st.composite
def streams(draw: Any) -> tuple[list[bytes], dict[tuple[int, int], dict[str, str]]]:
    """Frames of calls of some choices, and each call as its client should have it."""
    frames, wanted = list[bytes](), dict[tuple[int, int], dict[str, str]]()
    for choice in range(draw(st.integers(1, 2))):
        for index in range(draw(st.integers(0, 3))):
            sent, arguments = draw(st.sampled_from(sorted(OWN))), draw(st.sampled_from(["", "{}", '{"name":"t_"}']))
            wanted[choice, index] = {"id": f"{choice}{index}", "name": OWN[sent], "arguments": arguments}
            first, *rest = cut(draw, sent)
            head = {"index": index, "id": f"{choice}{index}", "function": {"name": first, "arguments": ""}}
            frames.append(chunk(choice, {"role": "assistant", "tool_calls": [head]}))
            frames += [chunk(choice, {"tool_calls": [{"index": index, "function": {"name": p}}]}) for p in rest]
            pieces = cut(draw, arguments) if arguments else []
            frames += [chunk(choice, {"tool_calls": [{"index": index, "function": {"arguments": p}}]}) for p in pieces]
        frames.append(chunk(choice, {}, "tool_calls"))
    return frames, wanted


@given(made=streams(), data=st.data())
def test_every_call_is_the_clients_own_however_its_name_is_cut(made: Any, data: Any) -> None:
    frames, wanted = made
    names, got, ended = NamesInStream(CHANGED, restorer(CHANGED)), dict[tuple[int, int], dict[str, str]](), set[int]()
    middle = data.draw(st.integers(0, len(frames)))
    batches = [b"".join(frames[:middle]), b"".join(frames[middle:])]
    out = b"".join(map(names.restored, frames if data.draw(st.booleans()) else batches)) + names.rest()
    for event in out.split(b"\n\n")[:-1]:
        for choice in json.loads(event.removeprefix(b"data: "))["choices"]:
            for call in choice["delta"].get("tool_calls", ()):
                assert choice["index"] not in ended
                known = got.setdefault((choice["index"], call["index"]), {"name": "", "arguments": ""})
                assert known["name"] or call["function"]["name"], "a client wants the name first"
                known |= {"id": call["id"]} if "id" in call else {}
                for key, text in call["function"].items():
                    known[key] += text
            if choice["finish_reason"]:
                ended.add(choice["index"])
    assert got == wanted

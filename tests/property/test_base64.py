"""Any bytes as base64, in each way that clients are known to write it."""

import base64
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from deployments.openai_api.images import data_of, type_of
from tests.images import SAMPLES


@st.composite
def written(draw: st.DrawFn, data: bytes) -> str:
    """Base64 in either alphabet, with its padding or without, in lines of any length, percent-encoded or not."""
    text = draw(st.sampled_from([base64.b64encode, base64.urlsafe_b64encode]))(data).decode()
    if draw(st.booleans()):
        text = text.rstrip("=")
    if length := draw(st.sampled_from([0, 1, 64, 76])):
        end = draw(st.sampled_from(["\n", "\r\n", " "]))
        text = end.join(text[at : at + length] for at in range(0, len(text), length)) + end
    return quote(text, safe="") if draw(st.booleans()) else text


@given(st.data(), st.binary(min_size=1, max_size=300), st.sampled_from(["image/png", "IMAGE/JPG;charset=utf-8", ""]))
def test_any_bytes_come_back_however_they_are_written(drawn: st.DataObject, data: bytes, said: str) -> None:
    assert data_of(f"data:{said};base64,{drawn.draw(written(data))}") == data


@given(st.data(), st.sampled_from(sorted(SAMPLES)))
def test_an_image_is_known_however_it_is_written(drawn: st.DataObject, subtype: str) -> None:
    text = base64.b64encode(SAMPLES[subtype]).decode()
    line = drawn.draw(st.sampled_from([64, 76, 1000]))
    text = "\n".join(text[at : at + line] for at in range(0, len(text), line))
    text = drawn.draw(st.sampled_from([text, text.rstrip("="), text.replace("+", "-").replace("/", "_")]))
    assert type_of(f"data:image/png;base64,{text}") == subtype

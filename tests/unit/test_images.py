"""What an image in a data URL really is, and its bytes as clients write them."""

import base64

import pytest

from deployments.openai_api.images import data_of, sniff, type_of
from tests.images import SAMPLES

JPEG = base64.b64encode(SAMPLES["jpeg"]).decode()


@pytest.mark.parametrize("subtype", SAMPLES)
def test_the_bytes_say_what_an_image_is_whatever_its_url_says(subtype: str) -> None:
    data = base64.b64encode(SAMPLES[subtype]).decode()
    assert sniff(SAMPLES[subtype]) == subtype
    for said in ("image/png", "image/jpeg", "application/octet-stream", ""):
        assert type_of(f"data:{said};base64,{data}") == subtype


@pytest.mark.parametrize(
    ("url", "subtype"),
    [
        ("data:image/jpg;base64,cGl4ZWxz", "jpeg"),
        ("data:IMAGE/JPEG;charset=utf-8;base64,cGl4ZWxz", "jpeg"),
        ("data:image/x-png;base64,cGl4ZWxz", "png"),
        ("data:image/svg+xml;base64,", "svg+xml"),
        ("data:text/plain;base64,cGl4ZWxz", None),
        ("data:;base64,cGl4ZWxz", None),
        ("data:image/png,pixels", None),
        ("https://example.com/a.png", None),
        ("", None),
    ],
)
def test_where_the_bytes_say_nothing_the_url_is_believed(url: str, subtype: str | None) -> None:
    assert type_of(url) == subtype


@pytest.mark.parametrize("text", ["QUJD QUJD", "BMfl", "a plain text that begins with BM", "ftyp"])
def test_a_text_is_no_image_because_it_begins_like_one(text: str) -> None:
    assert sniff(text.encode()) is None


@pytest.mark.parametrize(
    "wrong", ["", "?", "a", "cGl4ZWxz=cGl4", "=cGl4", "cGl4ZWx☃", "%zz", "cGl4ZWxz" * 3 + "!"], ids=ascii
)
def test_what_is_not_base64_is_an_error(wrong: str) -> None:
    with pytest.raises(ValueError, match="base64"):
        data_of(f"data:image/png;base64,{wrong}")


def test_a_url_that_holds_no_data_is_an_error() -> None:
    for url in ("https://example.com/a.png", "data:image/png,abc", ""):
        with pytest.raises(ValueError, match="data URL"):
            data_of(url)


def test_a_percent_sign_is_read_as_a_url_has_it() -> None:
    written = JPEG.replace("/", "%2F").replace("+", "%2b").replace("=", "%3D")
    assert data_of(f"data:image/jpeg;base64,{written}") == SAMPLES["jpeg"]

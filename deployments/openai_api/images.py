"""Images and documents in messages: data URLs as clients write them, and what their bytes really are. Pure.

Clients guess the type of an image by the name of its file, and vendors refuse an image whose bytes are not what its
type says (NousResearch/hermes-agent#70224). So the first bytes decide; the type that the URL names counts only where
they say nothing. It is on the hot path: the finder of unsupported fields decodes a few bytes of an image or a
document, never all.
"""

import binascii
import re
from urllib.parse import unquote

from deployments.openai_api.json_types import JsonObject

# Few and short parameters only: the regex engine keeps over a hundred bytes for each.
_DATA_URL = re.compile(
    r"data:([a-z0-9.+-]{0,64}/[a-z0-9.+-]{0,64})?(?:;[^;,]{0,128}){0,8};\s{0,8}base64\s{0,8},\s{0,64}", re.IGNORECASE
)
_ALIASES = {"jpg": "jpeg", "pjpeg": "jpeg", "x-png": "png", "x-ms-bmp": "bmp"}
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"\0\0\1\0", "x-icon"),
    (b"8BPS\0\1", "vnd.adobe.photoshop"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
    (b"\xff\x0a", "jxl"),
    (b"%PDF-", "pdf"),
    (b"<svg", "svg+xml"),
    (b"<?xml", "svg+xml"),
)
# The brands of ISO/IEC 23008-12 and of AV1's image format. A file names its own first, then those it is also of.
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "heic"),
    **dict.fromkeys((b"avif", b"avis"), "avif"),
    **dict.fromkeys((b"mif1", b"msf1"), "heif"),
}
HEAD = 48  # bytes of a file that tell its type
# The formats of documents, as vendors call them, by their media types and by the endings of their names.
_FORMATS = {
    "application/pdf": "pdf",
    "application/x-pdf": "pdf",
    "application/msword": "doc",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/xhtml+xml": "html",
    "text/html": "html",
    "text/csv": "csv",
    "text/markdown": "md",
    "text/x-markdown": "md",
    "text/md": "md",
}
# Text by another name: a model reads it as it is.
_TEXT_TYPES = frozenset({f"application/{name}" for name in ("json", "xml", "yaml", "x-yaml", "toml", "javascript")})
_ENDINGS = {"htm": "html", "markdown": "md", "text": "txt"} | {
    ending: ending for ending in ("pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md")
}
TEXT_FORMATS = frozenset({"csv", "html", "txt", "md"})
_SAYS_LITTLE = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/zip"})
_URL_SAFE = str.maketrans("-_", "+/", " \t\r\n\f\v")


def url_of(part: JsonObject) -> str:
    """Return the URL of an image part; empty if it has none."""
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    return url if isinstance(url, str) else ""


def type_of(url: str) -> str | None:
    """Return the media subtype of the image in a data URL (`png`, `jpeg`); None if it can't be an image."""
    found = _DATA_URL.match(url)
    if found is None:
        return None
    return sniff(_head(url, found.end())) or _named(found)


def file_url_of(part: JsonObject) -> str:
    """Return the data URL of a `file` part; empty if it has none, as one that is named by an id."""
    file = part.get("file")
    url = file.get("file_data") if isinstance(file, dict) else None
    return url if isinstance(url, str) else ""


def file_name_of(part: JsonObject) -> str:
    """Return the name of a `file` part; empty if it has none."""
    file = part.get("file")
    name = file.get("filename") if isinstance(file, dict) else None
    return name if isinstance(name, str) else ""


def format_of(part: JsonObject) -> str | None:
    """Return the format of the document in a `file` part (`pdf`, `txt`); None if it is no document that can be read.

    Its first bytes decide, then its media type. The ending of its name says more than `text/plain` and than no type.
    """
    found = _DATA_URL.match(url := file_url_of(part))
    if found is None:
        return None
    told = (found.group(1) or "").lower()
    sniffed = sniff(_head(url, found.end()))
    if sniffed not in (None, "svg+xml"):  # what begins like SVG may be any XML
        return "pdf" if sniffed == "pdf" else None
    ending = _ENDINGS.get(file_name_of(part).rpartition(".")[2].lower())
    if told in _SAYS_LITTLE:
        return ending
    if told == "text/plain" and ending in TEXT_FORMATS:
        return ending
    return _FORMATS.get(told) or ("txt" if told.startswith("text/") or told in _TEXT_TYPES else None)


def data_of(url: str) -> bytes:
    """Return the bytes of a data URL. Raises ValueError if there are none, or if they are not base64.

    Base64 may be of either alphabet, without its padding, in lines, or percent-encoded as a URL may have it (RFC 2397).
    """
    found = _DATA_URL.match(url)
    try:
        data = _decode(url[found.end() :]) if found else b""
    except ValueError:
        data = b""
    if not data:
        raise ValueError("not a data URL with base64")
    return data


def sniff(head: bytes) -> str | None:
    """Return the media subtype that the first bytes of a file tell; None if they tell none."""
    for start, subtype in _MAGIC:
        if head.startswith(start):
            return subtype
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:2] == b"BM" and head[6:10] == bytes(4):  # two letters alone would be found in plain text too
        return "bmp"
    return _brand(head) if head[4:8] == b"ftyp" else None


def _head(url: str, at: int) -> bytes:
    try:
        return _decode(url[at : at + 2 * HEAD], whole=False)
    except ValueError:
        return b""


def _brand(head: bytes) -> str | None:
    size = int.from_bytes(head[:4], "big")
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head)), 4))]
    names = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
    # `mif1` only says that it is some image of this family.
    return next((name for name in names if name != "heif"), names[0] if names else None)


def _named(found: re.Match[str]) -> str | None:
    kind, _, subtype = (found.group(1) or "").lower().partition("/")
    return _ALIASES.get(subtype, subtype) or None if kind == "image" else None


def _decode(text: str, *, whole: bool = True) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # text that is not ASCII too
        pass
    if "%" in text:
        text = unquote(text)
    text = text.translate(_URL_SAFE).rstrip("=")
    text = text + "=" * (-len(text) % 4) if whole else text[: len(text) // 4 * 4]
    return binascii.a2b_base64(text, strict_mode=True)

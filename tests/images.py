"""The first bytes of a file of each type, as their formats demand them."""

from collections.abc import Mapping


def _iso(brand: bytes, *others: bytes) -> bytes:
    brands = b"".join(others)
    return (16 + len(brands)).to_bytes(4, "big") + b"ftyp" + brand + bytes(4) + brands + bytes(40)


SAMPLES: Mapping[str, bytes] = {
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(40),
    "jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF\0\xfb\xff\xfe" + bytes(40),
    "gif": b"GIF89a\1\0\1\0" + bytes(40),
    "webp": b"RIFF\x24\0\0\0WEBPVP8 " + bytes(40),
    "heic": _iso(b"mif1", b"mif1", b"heic"),
    "heif": _iso(b"msf1", b"msf1"),
    "avif": _iso(b"avif", b"mif1", b"miaf"),
    "bmp": b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0" + bytes(40),
    "tiff": b"II*\0\x08\0\0\0" + bytes(40),
    "x-icon": b"\0\0\1\0\1\0\x10\x10" + bytes(40),
    "jxl": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40),
    "svg+xml": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "pdf": b"%PDF-1.7\n" + bytes(40),
}

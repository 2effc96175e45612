"""The page: one document made of the files in web/, and what it may do. Pure.

It is one document, because a replica of another version may serve the next request: the parts of a page that came one
by one might not fit each other. A script and a style are allowed by their hashes, so nothing else can run in it.
"""

import base64
import hashlib
import pathlib
import re
from collections.abc import Mapping

_WEB = pathlib.Path(__file__).with_name("web")
SCRIPTS = (
    *("dom.js", "keys.js", "charts.js", "pages.js", "status.js", "overview.js", "usage.js", "requests.js", "try.js"),
    *("providers.js", "line.js"),
)  # in the order in which they run; all share one scope
FIRST = b'<script type="application/json" id="first"></script>'


def build_page() -> bytes:
    """Return the document."""
    script = b"".join((_WEB / name).read_bytes() for name in SCRIPTS)
    style, page = (_WEB / "style.css").read_bytes(), (_WEB / "page.html").read_bytes()
    page = page.replace(b"<style></style>", b"<style>" + style + b"</style>")
    return page.replace(b"<script></script>", b"<script>" + script + b"</script>")


def page_headers(page: bytes) -> Mapping[str, str]:
    """Return the response headers of the page, with the hashes of its inline scripts and styles."""

    def hashes(tag: bytes) -> str:
        inline = re.findall(b"<%b>(.*?)</%b>" % (tag, tag), page, re.DOTALL)
        return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" for text in inline)

    policy = {
        "default-src": "'none'",
        "script-src": hashes(b"script"),
        "style-src": hashes(b"style"),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
    }
    return {
        "content-security-policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",  # for browsers that do not know frame-ancestors
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        "cache-control": "no-cache",
    }


PAGE = build_page()
HEADERS = page_headers(PAGE)


def with_first(data: bytes) -> bytes:
    """Return the page with what it shows first, as JSON in an element that nothing in it can end."""
    return PAGE.replace(FIRST, FIRST.replace(b"><", b">" + data.replace(b"<", b"\\u003c") + b"<"))

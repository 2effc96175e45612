"""A server of somebody else's page, which a user of the same browser has opened."""

import http.server
import threading
from typing import Any

HTML = b"<!doctype html><title>other</title><body>"


class OtherPage:
    """Serves one empty page, to which a test adds what it tries."""

    def __init__(self) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.send_header("content-length", str(len(HTML)))
                self.end_headers()
                self.wfile.write(HTML)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

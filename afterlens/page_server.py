"""Serves the page of web/ and the bundles that it shows, to this computer's browser.

    server, address, names = open_server([Path("build/udc")], "127.0.0.1", 8765)

Every address that is answered is known before the first request: the page's files, and what model.json of each bundle
names. So no request can lead elsewhere. Bundles are untrusted: links in them are refused, here and when they are read.
"""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import stat
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from afterlens.conversion.bundle.contract import CONTRACT_FILE, read_bundle
from afterlens.training.media.errors import UserError

PAGE = Path(__file__).with_name("page")
"""Built by `make web` from web/, and part of the wheel."""

Files = dict[str, tuple[Path, str] | bytes]
"""What is served by its address: a file below a folder, or bytes."""

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
}

# Threads of WebAssembly need the first two; the third lets the page, and whatever a bundle might do to it, talk to
# nobody else. WebAssembly's glue makes functions from text.
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-eval'; img-src 'self' blob: data:; "
    "media-src blob:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def open_server(
    bundles: Sequence[Path], host: str, port: int, page: Path = PAGE
) -> tuple[PageServer, str, list[str]]:
    """A server that listens, its address for people, and the names of the bundles.

    Raises UserError for a page that is not built, a folder that is no bundle, and an address that cannot be had.
    """
    if not (page / "index.html").is_file():
        raise UserError(
            f"the page is not built ({page}); run `make web` in the repository (it needs Node 20 and npm)"
        )
    built = (path.relative_to(page).as_posix() for path in page.rglob("*") if path.is_file())
    files: Files = {f"/{name}": (page, name) for name in built}
    files["/"] = files.pop("/index.html")
    names = []
    for number, folder in enumerate(bundles):
        contract = read_bundle(folder).contract
        wanted = [artifact.file for artifact in contract.artifacts if artifact.format == "tflite"]
        if not wanted:
            raise UserError(f"{folder}: no TFLite file in this bundle, and browsers run nothing else")
        for name in (CONTRACT_FILE, *wanted, *(golden.file for golden in contract.golden)):
            files[f"/bundles/{number}/{name}"] = folder, name
        names.append(folder.resolve().name)
    files["/bundles.json"] = json.dumps(names).encode()
    try:
        server = PageServer((host, port), files)
    except OSError as error:
        reason = "is taken, choose another --port" if error.errno == errno.EADDRINUSE else error.strerror
        raise UserError(f"{host}:{port}: {reason}") from None
    shown = "localhost" if _is_loopback(host) else host
    return server, f"http://{shown}:{server.server_address[1]}/", names


class PageServer(ThreadingHTTPServer):
    """Answers with these files, and nothing else."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], files: Files) -> None:
        self.files = files
        self.only_local = _is_loopback(address[0])
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle of an answer is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are no news."""

    def _answer(self, *, with_body: bool) -> None:
        # A stranger's page may have its own name point here (DNS rebinding): then the browser sends that name.
        host = self.headers.get("Host", "").rsplit(":", 1)[0].strip("[]")
        if self.server.only_local and not _is_loopback(host):
            return self._send(HTTPStatus.FORBIDDEN, b"this address is not served\n", ".txt", with_body)
        path = self.path.partition("?")[0]
        found = self.server.files.get(path)
        data = _read(*found) if isinstance(found, tuple) else found
        if data is None:
            return self._send(HTTPStatus.NOT_FOUND, b"not here\n", ".txt", with_body)
        suffix = ".html" if path == "/" else Path(path).suffix
        return self._send(HTTPStatus.OK, data, suffix, with_body)

    def _send(self, status: HTTPStatus, data: bytes, suffix: str, with_body: bool) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", TYPES.get(suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if with_body:
            self.wfile.write(data)


def _read(folder: Path, name: str) -> bytes | None:
    """The bytes of a file below a folder; None where it is none, and where it or a folder on the way is a link."""
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in name.split("/"):
            # O_NONBLOCK: the open of a pipe would wait for its writer.
            below = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place)
            os.close(place)
            place = below
        if not stat.S_ISREG(os.fstat(place).st_mode):
            return None
        with os.fdopen(place, "rb", closefd=False) as file:
            return file.read()
    except OSError:
        return None
    finally:
        os.close(place)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""What `afterlens live` answers, and what it does not."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from afterlens import page_server
from afterlens.page_server import open_server
from afterlens.training.media.errors import UserError
from tests.web import site

VALID = site.ROOT / "tests" / "vectors" / "contracts" / "valid"


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A built page, as far as the server is concerned."""
    folder = tmp_path / "page"
    (folder / "litert").mkdir(parents=True)
    (folder / "index.html").write_text("<title>page</title>")
    (folder / "litert" / "runtime.wasm").write_bytes(b"\0asm")
    monkeypatch.setattr(site, "PAGE", folder)
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """With a neighbour that must not be served, in the folder and above it."""
    folder = tmp_path / "photo"
    shutil.copytree(VALID / "photo", folder)
    (folder / "secret.txt").write_text("secret")
    (tmp_path / "secret.txt").write_text("secret")
    return folder


@pytest.fixture
def address(page: Path, bundle: Path) -> Iterator[str]:
    with site.served([bundle]) as address:
        yield address


def get(address: str, path: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
    """Status, headers and body; the path is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(address).port, timeout=20)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, answer.headers, data


def test_the_page_and_the_bundle_are_served(address: str, bundle: Path) -> None:
    status, headers, data = get(address, "/")
    assert (status, data) == (200, b"<title>page</title>")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert get(address, "/litert/runtime.wasm")[1]["Content-Type"] == "application/wasm"
    assert json.loads(get(address, "/bundles.json")[2]) == ["photo"]
    for name in ("model.json", "photo_4x2_float16.tflite", "golden/4x2_input_image.png"):
        status, _, data = get(address, f"/bundles/0/{name}")
        assert (status, data) == (200, (bundle / name).read_bytes()), name


def test_every_answer_isolates_the_page_and_keeps_it_from_other_servers(address: str) -> None:
    for path in ("/", "/bundles.json", "/nothing"):
        headers = get(address, path)[1]
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/bundles/0/../../secret.txt",
        "/bundles/0/..%2f..%2fsecret.txt",
        "/bundles/0//etc/passwd",
        "//etc/passwd",
        "/bundles/0/secret.txt",
        "/bundles/0/golden/",
        "/bundles/0/photo_4x2_float16.mlpackage/Data/weights.bin",
        "/bundles/1/model.json",
        "/index.html/",
        "/bundles/0/model.json%00",
    ],
)
def test_nothing_else_is_served(address: str, path: str) -> None:
    status, _, data = get(address, path)
    assert (status, data) == (404, b"not here\n")


def test_a_file_that_becomes_a_link_or_a_pipe_is_served_no_more(address: str, bundle: Path) -> None:
    model = bundle / "photo_4x2_float16.tflite"
    model.unlink()
    model.symlink_to(bundle.parent / "secret.txt")
    assert get(address, f"/bundles/0/{model.name}")[0] == 404
    model.unlink()
    os.mkfifo(model)
    assert get(address, f"/bundles/0/{model.name}")[0] == 404
    golden = bundle / "golden"
    golden.rename(bundle.parent / "elsewhere")
    golden.symlink_to(bundle.parent / "elsewhere")
    assert get(address, "/bundles/0/golden/4x2_input_image.png")[0] == 404


def test_a_stranger_s_name_for_this_computer_is_refused(address: str) -> None:
    port = urlsplit(address).port
    for name in ("evil.example", f"evil.example:{port}", "localhost.evil.example", ""):
        assert get(address, "/bundles.json", Host=name)[0] == 403, name
    for name in (f"localhost:{port}", f"127.0.0.1:{port}", "localhost"):
        assert get(address, "/bundles.json", Host=name)[0] == 200, name


def test_only_reading_is_allowed(address: str) -> None:
    status, headers, data = get(address, "/", "HEAD")
    assert (status, headers["Content-Length"], data) == (200, "19", b"")
    for method in ("POST", "PUT", "DELETE"):
        assert get(address, "/", method)[0] == 501


def test_it_listens_on_loopback_alone(page: Path, bundle: Path) -> None:
    server, address, names = open_server([bundle], "127.0.0.1", 0, page=page)
    with server:
        assert server.server_address[0] == "127.0.0.1"
        assert address == f"http://localhost:{server.server_address[1]}/"
        assert names == ["photo"]


def test_what_cannot_be_served_is_said_in_a_line(page: Path, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the page is not built .* run `make web`"):
        open_server([bundle], "127.0.0.1", 0, page=tmp_path / "nowhere")
    with pytest.raises(UserError, match="no model.json here"):
        open_server([tmp_path], "127.0.0.1", 0, page=page)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"127.0.0.1:{port}: is taken, choose another --port"):
            open_server([bundle], "127.0.0.1", port, page=page)
    contract = json.loads((bundle / "model.json").read_text())
    contract["artifacts"] = [one for one in contract["artifacts"] if one["format"] == "coreml"]
    (bundle / "model.json").write_text(json.dumps(contract))
    with pytest.raises(UserError, match="no TFLite file in this bundle"):
        open_server([bundle], "127.0.0.1", 0, page=page)


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_the_command_prints_the_address_and_serves_until_ctrl_c(
    cli: Any, page: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, form: list[str]
) -> None:
    monkeypatch.setattr(page_server, "open_server", partial(open_server, page=page))

    def interrupted(server: page_server.PageServer) -> None:
        assert server.socket.fileno() >= 0
        raise KeyboardInterrupt

    monkeypatch.setattr(page_server.PageServer, "serve_forever", interrupted)
    result = cli("live", bundle, "--port", "0", *form)
    assert result.code == 130
    if form:
        document = json.loads(result.stdout)
        assert document["bundles"] == ["photo"]
        assert document["address"].startswith("http://localhost:")
    else:
        assert "http://localhost:" in result.stdout


def test_the_command_says_that_the_page_is_not_built(
    cli: Any, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_server, "open_server", partial(open_server, page=tmp_path / "nowhere"))
    result = cli("live", bundle)
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: the page is not built")
    assert len(result.stderr.splitlines()) == 1

"""The page as the tests build it, served, and opened in Chromium by browse.mjs."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afterlens.page_server import open_server
from tests.web.requirements import chromium

ROOT = Path(__file__).parents[2]
WEB = ROOT / "web"
PAGE = ROOT / "build" / "web" / "page"


def npm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["npm", *arguments], cwd=WEB, capture_output=True, text=True, check=False)


@contextmanager
def served(bundles: Sequence[Path], *, only_local: bool = True) -> Iterator[str]:
    """Its address, while it is served from a thread."""
    server, address, _ = open_server(bundles, "127.0.0.1", 0, page=PAGE)
    server.only_local = only_local
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    with server:
        thread.start()
        try:
            yield address
        finally:
            server.shutdown()
            thread.join()


def browse(scenario: str, **request: Any) -> dict[str, Any]:
    """What a scenario of browse.mjs found. Nothing of it may have asked for another server, or thrown."""
    document = json.dumps({"chromium": chromium(), **request}, default=str)
    command = ["node", str(Path(__file__).with_name("browse.mjs")), scenario, document]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["seen"] == {"outside": [], "errors": []}, found["seen"]
    return found


def write_camera(path: Path, frames: Sequence[NDArray[np.uint8]], rate: int) -> Path:
    """Frames of (H, W, 3) RGB as a Y4M file, which Chromium plays in the place of a camera, over and over."""
    height, width, _ = frames[0].shape
    luma = np.array([65.481, 128.553, 24.966]) / 255
    chroma = np.array([[-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F{rate}:1 Ip A1:1 C420jpeg\n".encode())
        for frame in frames:
            file.write(b"FRAME\n" + np.rint(16 + frame @ luma).astype(np.uint8).tobytes())
            for row in chroma:
                plane = (frame @ row).reshape(height // 2, 2, width // 2, 2).mean((1, 3))
                file.write(np.rint(128 + plane).astype(np.uint8).tobytes())
    return path

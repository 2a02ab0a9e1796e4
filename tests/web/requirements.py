"""What the tests of the page need of this machine, and the Debian package of each that is missing."""

from __future__ import annotations

import re
import shutil
import subprocess


def missing() -> list[str]:
    """Packages without which the page can be neither built nor opened."""
    found = [] if chromium() else ["chromium"]
    if _node() < (20, 19):
        found.append("nodejs")
    if shutil.which("npm") is None:
        found.append("npm")
    return found


def chromium() -> str | None:
    """Where it is."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def _node() -> tuple[int, int]:
    """Its version; (0, 0) where there is none."""
    if shutil.which("node") is None:
        return 0, 0
    text = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"v(\d+)\.(\d+)", text)
    return (0, 0) if version is None else (int(version[1]), int(version[2]))


if __name__ == "__main__":
    # What .ci/run installs. Debian's own Node is older than Vite wants, so it is not asked for.
    print(*(["chromium"] if chromium() is None else []))

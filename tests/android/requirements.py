"""What the tests of the Android parts need of this machine, and the Debian package of each that is missing."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path


def missing_for_core() -> list[str]:
    """Packages without which nothing is built: a JDK and Maven."""
    found = [] if shutil.which("mvn") else ["maven"]
    return found if _jdk() >= 17 else [*found, "openjdk-17-jdk-headless"]


def missing_for_lens() -> list[str]:
    """Packages without which the runtime and the renderer cannot run: a compiler, EGL, OpenGL ES and OpenCL with drivers."""
    needed: dict[str, Callable[[], bool]] = {
        "gcc": lambda: shutil.which("gcc") is not None,
        "libc6-dev": Path("/usr/include/stdio.h").exists,
        "binutils": lambda: shutil.which("nm") is not None,
        "libegl-dev": Path("/usr/include/EGL/egl.h").exists,
        "libgles-dev": Path("/usr/include/GLES3/gl32.h").exists,
        "libegl-mesa0": lambda: _there("/usr/share/glvnd/egl_vendor.d", "*mesa*.json"),
        "libgl1-mesa-dri": lambda: (
            _there("/usr/lib", "*/dri/swrast_dri.so") or _there("/usr/lib", "*/libgallium*.so")
        ),
        "ocl-icd-libopencl1": lambda: _there("/usr/lib", "*/libOpenCL.so.1"),
        "pocl-opencl-icd": Path("/etc/OpenCL/vendors/pocl.icd").exists,
    }
    return missing_for_core() + [package for package, there in needed.items() if not there()]


def missing_for_apk() -> list[str]:
    """Packages without which the APK cannot be signed and checked."""
    return [package for package in ("apksigner", "zipalign") if shutil.which(package) is None]


def missing_for_phones() -> list[str]:
    """Packages without which the benchmark on phones is tested with a stand-in for adb alone."""
    return [] if shutil.which("adb") else ["adb"]


def other_machine() -> str | None:
    """Android's libraries are there for x86-64 only: what this is instead, None where it is that."""
    machine = platform.machine()
    return None if machine == "x86_64" else f"Android's runtime is there for x86_64, this is {machine}"


def _there(folder: str, pattern: str) -> bool:
    return next(Path(folder).glob(pattern), None) is not None


def _jdk() -> int:
    """Its version; 0 where there is none."""
    if shutil.which("javac") is None:
        return 0
    text = subprocess.run(["javac", "-version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"javac (\d+)", text)
    return 0 if version is None else int(version[1])


if __name__ == "__main__":
    # What .ci/run installs.
    print(*missing_for_lens(), *missing_for_apk(), *missing_for_phones())

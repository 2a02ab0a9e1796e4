"""Which machine this is, and how busy.

device()   # {"name": "x86_64 host", "os": "Linux 6.8", "cpu": "AMD EPYC 9654", "cores": 8, "memory_bytes": ...}
"""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil


def device() -> dict[str, Any]:
    """The `device` of a benchmark document: processor, cores that we may use, memory, operating system."""
    return {
        "name": f"{platform.machine()} host",
        "os": f"{platform.system()} {platform.release()}",
        "cpu": _cpu(),
        "cores": _cores(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def load() -> float:
    """How many processes wanted to run, on average over the last minute."""
    return round(os.getloadavg()[0], 2)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    elif platform.system() == "Darwin":
        name = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"],
            capture_output=True,
            text=True,
            check=False,
        )
        if name.stdout.strip():
            return name.stdout.strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)

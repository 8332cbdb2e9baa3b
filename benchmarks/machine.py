"What a benchmark says of where and when it was run"

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any


def about(*packages: str) -> dict[str, Any]:
    "Machine, its load, versions of Python and these packages, commit, date"
    cpu = "unknown"
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((x.split(":")[1].strip() for x in lines if "model name" in x), cpu)
    here = Path(__file__).parent
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True
    )
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load": [round(x, 1) for x in os.getloadavg()],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "commit": commit.stdout.strip(),
        "date": time.strftime("%Y-%m-%d"),
    }

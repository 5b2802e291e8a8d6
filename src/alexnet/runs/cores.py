"""Cores and memory of this machine that are free: for the threads of a run, and the jobs of a sweep."""

import os
from pathlib import Path

import joblib
import psutil

from alexnet.runs.lock import running

GROUP = Path("/sys/fs/cgroup")  # of a container on Linux
WATCHED = 0.5  # seconds that the processors are watched for


def cores() -> int:
    """That this process may use: all physical ones, unless an affinity or a container says otherwise."""
    return int(joblib.cpu_count(only_physical_cores=True))


def threads_of_one() -> int:
    """That a run may have at most: OMP_NUM_THREADS, which torch follows too, or one for each core."""
    setting = os.environ.get("OMP_NUM_THREADS", "")
    return int(setting) if setting.isdigit() else cores()


def free_memory() -> float:
    """Bytes that programs may still use, of this machine or of the container."""
    free = float(psutil.virtual_memory().available)
    try:
        limit, used = ((GROUP / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        return free if limit == "max" else min(free, int(limit) - int(used))
    except (OSError, ValueError):
        return free


def taken(output_dir: Path) -> int:
    """How many cores others compute on: runs that are being trained there, or else any program."""
    others = [owner for owner in running(output_dir) if owner.is_here and owner.pid != os.getpid()]
    busy: int = round(psutil.cpu_percent(WATCHED) / 100 * (os.cpu_count() or 1))
    return max(busy, sum(owner.threads or 1 for owner in others))

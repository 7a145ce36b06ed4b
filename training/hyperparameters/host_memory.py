"""Free memory of the machine, within the limits of its control groups. No torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

UNKNOWN_FREE_SHARE = 0.5
"""Share of the machine's memory that counts as free where the system does not report it."""


def measure_free_host_bytes(root: Path = Path("/")) -> int:
    """Return the bytes that this process can still take before the system swaps or kills it.

    ``root`` is the directory of ``proc`` and ``sys``. A control group (cgroups(7), versions 1 and
    2) limits the sum of its processes.
    """
    try:
        meminfo = (root / "proc/meminfo").read_text()
    except OSError:
        return round(UNKNOWN_FREE_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    fields = dict(line.split(":", 1) for line in meminfo.strip().split("\n"))
    free = 1024 * int(fields["MemAvailable"].split()[0])
    return max(0, min([free, *_iter_free_group_bytes(root)]))


def _iter_free_group_bytes(root: Path) -> Iterator[int]:
    """Yield the free bytes of the process's group and of each group above it that has a limit."""
    for group in _iter_groups(root):
        for limit_name, usage_name in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, usage = _read(group / limit_name), _read(group / usage_name)
            if limit.isdigit() and usage.isdigit():
                # The kernel drops cached file pages before it kills a process.
                stat = dict(line.split() for line in _read(group / "memory.stat").split("\n") if line)
                cached = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
                yield int(limit) - int(usage) + cached


def _iter_groups(root: Path) -> Iterator[Path]:
    for line in filter(None, _read(root / "proc/self/cgroup").split("\n")):
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup" / ("memory" if controllers else "")
            # In a container the path may be the host's, and the container's group is the root.
            for ancestor in (PurePosixPath(path), *PurePosixPath(path).parents):
                yield mount / ancestor.relative_to("/")


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""

"""How much memory a process took, for tests that start one."""

from pathlib import Path


def peak_bytes() -> int:
    """The largest resident size of this process.  ru_maxrss would also count the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

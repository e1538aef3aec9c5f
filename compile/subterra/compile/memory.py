"""Keep freed memory in the process: a training step allocates the same tensors again and again."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Parameters of mallopt(3), glibc."""
KEEP = (1 << 31) - 1
PAD = 1 << 28
MMAP = 1 << 30


def keep_freed_memory() -> None:
    """Tell glibc not to return large blocks to the kernel.

    Otherwise each tensor of some MiB is mapped, page-faulted and unmapped on every use. No effect
    where the C library has no mallopt.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MMAP)
        mallopt(M_TRIM_THRESHOLD, KEEP)
        mallopt(M_TOP_PAD, PAD)

"""The system-call filter: a hand-assembled classic BPF program on every thread.

Refused calls fail with EPERM, so that a library which tries one meets an ordinary error. Landlock
does not govern UDP, path sockets, netlink, vsock, io_uring, extended attributes, file times or
modes, queues or signals; they are closed here. Threads must still start: `clone3` answers ENOSYS
(its flags are in memory, out of a filter's sight), the C library falls back to `clone`, and
`clone` passes with CLONE_THREAD only.

Two calls stay open in part so that event loops (asyncio, Textual) work whether they start before
or after the lock-down: `socketpair` for AF_UNIX, whose two ends are both in this process, and
`sendto` without an address, which on a descriptor that is already connected does no more than
`write`. Foreign ABIs (i386 through int 0x80, x32) are refused whole, and so is any call newer than
this table.

Goes in: nothing. Comes out: a filter in force on all threads, irrevocably. Does not know
descriptors or paths.

    >>> len(program("x86_64", pid=1)) % 8
    0
"""

import ctypes
import errno
import os
import socket
import struct
from typing import Final

from subterra.runtime import kernel

REFUSED: Final[dict[str, tuple[str, ...]]] = {
    "network": (
        "socket", "connect", "bind", "listen", "accept", "accept4", "sendmsg", "sendmmsg",
        "io_uring_setup", "io_uring_enter", "io_uring_register",
    ),
    "programs": ("execve", "execveat", "fork", "vfork"),
    "other processes": (
        "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease",
        "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "kcmp", "tkill", "rt_sigqueueinfo",
        "rt_tgsigqueueinfo",
    ),
    "queues and shared memory": (
        "shmget", "shmat", "shmctl", "msgget", "msgsnd", "msgrcv", "msgctl", "semget", "semop",
        "semtimedop", "semctl", "mq_open", "mq_unlink", "mq_timedsend", "mq_timedreceive",
        "mq_notify",
    ),
    "file attributes": (
        "setxattr", "lsetxattr", "fsetxattr", "setxattrat", "removexattr", "lremovexattr",
        "fremovexattr", "removexattrat", "utime", "utimes", "futimesat", "utimensat", "chmod",
        "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat", "file_setattr",
    ),
    "namespaces and mounts": (
        "unshare", "setns", "mount", "umount2", "pivot_root", "chroot", "fsopen", "fsconfig",
        "fsmount", "fspick", "move_mount", "open_tree", "open_tree_attr", "mount_setattr",
        "open_by_handle_at", "name_to_handle_at", "fanotify_init",
    ),
    "kernel": (
        "bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key", "request_key", "init_module",
        "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "swapon",
        "swapoff", "syslog", "ioperm", "iopl", "acct", "quotactl", "quotactl_fd", "sethostname",
        "setdomainname", "settimeofday", "clock_settime", "adjtimex", "clock_adjtime",
    ),
}  # fmt: skip
"""Calls that always fail with EPERM, by what they would open."""

_AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT: Final = 0x40000000
_CLONE_THREAD: Final = 0x00010000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
"""Terminal requests that type into the shell which will outlive this process."""

_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_SET_MODE_FILTER = 1
_FLAG_TSYNC, _FLAG_SPEC_ALLOW = 1 << 0, 1 << 2
"""All threads; and no slower speculation for it, which kernels before 5.16 imply: no foreign code
runs here."""
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
# struct seccomp_data: nr, arch, instruction pointer, six 64-bit arguments.
_NR, _ARCH, _ARGUMENTS = 0, 4, 16

_Instruction = tuple[int, int, int, int]


def install() -> None:
    """Put the filter on every thread of this process (needs no_new_privs).

    Raises:
        OSError: no filter support, no table for this architecture, or a thread refused it.
    """
    if not kernel.MACHINE:
        raise OSError(errno.ENOSYS, "no system-call table for this architecture")
    code = ctypes.create_string_buffer(program(kernel.MACHINE, os.getpid()))
    instructions = (len(code) - 1) // 8
    header = ctypes.create_string_buffer(struct.pack("@HP", instructions, kernel.address(code)))
    flags = _FLAG_TSYNC | _FLAG_SPEC_ALLOW
    odd_one_out = kernel.syscall("seccomp", _SET_MODE_FILTER, flags, header)
    if odd_one_out:
        raise OSError(errno.EBUSY, f"thread {odd_one_out} has a filter of its own")


def available() -> bool:
    """Tell whether the kernel has seccomp filters and this architecture a table."""
    try:
        action = ctypes.create_string_buffer(struct.pack("@I", _ERRNO))
        return bool(kernel.MACHINE) and kernel.syscall("seccomp", 2, 0, action) == 0
    except OSError:
        return False


def program(machine: str, pid: int) -> bytes:
    """Assemble the filter for `machine`; signals may go to process `pid` only."""
    eperm = _give_back(errno.EPERM)
    code = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, _AUDIT_ARCH[machine]), eperm, (_LOAD, 0, 0, _NR)]
    if machine == "x86_64":
        code += [(_AT_LEAST, 0, 1, _X32_BIT), eperm]
    code += [(_AT_LEAST, 0, 1, kernel.FIRST_UNKNOWN), _give_back(errno.ENOSYS)]
    for name in (name for group in REFUSED.values() for name in group):
        if (call := kernel.number(name, machine)) >= 0:
            code += [(_EQUAL, 0, 1, call), eperm]
    code += _when(machine, "clone3", [_give_back(errno.ENOSYS)])
    code += _when(machine, "clone", [_low(0), (_ANY_BIT, 1, 0, _CLONE_THREAD), eperm, _PASS])
    code += _when(machine, "socketpair", _only(0, socket.AF_UNIX))
    for name in ("kill", "tgkill"):
        code += _when(machine, name, _only(0, pid))
    code += _when(machine, "prlimit64", _only(0, 0, pid))
    code += _when(machine, "ioctl", _never(1, _TIOCSTI, _TIOCLINUX))
    code += _when(machine, "prctl", _never(0, kernel.PR_SET_DUMPABLE, kernel.PR_SET_PTRACER))
    code += _when(machine, "sendto", [_low(4), (_EQUAL, 0, 2, 0), _high(4), (_EQUAL, 1, 0, 0),
                                      eperm, _PASS])  # fmt: skip
    code += [_PASS]
    return b"".join(struct.pack("@HBBI", *instruction) for instruction in code)


_PASS: Final[_Instruction] = (_RETURN, 0, 0, _ALLOW)


def _give_back(code: int) -> _Instruction:
    return (_RETURN, 0, 0, _ERRNO | code)


def _low(argument: int) -> _Instruction:
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * argument)  # both architectures are little-endian


def _high(argument: int) -> _Instruction:
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * argument + 4)


def _when(machine: str, name: str, block: list[_Instruction]) -> list[_Instruction]:
    return [(_EQUAL, 0, len(block), kernel.number(name, machine)), *block]


def _only(argument: int, *values: int) -> list[_Instruction]:
    tests = [(_EQUAL, len(values) - i, 0, value) for i, value in enumerate(values)]
    return [_low(argument), *tests, _give_back(errno.EPERM), _PASS]


def _never(argument: int, *values: int) -> list[_Instruction]:
    tests = [(_EQUAL, len(values) - i, 0, value) for i, value in enumerate(values)]
    return [_low(argument), *tests, _PASS, _give_back(errno.EPERM)]

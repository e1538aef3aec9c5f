"""The system-call filter, run by a small interpreter for both architectures."""

import errno
import re
import socket
import struct
from pathlib import Path

import pytest

from subterra.runtime import kernel, seccomp

PID = 4242
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW = 0x7FFF0000
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
both = pytest.mark.parametrize("machine", ["x86_64", "aarch64"])


def answer(machine: str, call: int, *arguments: int, arch: int | None = None) -> int:
    """Interpret the filter on one system call: 0 when allowed, else the error number."""
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("=iIQ6Q", call, arch or ARCH[machine], 0, *padded)
    code = list(struct.iter_unpack("=HBBI", seccomp.program(machine, PID)))
    accumulator = place = 0
    while True:
        operation, yes, no, value = code[place]
        place += 1
        if operation == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif operation == 0x06:
            return 0 if value == ALLOW else value & 0xFFFF
        else:
            taken = {
                0x15: accumulator == value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }[operation]
            place += yes if taken else no


def number(machine: str, name: str) -> int:
    return kernel.number(name, machine)


@both
def test_every_refused_call_fails_and_reading_and_writing_pass(machine: str) -> None:
    for group in seccomp.REFUSED.values():
        for name in group:
            if number(machine, name) >= 0:
                assert answer(machine, number(machine, name)) == errno.EPERM, name
    read, write, futex = (0, 1, 202) if machine == "x86_64" else (63, 64, 98)
    assert [answer(machine, call) for call in (read, write, futex)] == [0, 0, 0]


@both
def test_threads_start_and_processes_do_not(machine: str) -> None:
    clone, clone_thread, vm = number(machine, "clone"), 0x10000, 0x100
    assert answer(machine, clone, clone_thread | vm) == 0
    assert answer(machine, clone, vm | 0x4000) == errno.EPERM  # posix_spawn
    assert answer(machine, clone, 17) == errno.EPERM  # fork
    assert answer(machine, number(machine, "clone3")) == errno.ENOSYS


@both
def test_only_a_pair_of_unix_sockets_can_be_made(machine: str) -> None:
    pair = number(machine, "socketpair")
    assert answer(machine, pair, socket.AF_UNIX, socket.SOCK_STREAM) == 0
    assert answer(machine, pair, socket.AF_INET) == errno.EPERM
    assert answer(machine, pair, 1 << 32 | socket.AF_UNIX) == 0  # the kernel reads 32 bits


@both
@pytest.mark.parametrize("address", [1, 1 << 32, 1 << 63, 0x7FFF_1234_5678])
def test_sendto_passes_only_without_an_address(machine: str, address: int) -> None:
    sendto = number(machine, "sendto")
    assert answer(machine, sendto, 3, 0x1000, 1, 0, 0, 0) == 0
    assert answer(machine, sendto, 3, 0x1000, 1, 0, address, 16) == errno.EPERM


@both
def test_signals_and_limits_reach_this_process_only(machine: str) -> None:
    for name in ("kill", "tgkill"):
        assert answer(machine, number(machine, name), PID, 15) == 0
        for other in (0, 1, 0xFFFFFFFF, PID + 1):
            assert answer(machine, number(machine, name), other, 15) == errno.EPERM
    limit = number(machine, "prlimit64")
    assert [answer(machine, limit, who) for who in (0, PID, 1)] == [0, 0, errno.EPERM]


@both
def test_typing_into_the_terminal_is_refused_and_its_size_is_not(machine: str) -> None:
    ioctl = number(machine, "ioctl")
    assert answer(machine, ioctl, 0, 0x5413) == 0  # TIOCGWINSZ
    assert answer(machine, ioctl, 0, 0x5412) == errno.EPERM  # TIOCSTI
    assert answer(machine, ioctl, 0, 1 << 32 | 0x5412) == errno.EPERM
    assert answer(machine, ioctl, 0, 0x541C) == errno.EPERM  # TIOCLINUX


@both
def test_the_process_cannot_become_traceable_again(machine: str) -> None:
    prctl = number(machine, "prctl")
    assert answer(machine, prctl, 4, 1) == errno.EPERM
    assert answer(machine, prctl, 0x59616D61) == errno.EPERM
    assert answer(machine, prctl, 15) == 0  # a thread's name


@both
def test_foreign_and_unknown_calls_are_refused(machine: str) -> None:
    for arch in (0x40000003, 0x40000028, 0, 0xC00000B7 if machine == "x86_64" else 0xC000003E):
        assert answer(machine, 1, arch=arch or 1) == errno.EPERM
    assert answer(machine, kernel.FIRST_UNKNOWN) == errno.ENOSYS
    if machine == "x86_64":
        assert answer(machine, 0x40000000 | 41) == errno.EPERM


@both
def test_numbers_agree_with_the_kernels_headers(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip("no kernel headers here")
    pattern = re.compile(r"#define __NR(?:3264)?_(\w+)\s+(\d+)$", re.M)
    known = {name: int(value) for name, value in pattern.findall(HEADERS[machine].read_text())}
    ours = {name: number(machine, name) for name in kernel.names()}
    assert len(known) > 250
    for name, value in ours.items():
        if value in known.values() or name in known:
            assert known.get(name) == value, name

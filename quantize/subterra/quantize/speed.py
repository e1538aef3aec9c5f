"""Load time, time to the first token, tokens per second and memory of one variant.

Goes in: a variant's file or folder and prompt tokens. Comes out: numbers, each the median of up to
REPEATS replies, and how many tokens they stand on: a slow variant is given a time, not a count.
Every variant is measured in a process of its own, so that neither memory nor caches nor threads of
another one count. Does not know texts or quality.

    >>> measure_speed("llama.cpp", Path("variants/Q8_0.gguf"), prompt).decode_tokens_per_s
    118.4

The child is this module: `python -m subterra.quantize.speed`, a JSON request on its stdin.
"""

import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from subterra.runtime.engine import Engine, open_engine
from subterra.runtime.errors import EngineError, SubterraError
from subterra.runtime.threads import usable_threads

REPEATS = 3

REPEATS_S = 6.0
"""No repetition begins later than this after the first did."""

DECODE_TOKENS = 64
"""Tokens written at most in each repetition."""

DECODE_TOKENS_MIN = 16
"""Tokens written at least, however slow."""

DECODE_S = 1.0
"""Time for the tokens of a repetition, once there are DECODE_TOKENS_MIN."""

WARM_UP_TOKENS = 8

PROMPT_TOKENS = 256
"""Tokens of the prompt that callers should give: an agent's typical conversation."""

TIME_LIMIT_S = 900
"""A child that takes longer hangs: the slowest variant of a 135M model needs 15 s."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What a user waits for, on this machine."""

    load_ms: float
    """From nothing to an engine that takes prompts; the file is in the page cache."""
    ttft_ms: float
    """Time to the first token of a reply to a prompt of which nothing is cached."""
    prefill_tokens_per_s: float
    """Prompt tokens / time to the first token."""
    decode_tokens_per_s: float
    """Tokens after the first / the time they take."""
    peak_rss_bytes: int
    """Peak memory of the process, mapped model file included."""
    prompt_tokens: int
    decode_tokens: int
    """Tokens that the decode rate stands on, over all repetitions."""
    repeats: int
    threads: int
    load_average: float
    """Runnable tasks on the machine in the minute before; well above 0 means a disturbed run."""


@dataclass(frozen=True, slots=True)
class _Request:
    engine: str
    path: str
    tokens: list[int]
    threads: int
    context_tokens: int


@dataclass(frozen=True, slots=True)
class _Run:
    first_s: float
    """Time to the first token."""
    rate: float
    """Tokens per second after it."""
    tokens: int


def measure_speed(
    engine: str, path: Path, tokens: Sequence[int], *, threads: int | None = None
) -> Speed:
    """Measure a variant in a fresh process.

    Args:
        engine: "llama.cpp" or "onnxruntime".
        path: the variant.
        tokens: prompt, PROMPT_TOKENS of them by convention.
        threads: default: those usable here.

    Raises:
        EngineError: the process fails or hangs.
    """
    context = len(tokens) + DECODE_TOKENS + 8
    request = _Request(engine, str(path), list(tokens), threads or usable_threads(), context)
    try:
        child = subprocess.run(  # noqa: S603 (our own module, no shell)
            [sys.executable, "-m", __name__],
            input=json.dumps(asdict(request)),
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _failed(path, f"no result after {TIME_LIMIT_S} s") from error
    if child.returncode != 0:
        lines = child.stderr.strip().splitlines()
        raise _failed(path, lines[-1] if lines else f"exit status {child.returncode}")
    return Speed(**json.loads(child.stdout.strip().splitlines()[-1]))


def measure_here(request: _Request) -> Speed:
    """Measure in this process; call once in a process."""
    load_average = os.getloadavg()[0]
    begin = time.perf_counter()
    engine = open_engine(
        request.engine,
        Path(request.path),
        context_tokens=request.context_tokens,
        threads=request.threads,
    )
    load_ms = 1000 * (time.perf_counter() - begin)
    first_touch = request.tokens[: len(request.tokens) // 4]  # of weights and arena
    _reply(engine, first_touch, most=WARM_UP_TOKENS)
    runs = _runs(engine, request.tokens)
    ttft_s = statistics.median(run.first_s for run in runs)
    speed = Speed(
        load_ms=round(load_ms, 1),
        ttft_ms=round(1000 * ttft_s, 1),
        prefill_tokens_per_s=round(len(request.tokens) / ttft_s, 1),
        decode_tokens_per_s=round(statistics.median(run.rate for run in runs), 1),
        peak_rss_bytes=peak_rss_bytes(),
        prompt_tokens=len(request.tokens),
        decode_tokens=sum(run.tokens for run in runs),
        repeats=len(runs),
        threads=request.threads,
        load_average=round(load_average, 2),
    )
    engine.close()
    return speed


def peak_rss_bytes() -> int:
    """Peak resident memory of this process since it was started."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _runs(engine: Engine, tokens: Sequence[int]) -> list[_Run]:
    begin = time.perf_counter()
    runs: list[_Run] = []
    while len(runs) < REPEATS and (not runs or time.perf_counter() - begin < REPEATS_S):
        runs.append(_reply(engine, _rotated(tokens, len(runs) + 1), most=DECODE_TOKENS))
    return runs


def _reply(engine: Engine, prompt: Sequence[int], *, most: int) -> _Run:
    """Write `most` tokens, or as many as DECODE_S allows."""
    begin = time.perf_counter()
    stamps: list[float] = []
    for _ in engine.generate(prompt, max_tokens=most, stop=frozenset()):
        stamps.append(time.perf_counter())
        if len(stamps) > DECODE_TOKENS_MIN and stamps[-1] - stamps[0] >= DECODE_S:
            break
    if len(stamps) < 2:
        raise EngineError(
            f"the engine wrote {len(stamps)} tokens instead of {most}",
            hint="make the variant again: subterra quantize",
        )
    rate = (len(stamps) - 1) / (stamps[-1] - stamps[0])
    return _Run(stamps[0] - begin, rate, len(stamps) - 1)


def _rotated(tokens: Sequence[int], by: int) -> list[int]:
    """Another prompt of the same tokens that shares no prefix with the one before."""
    shift = by * (len(tokens) // (REPEATS + 1))
    turned = [*tokens[shift:], *tokens[:shift]]
    turned[0] = (tokens[0] + by) % (max(tokens) + 1)
    return turned


def _failed(path: Path, reason: str) -> EngineError:
    return EngineError(
        f"cannot measure the speed of {path}: {reason}", hint="subterra doctor shows the engines"
    )


def main() -> int:
    """Read one request from stdin and print one JSON line."""
    request = _Request(**json.load(sys.stdin))
    try:
        speed = measure_here(request)
    except SubterraError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(asdict(speed)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

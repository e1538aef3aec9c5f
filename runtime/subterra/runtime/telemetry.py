"""Switch off what the libraries underneath would send home.

ONNX Runtime 1.29 and later, as packaged on PyPI, starts an uploader when it is imported: it
writes a device id and a queue under `~/.cache/Microsoft/DeveloperTools` and reports session
metadata, graph and weight hashes included, over HTTPS (its own `Privacy.md`). Only the
environment variable prevents that, and only when set before the import.

Goes in: this process's environment. Comes out: the same without proxies and with every telemetry
switch off. Does not know the guard, which holds even where a library ignores its switch.

    >>> silence()
    >>> os.environ["ORT_DISABLE_TELEMETRY"]
    '1'
"""

import os

SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",
    "ORT_TELEMETRY_DISABLED": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
"""Read by ONNX Runtime (current and earlier name), huggingface_hub, transformers, and by custom."""

PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")


def silence() -> None:
    """Set every telemetry switch; call before the first import of onnxruntime."""
    os.environ.update(SWITCHES)


def drop_proxies() -> None:
    """Remove proxies from the environment, so that no library learns a way out."""
    for name in PROXIES:
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)

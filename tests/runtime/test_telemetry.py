"""What libraries would send home is switched off before they are imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from subterra.runtime import telemetry

IMPORT = """
from subterra.runtime import telemetry
telemetry.silence()
import onnxruntime
"""


def test_onnx_runtime_leaves_no_trace_and_no_uploader(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if name not in telemetry.SWITCHES}
    clean |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    clean |= {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    clean.pop("CI", None)
    subprocess.run([sys.executable, "-c", IMPORT], env=clean, check=True)
    assert list(tmp_path.iterdir()) == []


def test_proxies_leave_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    monkeypatch.setenv("all_proxy", "http://proxy")
    telemetry.drop_proxies()
    assert "HTTPS_PROXY" not in os.environ
    assert "all_proxy" not in os.environ

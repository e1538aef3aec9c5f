"""The wheel: five portions and their data, and nothing else."""

import csv
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PORTIONS = ("compile", "quantize", "runtime", "tui", "models")
DATA = (".json", ".toml", ".tcss", ".css", ".safetensors", ".md", ".typed", ".yaml", ".py")
"""Kinds of files that a portion may hold."""
NAMED = (
    "subterra/compile/procedure_schema.json",
    "subterra/compile/wording_library/answers.yaml",
    "subterra/models/catalogue.toml",
    "subterra/quantize/report.css",
    "subterra/models/adapters/zoom_support/adapter_model.safetensors",
    "subterra/models/adapters/zoom_support/adapter_config.json",
    "subterra/models/adapters/zoom_support/subterra.json",
)
LIMIT = 14 << 20
"""Bytes; the shipped adapter may have 12 MB."""


def project() -> dict[str, object]:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return dict(document["project"])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.parametrize("portion", PORTIONS)
def test_a_portion_is_whole(wheel: zipfile.ZipFile, portion: str) -> None:
    base = ROOT / portion
    files = {
        p for p in (base / "subterra").rglob("*") if p.is_file() and "__pycache__" not in p.parts
    }
    assert {p.suffix for p in files} <= set(DATA)
    assert {p.relative_to(base).as_posix() for p in files} <= set(wheel.namelist())


@pytest.mark.parametrize("name", NAMED)
def test_package_data_is_in(wheel: zipfile.ZipFile, name: str) -> None:
    assert name in wheel.namelist()


def test_style_sheets_are_in(wheel: zipfile.ZipFile) -> None:
    assert [name for name in wheel.namelist() if name.endswith(".tcss")]


def test_nothing_else_is_in(wheel: zipfile.ZipFile) -> None:
    portions = "|".join(PORTIONS)
    inside = re.compile(rf"subterra/({portions})/.+|subterra-[^/]+\.dist-info/.+")
    assert [name for name in wheel.namelist() if not inside.fullmatch(name)] == []
    assert not [name for name in wheel.namelist() if "test" in Path(name).name.split("_")]
    assert sum(entry.file_size for entry in wheel.infolist()) < LIMIT


def test_name_version_licence_and_command_are_recorded(wheel: zipfile.ZipFile) -> None:
    folder = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA")).split("/")[0]
    metadata = wheel.read(f"{folder}/METADATA").decode()
    assert folder == f"subterra-{project()['version']}.dist-info"
    assert f"\nVersion: {project()['version']}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "subterra = subterra.runtime.cli:main" in (
        wheel.read(f"{folder}/entry_points.txt").decode()
    )
    assert f"{folder}/licenses/LICENSE" in wheel.namelist()
    recorded = {row[0] for row in csv.reader(wheel.read(f"{folder}/RECORD").decode().splitlines())}
    assert recorded == set(wheel.namelist())


def test_the_version_is_the_same_everywhere() -> None:
    given = str(project()["version"])
    assert version("subterra") == given
    headings = re.findall(r"^## \[?([\w.]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] in ("Unreleased", given)

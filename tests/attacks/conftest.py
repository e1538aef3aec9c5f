"""A small sealed agent to be abused; its model is not a model, nothing here loads one."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from subterra.runtime.signing import SigningKey

KEY = SigningKey(bytes(range(32)))


@dataclass(frozen=True, slots=True)
class Agent:
    """A bundle folder and the key that sealed it."""

    path: Path
    key: SigningKey

    def manifest(self) -> dict[str, Any]:
        """Read the manifest as plain JSON."""
        return dict(json.loads((self.path / "manifest.json").read_bytes()))

    def reseal(self, manifest: dict[str, Any]) -> None:
        """Write another manifest and sign it with the right key, as a hostile author could."""
        data = json.dumps(manifest).encode()
        (self.path / "manifest.json").write_bytes(data)
        (self.path / "signature").write_bytes(self.key.sign(data))


def write_agent(path: Path) -> Agent:
    """Write an agent with one GGUF variant and one ONNX variant."""
    contents = {
        "tokenizer.json": b"{}",
        "model-Q8_0.gguf": b"GGUF" + bytes(60),
        "onnx-int8/model.onnx": b"graph",
        "onnx-int8/config.json": b"{}",
    }
    for name, data in contents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    manifest = {
        "schema_version": 1,
        "name": "toy",
        "title": "A toy",
        "base": {"id": "tiny", "sha256": "a" * 64},
        "adapter_sha256": "b" * 64,
        "recipe": "traced",
        "system": "You are a toy.",
        "slots": ["issue"],
        "commitment": {"algorithm": "hmac-sha256", "value": "c" * 64},
        "teacher": {"kind": "bank", "disclosed_to": []},
        "variants": [
            {
                "name": "Q8_0",
                "engine": "llama.cpp",
                "quantization": "Q8_0",
                "path": "model-Q8_0.gguf",
                "bytes": 64,
            },
            {
                "name": "onnx-int8",
                "engine": "onnxruntime",
                "quantization": "int8",
                "path": "onnx-int8",
                "bytes": 7,
            },
        ],
        "default_variant": "Q8_0",
        "chat_format": "chatml",
        "end_of_turn_id": 2,
        "context_tokens": 2048,
        "max_reply_tokens": 256,
        "tools": {"subterra": "0.1.0"},
        "seeds": {"compile": 7},
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
    }
    agent = Agent(path, KEY)
    agent.reseal(manifest)
    return agent


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    """Give a fresh agent."""
    return write_agent(tmp_path / "toy.agent")


@pytest.fixture(scope="session")
def shared_agent(tmp_path_factory: pytest.TempPathFactory) -> Agent:
    """Give an agent that every example of a property test restores."""
    return write_agent(tmp_path_factory.mktemp("shared") / "toy.agent")


@pytest.fixture
def change(agent: Agent) -> Callable[..., Agent]:
    """Change top-level keys of the manifest and sign it properly again."""

    def changed(**keys: object) -> Agent:
        agent.reseal({**agent.manifest(), **keys})
        return agent

    return changed

"""A GGUF's own tokenizer and chat template."""

from pathlib import Path

import pytest

pytest.importorskip("llama_cpp")

from subterra.runtime.chatml import ChatTokenizer
from subterra.runtime.errors import EngineError
from subterra.runtime.llama_native import native
from subterra.runtime.llama_text import GgufChat


@pytest.fixture
def chat(tiny_gguf: Path) -> GgufChat:
    return GgufChat(tiny_gguf)


def test_a_prompt_has_the_models_own_turns_and_opening(
    chat: GgufChat, tiny_checkpoint: Path
) -> None:
    ours = ChatTokenizer(tiny_checkpoint)
    expected = [
        *ours.system_turn("Be brief."),
        *ours.encode_turn("user", "The sound, ça va? 🎉"),
        *ours.assistant_prefix(),
        *ours.encode_text("1."),
    ]
    assert chat.prompt("Be brief.", "The sound, ça va? 🎉", "1.") == expected
    chat.close()


def test_text_comes_back_without_special_tokens(chat: GgufChat, tiny_checkpoint: Path) -> None:
    ours = ChatTokenizer(tiny_checkpoint)
    tokens = ours.encode_text("Zoë's sound 🎉")
    assert chat.text([ours.start_of_turn_id, *tokens, ours.end_of_turn_id]) == "Zoë's sound 🎉"
    assert chat.text(tokens[:-1]).endswith("\N{REPLACEMENT CHARACTER}")
    assert chat.text([]) == ""
    assert ours.end_of_turn_id in chat.stop


def test_texts_with_zero_bytes_or_lone_surrogates_are_read(chat: GgufChat) -> None:
    assert chat.prompt("a\0b", "c\ud800d") == chat.prompt("a b", "c?d")


def test_a_model_without_a_template_is_no_instruct_model(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "llama_model_chat_template", lambda model, name: None)
    with pytest.raises(EngineError, match="no chat template"):
        GgufChat(tiny_gguf)


def test_a_template_that_llama_cpp_does_not_know_is_refused(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "llama_model_chat_template", lambda model, name: b"{{ odd }}")
    with pytest.raises(EngineError, match="does not know the chat template"):
        GgufChat(tiny_gguf).prompt("a", "b")


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(EngineError):
        GgufChat(tmp_path / "x.gguf")

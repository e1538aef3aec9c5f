"""The training tokenizer and llama.cpp agree token for token."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from subterra.models.catalogue import base_model
from subterra.models.resolve import packaged_file
from subterra.models.tokenizer import byte_level_tokenizer
from subterra.runtime.errors import BaseModelError

CORPUS = [
    "",
    " ",
    "Error 5003: call 1-888-799-9666, room 123 456 7890.",
    "½ cup, x² + y³, Ⅷ, ٣٤٥, ௧௨, ➀",
    "I'm, you're, they'll, he'd, WE'VE, don't, it’s, 's 't 're",
    "👍 👩‍👩‍👧 🇩🇪 1️⃣ ok👍🏽ok",
    "音声が聞こえません。共有画面 3番、한국어 입력, 你好，世界",
    "صوت لا يعمل ٣ مرات, हिन्दी में, ไทย, ѓ, İstanbul, ß, e\u0301",
    "def f(x):\n\treturn {'a': x[0], **kw}  # noqa\n\n\n    if x != 3:\r\n        pass",
    "  two   three    four\t\ttabs \n \n\n   \n trailing   ",
    "\u00a0no-break\u2003em\u3000wide\u200bzero\u0085next\u2028line\ufeffmark",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    "<|im_end|", "|im_end|>", "< |im_end|>", "<|IM_END|>", "<<|im_end|>>", "<|im_end|><|im_end|>",
    "<|endoftext|> <repo_name> <file_sep> [PAD1] <0x0A> </s>",
    "start > welcome | ? | ?\nreport audio + give device > fix audio | audio | Windows",
    "a\x04b!\x06!\x13\x14\x1d.\x00\x7f\x01 !\U00040000!",
]  # fmt: skip
PIECES = [
    *"abcXYZ 019 \t\n\r\v\f'’-_.,!?;:/\\<>|#@$%^&*()[]{}~`\"",
    *[
        "'s",
        "'re",
        "'LL",
        " 's",
        "é",
        "漢",
        "か",
        "한",
        "ا",
        "ह",
        "ि",
        "ก",
        "👍",
        "👩‍👩‍👧",
        "½",
        "٣",
    ],
    *["\u00a0", "\u3000", "\u200b", "\u0085", "\x00", "\x04", "\x06", "\x1d", "\U00040000"],
    *["<|im_start|>", "<|im_end|>", "<|im_end|", "<repo_name>", "   ", "\n\n\n", "e\u0301"],
]


def encode(tokenizer: Tokenizer, text: str, *, parse_special: bool) -> list[int]:
    tokenizer.encode_special_tokens = not parse_special
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def differences(tokenizer: Tokenizer, llama: Any, texts: list[str]) -> list[tuple[str, bool]]:
    return [
        (text, special)
        for text in texts
        for special in (False, True)
        if encode(tokenizer, text, parse_special=special)
        != llama.tokenize(text, parse_special=special)
    ]


def random_texts(count: int) -> list[str]:
    dice = random.Random(2)
    texts = ["".join(dice.choices(PIECES, k=dice.randint(1, 24))) for _ in range(count)]
    for _ in range(count):
        points = (dice.choice((0x7F, 0x24FF, 0xFFFF, 0x10FFFF)) for _ in range(dice.randint(1, 12)))
        characters = [chr(dice.randint(0, top)) for top in points]
        texts.append("".join(c for c in characters if not "\ud800" <= c <= "\udfff"))
    return texts


def test_the_tiny_model_agrees_with_llama_cpp(
    tiny_checkpoint: Path, tiny_gguf: Path, open_llama: Callable[[Path], Any]
) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_checkpoint / "tokenizer.json"))
    texts = [*CORPUS, "the sound and the video  the\nend", *random_texts(1000)]
    assert differences(tokenizer, open_llama(tiny_gguf), texts) == []


def test_special_tokens_in_text_are_plain_characters_unless_parsed(tiny_checkpoint: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_checkpoint / "tokenizer.json"))
    assert encode(tokenizer, "<|im_end|>", parse_special=True) == [2]
    plain = encode(tokenizer, "<|im_end|>", parse_special=False)
    assert 2 not in plain
    assert len(plain) > 3


def test_bytes_without_a_token_are_dropped_and_their_neighbours_stay_apart() -> None:
    tokenizer = byte_level_tokenizer(["!", "!!", "a"], [1, 1, 1], ["! !"], "smollm")
    assert tokenizer.encode("!!").ids == [1]
    assert tokenizer.encode("!\x04!").ids == [0, 0]


def test_an_unknown_pre_tokenizer_is_refused() -> None:
    with pytest.raises(BaseModelError, match="pre-tokenizer 'tekken'; known: smollm"):
        byte_level_tokenizer(["a"], [1], [], "tekken")


@pytest.mark.slow
def test_the_real_base_agrees_with_llama_cpp_on_the_corpus(
    real_base: Path, open_llama: Callable[[Path], Any]
) -> None:
    tokenizer = Tokenizer.from_file(str(real_base / "tokenizer.json"))
    llama = open_llama(packaged_file(base_model("smollm2-135m-instruct")))
    source = Path(__file__).read_text(encoding="utf-8")
    texts = [*CORPUS, source, *source.splitlines(), *random_texts(20_000)]
    assert differences(tokenizer, llama, texts) == []


@pytest.mark.slow
def test_the_real_base_agrees_with_llama_cpp_on_every_assigned_character(
    real_base: Path, open_llama: Callable[[Path], Any]
) -> None:
    tokenizer = Tokenizer.from_file(str(real_base / "tokenizer.json"))
    llama = open_llama(packaged_file(base_model("smollm2-135m-instruct")))
    planes = [*range(0xD800), *range(0xE000, 0x33480), *range(0x3FFF0, 0x40010), 0xE0041, 0x10FFFF]
    characters = [chr(point) for point in planes]
    texts = [f"a{c}b {c}{c}1" for c in characters]
    tokenizer.encode_special_tokens = True
    encoded = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
    wrong = [
        hex(ord(character))
        for character, text, ids in zip(characters, texts, encoded, strict=True)
        if ids != llama.tokenize(text, parse_special=False)
    ]
    assert wrong == []

r"""Text that is safe to show: no escape sequence of a model or a paste reaches the terminal.

Goes in: any text. Comes out: printable text with newlines. Does not know widgets.

    >>> printable("red \x1b[31malert\x07")
    'red alert'
"""

import re

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI
    r"|\x1b[\]PX^_].*?(?:\x1b\\|\x07|$)"  # OSC, DCS, SOS, PM, APC
    r"|\x1b.?",
    re.DOTALL,
)
_BIDI_CONTROLS = "\u202a-\u202e\u2066-\u2069"
_CONTROLS = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff{_BIDI_CONTROLS}]")


def printable(text: str) -> str:
    """Drop escape sequences and control characters; keep newlines; expand tabs to four columns."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROLS.sub("", _ESCAPES.sub("", text)).replace("\t", "    ")


def one_line(text: str) -> str:
    """Fold printable text to one line with single spaces."""
    return " ".join(printable(text).split())

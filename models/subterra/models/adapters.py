"""The adapters that ship with subterra, by procedure.

Goes in: a procedure's name. Comes out: the folder with its adapter and card. Loads no weight.

    >>> shipped_adapter("zoom_support")
    PosixPath('.../subterra/models/adapters/zoom_support')
"""

from pathlib import Path

FOLDER = Path(__file__).parent / "adapters"
CARD_FILE = "subterra.json"


def shipped_adapter(procedure: str) -> Path | None:
    """Find the adapter folder for a procedure's name; None if none ships."""
    folder = FOLDER / procedure
    return folder if (folder / CARD_FILE).is_file() else None


def shipped_adapters() -> tuple[str, ...]:
    """Name the procedures for which an adapter ships."""
    if not FOLDER.is_dir():
        return ()
    return tuple(sorted(p.name for p in FOLDER.iterdir() if (p / CARD_FILE).is_file()))

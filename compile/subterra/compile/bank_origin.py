"""Whether a user bank that an agent is scored with is the one it was trained on.

Goes in: the agent's folder and the bank. Comes out: `training`, `other`, or `unknown` where the
agent does not say what it was trained on (a sealed agent never does). Refuses a bank that shares
wording with the training bank beside it.

    >>> origin(Path("build/zoom_support"), bank)
    'other'
"""

from pathlib import Path
from typing import Literal

from subterra.compile.card import CARD_FILE, read_card
from subterra.compile.procedure import Procedure
from subterra.compile.user_bank import UserBank, assert_apart, load_bank
from subterra.runtime.errors import AdapterError
from subterra.runtime.files import sha256_file

Origin = Literal["training", "other", "unknown"]
WORDS: dict[Origin, str] = {
    "training": "the bank that the agent was trained on",
    "other": "not the bank that the agent was trained on",
    "unknown": "the agent does not say what it was trained on",
}
TRAINING_FILE = "train.yaml"
"""The training bank of an example folder, beside the held-out one."""


def origin(agent: Path, bank: UserBank) -> Origin:
    """Hold the bank's digest against what the agent's cards say."""
    trained_on = _trained_on(agent)
    if trained_on is None:
        return "unknown"
    return "training" if trained_on == sha256_file(bank.path) else "other"


def measures_memory(origin: Origin, bank: UserBank) -> bool:
    """Tell whether a score on this bank measures memory: by its digest, or by its name."""
    return origin == "training" or bank.path.name == TRAINING_FILE


def assert_held_out(bank: UserBank, procedure: Procedure) -> None:
    """Make sure that a bank shares no wording with the training bank beside it.

    Raises:
        UserBankError: it does.
    """
    training = bank.path.parent / TRAINING_FILE
    if training.is_file() and not training.samefile(bank.path):
        assert_apart(load_bank(training, procedure, training=True), bank)


def _trained_on(agent: Path) -> str | None:
    for folder in (agent / "merged", agent / "adapter"):
        if not (folder / CARD_FILE).is_file():
            continue
        try:
            inputs = read_card(folder).get("inputs")
        except AdapterError:
            continue
        users = inputs.get("users") if isinstance(inputs, dict) else None
        if isinstance(users, str):
            return users
    return None

"""Whether a user bank that an agent is scored with is the one it was trained on.

Goes in: the agent's folder and the bank. Comes out: `training`, `other`, or `unknown` where the
agent does not say what it was trained on (a sealed agent never does). Refuses a bank that shares
wording with a training bank beside it.

    >>> origin(Path("build/zoom_support"), bank)
    'other'
"""

from pathlib import Path
from typing import Literal

from subterra.compile.bank_merge import load_part
from subterra.compile.card import CARD_FILE, read_card
from subterra.compile.procedure import Procedure
from subterra.compile.provenance import USERS
from subterra.compile.user_bank import UserBank, assert_apart, load_bank
from subterra.compile.widened_bank import FILE_NAME, has_wordings
from subterra.runtime.errors import AdapterError
from subterra.runtime.files import sha256_file

Origin = Literal["training", "other", "unknown"]
WORDS: dict[Origin, str] = {
    "training": "the bank that the agent was trained on",
    "other": "not the bank that the agent was trained on",
    "unknown": "the agent does not say what it was trained on",
}
TRAINING_FILES = ("train.yaml", FILE_NAME)
"""The training banks of an example folder, beside the held-out one."""


def origin(agent: Path, bank: UserBank) -> Origin:
    """Hold the bank's digest against what the agent's cards say."""
    trained_on = _trained_on(agent)
    if trained_on is None:
        return "unknown"
    return "training" if sha256_file(bank.path) in trained_on else "other"


def measures_memory(found: Origin, bank: UserBank) -> bool:
    """Tell whether a score on this bank measures memory: by its digest, or by its name."""
    return found == "training" or bank.path.name in TRAINING_FILES


def assert_held_out(bank: UserBank, procedure: Procedure) -> None:
    """Make sure that a bank shares no wording with the training banks beside it.

    Raises:
        UserBankError: it does.
    """
    training, widened = (bank.path.parent / name for name in TRAINING_FILES)
    if training.is_file() and not training.samefile(bank.path):
        assert_apart(load_bank(training, procedure, training=True), bank)
    if widened.is_file() and not widened.samefile(bank.path) and has_wordings(widened):
        assert_apart(load_part(widened, procedure), bank)


def _trained_on(agent: Path) -> set[str] | None:
    """List the digests of the banks, None where no card has any."""
    for folder in (agent / "merged", agent / "adapter"):
        if not (folder / CARD_FILE).is_file():
            continue
        try:
            inputs = read_card(folder).get("inputs")
        except AdapterError:
            continue
        found = inputs.items() if isinstance(inputs, dict) else ()
        users = {value for key, value in found if str(key).partition("_")[0] == USERS}
        if users:
            return users
    return None

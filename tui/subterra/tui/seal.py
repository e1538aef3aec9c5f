"""How the chat says what the guard holds.

Goes in: layers in force and layers missing. Comes out: words. Does not know the guard.

    >>> Seal(("landlock", "seccomp")).short
    'sealed, on this device only'
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Seal:
    """What the guard holds while the agent talks."""

    layers: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Tell whether nothing is missing."""
        return bool(self.layers) and not self.missing

    @property
    def short(self) -> str:
        """For the title bar."""
        if self.whole:
            return "sealed, on this device only"
        return "partly sealed" if self.layers else "not sealed: the guard is off"

    @property
    def full(self) -> str:
        """For the status bar and plain mode."""
        if self.whole:
            return "sealed: " + ", ".join(self.layers)
        if self.layers:
            return "PARTLY SEALED: without " + ", ".join(self.missing)
        return "NOT SEALED: guard off"

    @property
    def counted(self) -> str:
        """For a narrow status bar."""
        return f"sealed: {len(self.layers)} layers" if self.whole else self.full

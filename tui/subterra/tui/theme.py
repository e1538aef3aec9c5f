"""The two themes of the chat, and how far their colours stand apart.

Goes in: nothing. Comes out: Textual themes. The only place where colours are written; style
sheets use the theme's variables. Every text colour keeps a contrast of 4.5 on its ground
(WCAG 2.2, level AA).

    >>> contrast(Color.parse("#000000"), Color.parse("#ffffff"))
    21.0
"""

from textual.color import Color
from textual.theme import Theme

DARK = Theme(
    name="subterra-dark",
    dark=True,
    background="#15171c",
    surface="#1c1f26",
    panel="#252933",
    foreground="#e8e4db",
    primary="#62cdb4",
    secondary="#a3bdf0",
    accent="#ecbb72",
    success="#9bd18b",
    warning="#f2c14e",
    error="#f4858a",
    variables={
        "footer-key-foreground": "#ecbb72",
        "footer-background": "#15171c",
        "footer-description-foreground": "#a9a69e",
        "block-cursor-foreground": "#15171c",
        "input-selection-background": "#62cdb4 35%",
        "border": "#62cdb4",
        "border-blurred": "#3a4050",
        "quiet": "#a9a69e",
        "rule": "#3a4050",
    },
)

LIGHT = Theme(
    name="subterra-light",
    dark=False,
    background="#fbf9f5",
    surface="#f2efe8",
    panel="#e7e2d7",
    foreground="#23262b",
    primary="#0b6b5d",
    secondary="#2c5093",
    accent="#855400",
    success="#2c682c",
    warning="#7d5200",
    error="#ad241d",
    variables={
        "footer-key-foreground": "#855400",
        "footer-background": "#fbf9f5",
        "footer-description-foreground": "#5d5f63",
        "block-cursor-foreground": "#fbf9f5",
        "input-selection-background": "#0b6b5d 30%",
        "border": "#0b6b5d",
        "border-blurred": "#bdb6a6",
        "quiet": "#5d5f63",
        "rule": "#c9c3b5",
    },
)

THEMES = (DARK, LIGHT)


def contrast(first: Color, second: Color) -> float:
    """Contrast ratio of two opaque colours, 1 to 21 (WCAG 2.2, "contrast ratio")."""
    low, high = sorted((_luminance(first), _luminance(second)))
    return (high + 0.05) / (low + 0.05)


def _luminance(color: Color) -> float:
    """Relative luminance, 0 to 1 (WCAG 2.2, "relative luminance")."""

    def linear(channel: float) -> float:
        return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4

    red, green, blue = map(linear, color.normalized)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue

"""How each kind of unit is drawn: told apart by shape, so that colour is not needed."""

from __future__ import annotations

from dataclasses import dataclass

#: Silent units that were seen on too few examples: shown apart from the dead.
SO_FAR = "silent so far"


@dataclass(frozen=True)
class Mark:
    """How units of one kind look.

    Attributes:
        block: One cell of a bar in a terminal; the more a unit gives, the higher.
        plain: The same in ASCII.
        style: Colour in a terminal; the page has its own, by the kind's name.
        path: Shape on the page, an SVG path in a square of 10 that is filled by the rule "evenodd".
    """

    block: str
    plain: str
    style: str
    path: str


#: All kinds of units, the healthy first and what gives nothing last, as bars show them.
MARKS = {
    "healthy": Mark("▇", "#", "green", "M0 0H10V10H0Z"),
    "linear": Mark("▅", "/", "blue", "M0 10L10 0V10Z"),
    "ignored": Mark("▒", "~", "blue", "M0 0H10V10H0ZM2.5 2.5V7.5H7.5V2.5Z"),
    "dormant": Mark("▃", "o", "yellow", "M0 5.5H10V10H0Z"),
    "unvisited": Mark("·", ".", "bright_black", "M3.5 3.5H6.5V6.5H3.5Z"),
    "starved": Mark("▂", "*", "yellow", "M0 6H4V10H0ZM6 6H10V10H6Z"),
    "duplicate": Mark("▚", "&", "magenta", "M0 0H5V5H0ZM5 5H10V10H5Z"),
    "constant": Mark("━", "=", "magenta", "M0 3.5H10V6.5H0Z"),
    "saturated": Mark("▔", "^", "magenta", "M0 0H10V4.5H0Z"),
    SO_FAR: Mark("░", ":", "yellow", "M0 0H10V10H0ZM1.5 1.5V8.5H8.5V1.5ZM3 4H7V6H3Z"),
    "dead": Mark("▁", "_", "red", "M0 0H10V10H0ZM1.5 4V6H8.5V4Z"),
    "nonfinite": Mark(
        "×", "x", "bright_red", "M0 0H10V10H0ZM2 3L4 5 2 7 3 8 5 6 7 8 8 7 6 5 8 3 7 2 5 4 3 2Z"
    ),
}
KINDS = tuple(MARKS)

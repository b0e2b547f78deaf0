"""What others say, made fit to be `shown`: a terminal does what it is told by what it prints."""

from __future__ import annotations


def shown(text: str) -> str:
    """Return the text with everything escaped that is no printable character.

    What a server calls itself may hold escape sequences, by which it would clear the screen and
    write a verdict of its own, or letters that turn round the direction of what follows.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def _escaped(one: str) -> str:
    return one.encode("unicode_escape").decode()

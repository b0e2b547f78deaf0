"""Where a stream goes on as broken releases have it."""

from __future__ import annotations

from sample_app.release import Release


def first_after(last: int, release: Release) -> int:
    """Return the number of the first message for a client whose last one was `last`, 0 for none.

    Broken releases count wrongly where a client resumes: past one that was never sent, or from
    the one that was sent already.
    """
    if last and release.does("loses-messages"):
        return last + 2
    if last and release.does("repeats-messages"):
        return last
    return last + 1

"""Whose fault each failure was, from what everybody wrote down of it.

`lives` are those of the app's processes and `causes` all that a failure can have, with what would
mend it; `attribution` gives each failed request one. `masked` is what a proxy made good.
"""

"""A detour through a TCP proxy of ours, in the path from the start: clean until it is told not to.

The proxy is a process of the engine; `Detour` is the handle to it, `Conditions` what it is told.
"""

"""The load generator: an open-loop schedule, the connections under it, and the recording of both.

Its modules run in the load's own process; `zdtest.traffic` starts that, `zdtest.load` is it.
"""

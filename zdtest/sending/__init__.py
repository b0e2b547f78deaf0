"""The load generator: an open-loop schedule, the connections under it, and the recording of both.

`plan` is what was asked for and `schedule` when each request of it is due. `generator` sends them
by the client of `wire`, each of whose connections is a `line`; `recorder` writes down what came of
it, and `summary` tells it in the end.

Its modules run in the load's own process; `zdtest.traffic` starts that, `zdtest.load` is it.
"""

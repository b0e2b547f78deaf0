"""Many processes, on as many machines, that send one load: workers send it, the master records it.

Only `load` needs what talks to Locust here; the judge reads `zdtest.records.crew`.
"""

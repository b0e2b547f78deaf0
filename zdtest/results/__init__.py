"""What runs said, and what many of them say together.

A `result` is one run in short. `claims` are what runs are about: `overview` puts all of one claim
side by side, and `foreseen` is how much of what failed was known before. A `release` are all
results of one version, in one file; `compare` takes two, and `releases` a folder of them.
"""

"""Mutants: systems, balancers and probers with one known fault, each of which must be caught."""

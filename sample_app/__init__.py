"""The app under the topologies: one stand-in for the guides' Spring Boot applications.

Run with ``python -m sample_app``; everything about it is said by the environment, see README.md.
"""

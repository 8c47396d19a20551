"""Planted bugs: each patch of this folder breaks one promise, and some test must notice.

`python -m tests.mutants [NAME...]` puts each into a copy of the project and runs the tests that are to catch it. A
check that cannot fail proves nothing. Shipped code knows nothing of this.
"""

"""Mutants: small edits of the package, each of which some test must notice.

`mutants/*.toml` lists them by area. `python -m tests.mutation` applies them one by one to a copy of the repository and runs their tests.
"""

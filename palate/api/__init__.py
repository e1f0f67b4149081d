"""Palate from Python: every stage as a function, and the parts underneath. `import palate` loads this when a name of it is used."""

"""HTTP to models and rewards that run elsewhere."""

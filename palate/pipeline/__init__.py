"""The table of stages, and what plans, runs, describes and lists them."""

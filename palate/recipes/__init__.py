"""One file a stage, and the machinery that reads, plans and runs them. This is where the other parts meet."""

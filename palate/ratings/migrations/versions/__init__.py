"""One file per version. Each names the version before it."""

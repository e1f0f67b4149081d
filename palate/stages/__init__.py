"""One file (online: one folder) a stage, and nothing else. A stage never imports another stage."""

"""The pages, one file a concern; each has a `router`."""

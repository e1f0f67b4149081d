"""The pages, with one file per topic. Each file has a `router`."""

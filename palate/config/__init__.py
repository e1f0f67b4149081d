"""Settings and their types. Reads settings from YAML and the command line, and loads functions by their import path."""

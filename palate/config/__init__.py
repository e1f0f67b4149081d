"""Settings and their types, reading them from YAML and the command line, and functions named by import path."""

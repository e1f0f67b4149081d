"""Which prompts the preferences reach, and which ones should be judged next."""

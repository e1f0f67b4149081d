"""Estimates before anything runs: the memory that stages need, what to change where it is short, and the time of an online step."""

"""Rewards: what gives a completion a score."""

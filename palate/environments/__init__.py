"""Games and robots whose clips are judged. Empty so far."""

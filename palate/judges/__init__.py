"""Models as judges: what they are asked, what they answer, what that costs, and how far people confirm it."""

"""Conversations to tokens and back; the only code that masks and the only code that batches."""

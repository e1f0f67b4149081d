"""An OpenAI-compatible server with filters and reranking. Empty so far."""

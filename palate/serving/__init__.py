"""The server that answers with OpenAI's API: it draws, ranks, checks, and keeps what users say."""

"""Requests to servers: JSON over HTTP, and models behind an OpenAI-compatible API."""

"""Hugging Face models as policies and scalar models over packed trees."""

"""A durable task queue between language models."""

__version__ = "0.1.0"

"""Texts as vectors: one contract, an embedder that needs nobody, and one behind OpenAI's API."""

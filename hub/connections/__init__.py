"""A socket's life, and the bytes that wait for it."""

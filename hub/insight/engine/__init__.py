"""Work that nobody waits for: taken from the durable queue, a few jobs at a time."""

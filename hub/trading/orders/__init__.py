"""Orders: their states, the rules between them, and the one engine that owns them."""

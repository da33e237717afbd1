"""The promises of protocol/README.md, checked from outside: of this hub, or of anybody's."""

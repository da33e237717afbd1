"""What is said between a client and the hub. Rule: nothing in here does I/O or reads a clock."""

VERSION = "krin.v1"
SUBPROTOCOL_JSON = "krin.v1.json"
SUBPROTOCOL_MSGPACK = "krin.v1.msgpack"

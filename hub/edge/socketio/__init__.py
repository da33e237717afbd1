"""Socket.IO: the hub's protocol for clients that speak that one."""

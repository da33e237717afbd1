"""What the generator does to a server, one module for each kind of load. Every one answers with plain figures."""

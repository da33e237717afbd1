"""The Model Context Protocol: what an agent may do here, as tools and resources."""

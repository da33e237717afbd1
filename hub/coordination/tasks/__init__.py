"""Tasks of a team: what may happen to one, what it is after that, and which wait for which."""

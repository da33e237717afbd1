"""Learning from the load: what will come, and what is out of the ordinary."""

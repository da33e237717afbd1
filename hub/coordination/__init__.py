"""Teams of specialists: who is there, who does what, and what comes next."""

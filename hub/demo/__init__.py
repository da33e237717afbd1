"""A simulated world to show the hub with: a market, a trader and a team of specialists. None of it is real."""

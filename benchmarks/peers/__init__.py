"""Others, measured beside us: the same payload, the same generator, the same cores, in alternating rounds."""

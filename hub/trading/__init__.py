"""Market data and trading: books, sources, replayed recordings, and a simulated market."""

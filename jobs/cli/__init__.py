"""Commands: what they run, in what order, and what they print."""

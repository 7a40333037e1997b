"""How a sweep stands: on the terminal, and as metrics."""

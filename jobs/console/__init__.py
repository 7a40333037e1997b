"""Progress bars, signals and output streams of the terminal.

Invariant: imports no other layer, so that every command can show something at once.
"""

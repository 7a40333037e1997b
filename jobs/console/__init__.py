"""Progress bars, signals and output streams of the terminal."""

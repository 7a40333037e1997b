"""Training images by name, from files and folders."""

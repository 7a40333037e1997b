"""Every path and name on disk: crash-safe writers, and readers that trust them."""

"""The HTTP front door: scores one signal at a time."""

"""Learn, judge, export and register models."""

"""From records of any source to one table of signals and one of outcomes."""

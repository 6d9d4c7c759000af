"""The scheduled front door: stages, flows, reports and the command line."""

"""The report of one run: gathered, drawn and written as one page."""

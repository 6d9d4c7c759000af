"""Bars, calendar, indicators and levels."""

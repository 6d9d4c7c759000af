"""The twelve model features, a function of the Signal alone."""

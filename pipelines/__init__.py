"""Contracts, market, baseline, features, targets, splits: everything below the models."""

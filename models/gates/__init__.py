"""Gates: each returns a GateResult with value, limit, reason and evidence."""

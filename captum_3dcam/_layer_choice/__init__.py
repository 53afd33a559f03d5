"""Which layers are worth explaining, found in a trial run."""

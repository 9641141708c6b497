"""Can the numbers be trusted: named checks over the whole database, and proofs that migrations lost nothing."""

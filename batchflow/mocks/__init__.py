"""Mock clusters: prior, noise, shards."""

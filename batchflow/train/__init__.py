"""Fitting the flow to mock shards."""

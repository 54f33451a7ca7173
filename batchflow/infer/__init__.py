"""Posteriors of a catalogue: draws, weights, summaries."""

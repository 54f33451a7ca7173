"""Questions to the results of a run."""

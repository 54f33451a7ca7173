"""Whole jobs as batch jobs: scripts, submission, the jobs of a run."""

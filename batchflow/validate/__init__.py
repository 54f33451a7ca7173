"""Calibration on mocks, and comparison with published values."""

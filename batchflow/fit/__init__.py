"""The classical fit of a catalogue: chi2 on a regular grid, and the exact posterior on an adaptive one."""

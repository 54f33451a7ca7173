"""The sections of a job file: frozen, validated settings, a module each."""

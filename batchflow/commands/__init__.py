"""The commands, by what they are about; `batchflow.cli` puts them together."""

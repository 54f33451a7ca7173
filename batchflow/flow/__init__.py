"""The conditional normalizing flow and its model folder."""

"""Watching a reproduction: what DVC and its stages say, as a live view on a terminal and as lines elsewhere."""

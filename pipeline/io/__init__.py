"""Atomic and checksummed files, files of arrays, and progress bars."""

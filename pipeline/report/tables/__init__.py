"""Tables of formatted text, and their file formats."""

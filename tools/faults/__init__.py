"""Make a stage's writes fail, one at a time."""

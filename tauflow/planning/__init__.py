"""Plan a reproduction: the stages it would run, and their cost."""

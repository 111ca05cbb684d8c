"""Results side by side: paradigms, revisions, seeds, the literature."""

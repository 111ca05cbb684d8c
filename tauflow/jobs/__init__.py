"""Several stages at once, on Ray (``tauflow repro --jobs``)."""

"""Run a stage: parameters, errors, processes, a preloaded interpreter."""

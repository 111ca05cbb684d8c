"""MLflow: the journals that stages write, the tracker that logs them, the runs that people compare."""

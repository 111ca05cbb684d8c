"""Sources of tasks' images and of models' weights."""

"""Where the images of tasks and the weights of models come from."""

"""Other projects' checkpoints: reading them as task vectors, and writing an edited CLIP in their formats."""

"""Start a study, a repository of its own, and bring it to another version of Tauflow."""

"""The tool around the library: what runs a stage, tracks it, and the command line.

Nothing here can change a stage's outputs, so no stage declares it as a dependency.
"""

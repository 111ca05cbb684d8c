"""Task arithmetic on CLIP image encoders: the library behind the DVC stages.

The packages are layers, and an import only points down; see ``docs/decisions.md``.
"""

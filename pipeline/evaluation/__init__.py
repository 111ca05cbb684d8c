"""Everything is an edit: accuracies of edited models, the coefficient search, and their intervals.

Nothing is imported here: ``correctness``, ``intervals`` and ``comparison`` read arrays and need neither torch nor
open_clip, which take seconds to import.
"""

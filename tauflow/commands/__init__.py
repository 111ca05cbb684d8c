"""The subcommands of ``tauflow``, one module each.

Nothing heavy is imported here before a command runs, so that ``tauflow --help`` and completion stay fast.
"""

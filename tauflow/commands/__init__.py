"""The subcommands of ``tauflow``, one module per group.

Nothing heavy is imported here before a command runs, so that ``tauflow --help`` and completion stay fast.
"""

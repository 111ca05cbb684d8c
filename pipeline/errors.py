"""The one kind of error that is shown to a user without a traceback."""


class UserError(Exception):
    """A mistake that the user can mend.

    The message is one line that says what is wrong, where, and what to do.
    """

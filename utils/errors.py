"""The error for what a user can cause and correct."""


class UserError(Exception):
    """Says what is wrong (the value), where (file, key, recording) and what to do.

    Scripts print its text without a traceback and end with exit code 1.
    """

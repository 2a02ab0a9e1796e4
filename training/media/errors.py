"""The ways in which a command fails."""


class UserError(Exception):
    """Bad usage or bad input: the command prints `error: MESSAGE` on stderr and exits with 2.

    The message is one line: what was given, what was expected, and what to do about it.
    """


class GateFailed(Exception):  # noqa: N818 - a verdict, not a malfunction
    """A quality gate was measured and not passed: the command prints the message on stderr and exits with 1."""


class InputsSkipped(Exception):  # noqa: N818 - most of the work was done
    """Some of several inputs could not be used: the rest is done, the command prints the message and exits with 1."""

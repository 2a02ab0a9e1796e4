"""The two ways a command may end other than well."""


class UserError(Exception):
    """Bad usage or bad input: the command prints `error: MESSAGE` on stderr and exits with 2.

    The message is one line that says what was got, what was expected and what to do about it.
    """


class GateFailed(Exception):  # noqa: N818 - a gate that fails is a verdict, not a malfunction
    """A quality gate was measured and not met: the command prints the message on stderr and exits with 1."""

"""How a command ends that says it in words of its own: an error that no other class has, or Ctrl-C."""

from models.errors import ExitCode, UserError


class Interrupted(Exception):  # noqa: N818 the user's wish is not an error
    """The user stopped the command with Ctrl-C; the message says how to go on."""

    exit_code = ExitCode.INTERRUPTED


class Failure(UserError):  # noqa: N818 the word of the command line
    """What a command finds wrong itself, or another's error in other words or with another exit code than its own."""

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = exit_code

"""The user's mistakes that end a command: one clear line on stderr and an exit status, never a traceback."""

# The command could not do its work.  1 is what `check` and `demo` say when they did it and found problems.
CANNOT_RUN = 2


class Failure(Exception):  # noqa: N818 - it is the command's outcome, not a programming error
    """Ends a command with `message` on stderr and `exit_code` as its status."""

    def __init__(self, message: str, *, exit_code: int = CANNOT_RUN) -> None:
        super().__init__(message)
        self.exit_code = exit_code

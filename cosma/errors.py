"""What can go wrong, in the words shown to a person, each with its exit code."""


class CosmaError(Exception):
    """Base class; the message is one line that names the object, the value and the remedy."""

    exit_code = 1


class InputError(CosmaError):
    """A file, flag or figure that cannot be used."""

    exit_code = 2


class VerificationError(CosmaError):
    """A plan that the independent replay rejects. The violations are itemised.

    Attributes:
        violations: one line each, in the order in which the replay met them.
    """

    exit_code = 4

    def __init__(self, message: str, violations: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.violations = violations


INFEASIBLE_EXIT_CODE = 3
EXCEEDED_EXIT_CODE = 5
INTERRUPTED_EXIT_CODE = 130

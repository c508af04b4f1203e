"""The entry point and the group that all commands belong to."""

import errno
import sys

import click

from cosma import __version__
from cosma.cli import streams
from cosma.cli.streams import complain
from cosma.errors import INTERRUPTED_EXIT_CODE, CosmaError, InputError, VerificationError


def main() -> None:
    """Entry point. Exit codes: 0 fine, 2 bad input, 3 infeasible, 4 verification failed, 5 a limit of check exceeded,
    130 interrupted."""
    streams.prepare()
    try:
        code = _run()
        sys.stdout.flush()
    except streams.UnwritableError as error:
        code = 0
        if error.errno != errno.EPIPE:  # or else the reader of our output has gone, as with "| head"
            complain(f"cosma: error: cannot write standard output: {error}; send it elsewhere")
            code = InputError.exit_code
    streams.leave(code)


def _run() -> int:
    """Run the command, say in one line what went wrong, and return the exit code."""
    try:
        return cli.main(standalone_mode=False) or 0
    except CosmaError as error:
        complain(f"cosma: error: {error}")
        if isinstance(error, VerificationError):
            for violation in error.violations:
                streams.say(f"  {violation}", err=True)
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        help_of = f"; see '{context.command_path} --help'" if context else ""
        complain(f"cosma: error: {error.format_message()}{help_of}")
        return error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        said = str(error.__cause__ or error)  # click wraps the interrupt
        complain(f"cosma: interrupted; {said or 'no output file was touched'}")
        return INTERRUPTED_EXIT_CODE


class _Commands(click.Group):
    """Commands whose arguments click reads too kindly: it keeps the last of two values, and takes any digits."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, as click does. Raises InputError for options of one value that are given twice, and for
        numbers that are not written with the digits 0 to 9.
        """
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            inner = click.Context(command, info_name=name, parent=ctx, resilient_parsing=True)
            values, _, order = command.make_parser(inner).parse_args(list(rest))
            for option in (p for p in command.params if isinstance(p, click.Option)):
                harmless = option.multiple or (option.is_flag and not option.secondary_opts)
                if order.count(option) > 1 and not harmless:
                    names = "/".join([option.opts[-1], *option.secondary_opts])
                    raise InputError(f"{names} is given twice; leave one of the two out")
                text = values.get(option.name)
                is_number = isinstance(option.type, click.types.IntParamType | click.types.FloatParamType)
                if is_number and isinstance(text, str) and not (text.isascii() and "_" not in text):
                    raise InputError(f"{option.opts[-1]} {text!r}: write a number with the digits 0 to 9")
        return name, command, rest


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="cosma")
def cli() -> None:
    """Plan how a neural network uses a small scratchpad: schedule, addresses and transfers together.

    \b
    Example: cosma compile models/resnet50.onnx --hw coral_edge_tpu --dtype int8 -o plan.json
    Exit codes: 0 a verified plan, 2 bad input, 3 infeasible, 4 verification failed, 5 a limit of check exceeded,
    130 interrupted.
    """

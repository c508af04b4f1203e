"""The entry point and the group that all commands belong to."""

import sys

import click

from cosma import __version__
from cosma.errors import INTERRUPTED_EXIT_CODE, CosmaError, VerificationError


def main() -> None:
    """Entry point. Exit codes: 0 fine, 2 bad input, 3 infeasible, 4 verification failed, 5 a limit of check exceeded,
    130 interrupted."""
    try:
        code = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except CosmaError as error:
        click.echo(f"cosma: error: {' '.join(str(error).split())}", err=True)
        if isinstance(error, VerificationError):
            for violation in error.violations:
                click.echo(f"  {violation}", err=True)
        code = error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        help_of = f"; see '{context.command_path} --help'" if context else ""
        click.echo(f"cosma: error: {' '.join(error.format_message().split())}{help_of}", err=True)
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        said = str(error.__cause__ or error)  # click wraps the interrupt
        click.echo(f"cosma: interrupted; {said or 'no output file was touched'}", err=True)
        code = INTERRUPTED_EXIT_CODE
    except BrokenPipeError:  # the reader of our output has gone, as with "| head"
        sys.stderr.close()
        code = 0
    sys.exit(code or 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="cosma")
def cli() -> None:
    """Plan how a neural network uses a small scratchpad: schedule, addresses and transfers together.

    \b
    Example: cosma compile models/resnet50.onnx --hw coral_edge_tpu --dtype int8 -o plan.json
    Exit codes: 0 a verified plan, 2 bad input, 3 infeasible, 4 verification failed, 5 a limit of check exceeded,
    130 interrupted.
    """

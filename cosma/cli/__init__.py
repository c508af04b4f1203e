"""The command line: parses, calls, prints. Heavy imports happen inside the commands."""

from cosma.cli import compare, compile_, judge, look, report, run, whatif
from cosma.cli.main import cli, main

__all__ = ["main"]

for command in (
    compile_.compile_command, run.run_command, look.verify_command, report.report_command, look.inspect_command,
    compare.compare_command, whatif.whatif_command, judge.diff_command, judge.check_command,
    look.specs_command, look.solvers_command,
):  # fmt: skip
    cli.add_command(command)

"""The command line: parses, calls, prints. One file a command; heavy imports happen inside the commands."""

from cosma.cli import check, compare, compile, diff, inspect, report, run, solvers, specs, verify, whatif
from cosma.cli.main import cli, main

__all__ = ["main"]

for command in (
    compile.compile_command, run.run_command, verify.verify_command, report.report_command, inspect.inspect_command,
    compare.compare_command, whatif.whatif_command, diff.diff_command, check.check_command,
    specs.specs_command, solvers.solvers_command,
):  # fmt: skip
    cli.add_command(command)

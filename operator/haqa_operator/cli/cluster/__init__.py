"""`kubectl haqa`: the commands for a cluster's tunings."""

from haqa_operator.cli.cluster.commands import add_commands, is_file, resume_tuning, write_report

__all__ = ["add_commands", "is_file", "resume_tuning", "write_report"]

"""Commands run in this process."""

from modelkit import cli


def run(capsys, *arguments):
    """The status of a command, and what it printed."""
    status = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err

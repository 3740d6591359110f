"""The command lines of prepare_datasets, called in this process."""

import contextlib
import importlib
import io
import sys
from unittest import mock

from prepare_datasets.preparation import exit_code


def call_script(name, *arguments):
    """Call a script with its arguments; returns exit code, standard output and standard error."""
    main = importlib.import_module(f"prepare_datasets.{name.removesuffix('.py')}").main
    out, err = io.StringIO(), io.StringIO()
    arguments = [name, *map(str, arguments)]
    if name.startswith("prepare_") and "--jobs" not in arguments:
        arguments[1:1] = ["--jobs", "1"]
    with (
        mock.patch.object(sys, "argv", arguments),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            code = exit_code(main)
        except SystemExit as end:  # from argparse
            code = end.code
    return code, out.getvalue(), err.getvalue()

"""What ends work that is otherwise sound."""

from __future__ import annotations


class Stopped(RuntimeError):
    """Work that could not be finished, for a reason that lies outside the program: the sentence says how to go on, and
    the command line shows it alone."""

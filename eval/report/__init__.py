"""What people look at: the report's page, its parts and charts, and the tables of a terminal.

Everything here shows what the rest of `flarekit.eval` has found, and finds nothing itself.
"""

from flarekit.eval.report.page import write_report

__all__ = ["write_report"]

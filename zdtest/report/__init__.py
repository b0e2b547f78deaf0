"""The report of a run, of many, and of releases: self-contained HTML, by pandas and Matplotlib.

The only place that imports them, so import it when a report is wanted and not before.
"""

from zdtest.report.history import write_history
from zdtest.report.index import write_index
from zdtest.report.page import write_report

__all__ = ["write_history", "write_index", "write_report"]

"""One line for each cause: an outage of Datadog is one, however many views it hits."""

from etl.formatting import cause_lines

__all__ = ["cause_lines"]

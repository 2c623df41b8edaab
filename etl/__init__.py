"""Datadog replay heatmap snapshots, kept over time in a relational database."""

__version__ = "0.1.0"
DOCUMENTATION = "https://github.com/heatmap-etl/heatmap-etl/tree/main/docs"

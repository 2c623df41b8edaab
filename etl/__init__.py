"""Datadog replay heatmap snapshots, kept over time in a relational database."""

__version__ = "0.1.0"

"""Krin: one hub through which dashboards, trading clients and agents see the same facts, in order."""

__version__ = "0.1.0"

"""Execution: what becomes of a plan. The scheduler says which task is next, the worker does one task."""

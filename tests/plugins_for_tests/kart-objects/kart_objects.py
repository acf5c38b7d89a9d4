"""Announces a class that is no plugin."""


class Objects:
    pass

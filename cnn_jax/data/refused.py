"""The error of a file that is an image of a kind that is not read."""


class RefusedError(Exception):
    """A file is no image that is read; the text says what it is, and how to convert it."""

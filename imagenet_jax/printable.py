"""Text of users and of files, for a terminal or a picture: it may hold anything."""


def printable(text: object) -> str:
    """A name, on one line: what steers a terminal, and bytes that are not UTF-8, are replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def printable_lines(text: str) -> str:
    """The same for text that has line breaks and tabs of its own."""
    return "".join(c if c in "\n\t" else printable(c) for c in text)

"""What others say, made fit for a terminal."""


def printable(text: str) -> str:
    """What others say must not write lines, move the cursor or turn the reading order: such characters are escaped."""
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)

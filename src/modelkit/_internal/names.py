"""Names that were misspelt."""

from collections.abc import Iterable


def did_you_mean(name: str, others: Iterable[object]) -> str:
    """What a message about an unknown name adds: the likely one of the others, or nothing.

    The likely one differs in case or blanks only, or is a close match.
    """
    import difflib

    known = list(map(str, others))
    alike = [other for other in known if other.strip().casefold() == name.strip().casefold()]
    likely = alike or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f" (is it {likely[0]!r}?)" if likely else ""

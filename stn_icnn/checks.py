"""Refusing settings, arguments and what files say, in words of one form."""


def require(holds: bool, name: str, expected: str, got: object) -> None:
    """Refuses a setting, or an argument.

    Raises:
        ValueError: naming the field, what is allowed and what was given, unless `holds`.
    """
    if not holds:
        raise ValueError(f"{name} must be {expected}, got {got}")

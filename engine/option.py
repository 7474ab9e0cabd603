"""An attribute that a part of a network or of a run may have."""

from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Option(Generic[T]):
    """An attribute that a part may have, and the value that stands in where it has none."""

    def __init__(self, default: T) -> None:
        self.default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def of(self, part: Any) -> T:
        """The attribute of a part, or of its class, else the default."""
        return getattr(part, self.name, self.default)

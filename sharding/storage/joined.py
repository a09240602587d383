"""Places that lie apart, read as the folders of one."""

from dataclasses import dataclass

from stn_icnn.storage import ReadableLocation


@dataclass(frozen=True)
class JoinedLocation:
    """Several locations under one root, each as the folder of a name; see `ReadableLocation`.

    Attributes:
        folders: the name of each folder, with the location that it stands for.
    """

    folders: tuple[tuple[str, ReadableLocation], ...]

    @property
    def url(self) -> str:
        """The addresses of all, each with its name."""
        return ", ".join(f"{name} {location.url}" for name, location in self.folders)

    def url_of(self, path: str) -> str:
        """Returns the full address of `path`."""
        location, rest = self._at(path)
        return location.url_of(rest) if rest else location.url

    def read(self, path: str) -> bytes:
        """Returns the whole file."""
        location, rest = self._at(path)
        return location.read(rest)

    def list(self, under: str = "") -> list[str]:
        """Returns the path of every file below `under`, sorted."""
        if not under:
            return sorted(path for name, _ in self.folders for path in self.list(name))
        location, rest = self._at(under)
        folder = under.partition("/")[0]
        return [f"{folder}/{path}" for path in location.list(rest)]

    def _at(self, path: str) -> tuple[ReadableLocation, str]:
        """Returns the location of a path's folder, and the path in it."""
        folder, _, rest = path.partition("/")
        for name, location in self.folders:
            if name == folder:
                return location, rest
        raise FileNotFoundError(f"{path} is in none of the folders {self.url}")

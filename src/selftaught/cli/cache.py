"""`selftaught cache [--clear]`"""

from dataclasses import dataclass

from .. import data
from .arguments import Common, parse
from .outcome import emit


@dataclass(kw_only=True)
class Arguments(Common):
    clear: bool = False
    """Remove every packed set; sources are untouched."""


def run(argv: list[str]) -> None:
    arguments = parse(
        Arguments, argv, "cache", "Where packed data lie (SELFTAUGHT_CACHE moves it) and how large they are."
    )
    folder, size = data.cache_folder(), data.cache_size()
    if arguments.clear:
        data.clear_cache()
    words = f"{folder}: {size / 1e6:.1f} MB" + (", removed" if arguments.clear else "")
    emit({"folder": str(folder), "bytes": size, "cleared": arguments.clear}, arguments.json, words)

"""Files fetched into a cache, with a checksum."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unspool.data._errors import DataError, MissingDataError

DOWNLOAD_TIMEOUT_SECONDS = 20


def download(name: str, cache: Path, mirrors: Sequence[str], *, known_hash: str, called: str) -> Path:
    """Download a file into a directory with pooch; on failure or a wrong checksum, nothing is left there.

    Parameters
    ----------
    name : str
        The file's name, on the mirrors and in the directory.
    cache : Path
        The directory to download to; created if missing.
    mirrors : sequence of str
        Addresses to download from, tried in order; each ends in ``/``.
    known_hash : str
        The checksum that the file must have, after the name of the algorithm and a colon.
    called : str
        Name of the data set in errors.

    Raises
    ------
    MissingDataError
        If no mirror has the file, or its checksum is another.
    DataError
        If pooch is not installed, or the file cannot be kept.
    """
    try:
        import pooch
        from requests.exceptions import RequestException
    except ModuleNotFoundError as error:
        raise DataError(
            f"{called} is not in {cache}, and a download needs pooch, which is not installed.\n"
            "Install it with: pip install 'unspool[train]', or name a directory that has the files with --data-dir"
        ) from error
    pooch.get_logger().setLevel("WARNING")
    # Any, because pooch's own downloader does not have the parameter names of pooch's protocol for downloaders.
    downloader: Any = pooch.HTTPDownloader(timeout=DOWNLOAD_TIMEOUT_SECONDS)
    failures = []
    for mirror in mirrors:
        try:
            path = pooch.retrieve(
                f"{mirror}{name}", known_hash=known_hash, fname=name, path=cache, downloader=downloader
            )
        except RequestException as error:
            failures.append(f"{mirror}: {_reason(error)}")
        except ValueError as error:
            failures.append(f"{mirror}: {error}")
        except OSError as error:
            raise DataError(
                f"cannot keep {called} in {cache}: {error}.\n"
                "Name another cache with UNSPOOL_CACHE_DIR, or a directory that has the files with --data-dir"
            ) from error
        else:
            return Path(path)
    raise MissingDataError(
        f"{called} is not in {cache}, and {name} cannot be downloaded ({'; '.join(failures)}).\n"
        f"Name a directory that has {called} with --data-dir or UNSPOOL_DATA_DIR, or connect to the network"
    )


def _reason(error: Exception) -> str:
    """Summarise the root cause of an error of requests, which nests several."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"{response.status_code} {response.reason}"
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    return f"{type(cause).__name__}: {cause}" if str(cause) else type(error).__name__

"""The boundary of readers, and the bounds of what they unpack."""

import gzip
import io
import lzma
import resource
import zipfile

import numpy as np
import pytest

from unspool._reading import (
    FREE_BYTES,
    TooLargeError,
    brief,
    damage_as,
    open_archive,
    parsed_json,
    read_array,
    read_arrays,
    unpack,
)


class Documented(RuntimeError):
    """What a reader says that it raises."""


class PanicException(BaseException):
    """Of the name that Rust's libraries use."""


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (KeyError("x"), "there is no 'x'"),
        (RecursionError("maximum"), "it is nested too deeply"),
        (MemoryError(), "it asks for more memory than there is"),
        (AttributeError(), "AttributeError"),
        (ValueError("two\n  lines"), "two lines"),
        (PanicException("no entry"), "no entry"),
        (OSError("y" * 999), "y" * 299),
    ],
)
def test_whatever_is_raised_becomes_the_documented_error(cause, reason):
    with pytest.raises(Documented) as caught, damage_as(Documented, "file.x: damaged", "fetch it again"):
        raise cause
    assert str(caught.value).startswith(f"file.x: damaged ({reason}")
    assert str(caught.value).endswith("); fetch it again")
    assert caught.value.__cause__ is cause


def test_documented_errors_and_interruptions_pass():
    for error in (Documented("as it is"), KeyboardInterrupt(), SystemExit(3), FileNotFoundError("gone")):
        with pytest.raises(type(error)) as caught, damage_as(Documented, "x", passing=(FileNotFoundError,)):
            raise error
        assert caught.value is error
    with pytest.raises(ValueError, match=r"x \(of a library\)"), damage_as(ValueError, "x"):
        raise ValueError("of a library")


@pytest.mark.parametrize("kind", ["gzip", "xz"])
def test_a_stream_is_unpacked_to_the_bound_and_no_further(kind):
    packed = io.BytesIO()
    with gzip.open(packed, "wb", 1) if kind == "gzip" else lzma.open(packed, "wb", preset=0) as file:
        for _ in range(300):
            file.write(bytes(1 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TooLargeError, match=r" bytes in a file of .*; expected at most 64"):
        unpack(packed.getvalue())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 3 * FREE_BYTES / 1024
    assert unpack(gzip.compress(b"a") + gzip.compress(b"b")) == b"ab"
    assert unpack(b"plain") == b"plain"


def test_members_of_an_archive_are_counted_together():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in "ab":
            archive.writestr(name, bytes(FREE_BYTES // 2 + 1))
    with pytest.raises(TooLargeError, match="67,108,866 bytes in a file of"), open_archive(packed):
        pass


def npy(shape: tuple[int, ...], content: bytes = b"", descr: str = "<f4") -> io.BytesIO:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    file.write(content)
    file.seek(0)
    return file


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (npy((12 * 10**12,)), r"0 bytes of an array of shape \(12000000000000,\), which has 48,000,000,000,000"),
        (npy((2**40, 2**40)), "0 bytes of an array"),
        (npy((3,), bytes(13)), "13 bytes of an array"),
        (npy((10**9,), descr="|S0"), "expected numbers"),
        (npy((1,), bytes(8), "|O"), "expected numbers"),
    ],
)
def test_a_header_is_compared_with_what_there_is(file, message):
    with pytest.raises(ValueError, match=message):
        read_array(file, len(file.getvalue()))


def test_arrays_of_an_archive_are_checked_to_their_ends():
    file = io.BytesIO()
    np.savez(file, a=np.arange(6).reshape(2, 3), b=np.ones(2))
    arrays = read_arrays(file)
    assert list(arrays) == ["a", "b"]
    np.testing.assert_array_equal(arrays["a"], np.arange(6).reshape(2, 3))
    assert list(read_arrays(file, ["b"])) == ["b"]
    damaged = bytearray(file.getvalue())
    damaged[damaged.index(np.ones(1).tobytes())] ^= 1
    with pytest.raises(zipfile.BadZipFile, match="CRC"):
        read_arrays(io.BytesIO(bytes(damaged)))


def test_what_holds_itself_is_shown_in_short():
    nest: list[object] = ["x" * 1000] * 10
    for _ in range(60):
        nest = [nest] * 10
    assert len(brief(nest)) < 1000


def test_whole_numbers_of_json_are_those_that_computers_have():
    assert parsed_json(f"[{2**64 - 1}, -3, 0.5]") == [2**64 - 1, -3, 0.5]
    with pytest.raises(ValueError, match="has 30 digits; expected one of at most 64 bits"):
        parsed_json('{"seconds": 1' + "0" * 29 + "}")

import numpy as np
import pytest

from tests.data.real import directory_with
from unspool.data import DataError, check_regular, counts_of, read_source, read_ts, read_tsf

TS = """# remark
@problemName Two
@timeStamps false
@classLabel true a b
@data
1,?,5:2,4.5,-6:a
7:8:b
"""
TIMED = """@timeStamps true
@targetLabel true
@data
(2024-01-01 00:00:00,1),(2024-01-01 01:00:00,2):(2024-01-01 00:00:00,?),(2024-01-01 01:00:00,4):0.5
(2024-01-02 00:00:00,7):(2024-01-02 00:00:00,8):-1
"""
TSF = """# remark
@relation Two
@attribute series_name string
@attribute start_timestamp date
@frequency monthly
@data
T1:1979-11-01 00-00-00:1,2,?,4
T2:1980-01-01 00-00-00:5
"""


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_ts_has_classes_or_numbers_gaps_and_times(tmp_path):
    found = read_source(write(tmp_path / "x.ts", TS))
    assert (found.features, found.ids, found.class_names) == (("channel 1", "channel 2"), ("1", "2"), ("a", "b"))
    np.testing.assert_array_equal(found.values[0], [[1, 2], [np.nan, 4.5], [5, -6]])
    timed = read_source(write(tmp_path / "y.ts", TIMED))
    assert isinstance(timed.targets, np.ndarray)
    assert (timed.targets.tolist(), timed.class_names) == ([0.5, -1], ())
    np.testing.assert_array_equal(timed.values[0], [[1, np.nan], [2, 4]])
    assert timed.times is not None
    assert [str(time)[:19] for time in timed.times[0]] == ["2024-01-01T00:00:00", "2024-01-01T01:00:00"]
    assert read_ts(tmp_path / "y.ts")[1] == ["0.5", "-1"]
    classes = read_source(tmp_path / "y.ts", target_kind="classes", class_names=["0.5", "-1"])
    assert isinstance(classes.targets, np.ndarray)
    assert classes.targets.tolist() == [0, 1]


def test_tsf_has_names_and_times(tmp_path):
    found = read_source(write(tmp_path / "x.tsf", TSF))
    assert (found.ids, found.lengths.tolist(), found.missing) == (("T1", "T2"), [4, 1], {"value": 1})
    assert found.times is not None
    assert [str(time)[:10] for time in found.times[0]] == ["1979-11-01", "1979-12-01", "1980-01-01", "1980-02-01"]
    assert str(check_regular(found)) == "1 month"
    for old, new, message in (
        (":5\n", ":5,x\n", "line 8: no series .*'x'"),
        ("T2:", "", "line 8: 4 fields|line 8: 2 fields; expected 3"),
        ("monthly", "often", "line 5: the frequency 'often'; expected one of monthly"),
        ("1980-01-01", "1980-13-01", "line 8: '1980-13-01 00-00-00' is no date"),
    ):
        with pytest.raises(DataError, match=message):
            read_tsf(write(tmp_path / "x.tsf", TSF.replace(old, new)))


def test_a_folder_has_one_sequence_per_file_and_labels_in_its_names_or_in_a_table(tmp_path):
    for name, content in {"run/1.csv": "a\n1\n2\n", "walk/1.csv": "a\n3\n", "walk/2.csv": "a\n4\n"}.items():
        write(tmp_path / "in" / name, content)
    found = read_source(tmp_path / "in", labels="folder")
    assert found.ids == ("run/1.csv", "walk/1.csv", "walk/2.csv")
    assert counts_of(found) == {"run": 1, "walk": 2}
    table = write(
        tmp_path / "in" / "labels.csv", "file,who,speed\nwalk/2,u,1\nrun/1.csv,v,9.5\nother,w,0\nwalk/1,u,2\n"
    )
    again = read_source(tmp_path / "in", labels=table, target="speed", group_column="who")
    assert isinstance(again.targets, np.ndarray)
    assert (again.targets.tolist(), again.groups) == ([9.5, 2, 1], ("v", "u", "u"))
    assert len(read_source(str(tmp_path / "in" / "*" / "1.csv"))) == 2
    with pytest.raises(DataError, match=r"labels\.csv: the columns 'file', 'who', 'speed'; name the one of the labels"):
        read_source(tmp_path / "in", labels=table)
    write(table, "file,y\nwalk/2,u\nrun/1.csv,v\n")
    with pytest.raises(
        DataError, match=r"no row for the sequence 'walk/1\.csv' in the column 'file'; there are 'run/1"
    ):
        read_source(tmp_path / "in", labels=table)


def test_arrays(tmp_path):
    block = np.arange(24.0, dtype=np.float32).reshape(2, 4, 3)
    np.save(tmp_path / "x.npy", block)
    np.savez(tmp_path / "x.npz", x=block, lengths=[4, 2], labels=["b", "a"], features=["p", "q", "r"], groups=[1, 1])
    np.savez(tmp_path / "y.npz", first=block[0], second=block[1, :2], targets=[[1.5, 2], [3, 4]])
    plain, one, two = (read_source(tmp_path / name) for name in ("x.npy", "x.npz", "y.npz"))
    assert (plain.lengths.tolist(), plain.values[0].dtype) == ([4, 4], np.float32)
    assert (one.lengths.tolist(), one.class_names, one.groups) == ([4, 2], ("a", "b"), ("1", "1"))
    assert (two.ids, two.features) == (("first", "second"), ("channel 1", "channel 2", "channel 3"))
    for found in (one, two):
        np.testing.assert_array_equal(found.values[1], block[1, :2])
    assert isinstance(two.targets, np.ndarray)
    assert two.targets.tolist() == [[1.5, 2], [3, 4]]
    (tmp_path / "many").mkdir()
    for place in range(3):
        np.save(tmp_path / "many" / f"{place}.npy", np.arange(place + 1))
    assert read_source(tmp_path / "many").lengths.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((2, 3, 1)), "lengths": [3, 4]}, "expected a whole number from 1 to 3 for each of the 2"),
        ({"x": np.zeros((2, 3, 1)), "lengths": [3, 0]}, "sequence '2' has no steps"),
        ({"x": np.zeros((2, 3, 1)), "lengths": [3, -1]}, "expected a whole number from 1 to 3"),
        ({"x": np.full((2, 3, 1), np.inf)}, "sequence '1', step 1: 'value' is inf"),
        ({"x": np.zeros((2, 1)), "y": np.zeros((2, 2))}, r"sequence 'y' has shape \(2, 2\)"),
        ({"x": np.zeros((2, 1)), "labels": ["a", "b"]}, "1 sequences and 2 targets"),
        ({"x": np.zeros((2, 1)), "features": ["a", "b"]}, r"sequence 'x' has shape \(2, 1\)"),
        ({"x": np.zeros((2, 3, 1)), "labels": [1, 1]}, "every label in the column 'label' is '1'"),
        ({"x": np.zeros((2, 3, 1)), "ids": ["a", "a"]}, "two sequences are called 'a'"),
        ({"labels": [1, 1]}, "no sequences; expected at least one array"),
    ],
)
def test_bad_arrays_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_source(tmp_path / "x.npz")


def test_what_is_no_source_is_refused(tmp_path):
    write(tmp_path / "a.csv", "a\n1\n")
    write(tmp_path / "b.ts", TS)
    with pytest.raises(DataError, match=r"files of several kinds \(1 \.csv, 1 \.ts\); expected one"):
        read_source(tmp_path)
    with pytest.raises(DataError, match=r"b\.ts: received target; a \.ts file has no columns to name"):
        read_source(tmp_path / "b.ts", target="x")
    with pytest.raises(DataError, match="not in a folder beside others"):
        read_source(tmp_path / "a.csv", labels="folder")
    with pytest.raises(DataError, match="no files of data there"):
        read_source(tmp_path / "*.parquet")
    with pytest.raises(DataError, match="no such file"):
        read_source(tmp_path / "c.csv")
    with pytest.raises(DataError, match="line 4: no label at the end"):
        read_source(write(tmp_path / "t.ts", "@timeStamps true\n@classLabel true a\n@data\n7:a\n"))


def test_published_sets_are_read():
    motions = read_source(directory_with("motions") / "motions" / "BasicMotions_TRAIN.ts")
    assert (len(motions), len(motions.features), set(motions.lengths.tolist())) == (40, 6, {100})
    assert set(counts_of(motions).values()) == {10}
    deaths = read_source(directory_with("covid3month") / "covid3month" / "Covid3Month_TEST.ts")
    assert isinstance(deaths.targets, np.ndarray)
    assert (deaths.targets.shape, deaths.targets.dtype, deaths.features) == ((61,), np.float64, ("value",))

import gzip
import json
import lzma

import numpy as np
import polars as pl
import pytest

from unspool.data import DataError, read_table

LONG = """id,t,a,b,fan,y,site,v
m2,1,1.5,,on,yes,x,3
m1,5,2,1,off,no,z,1.5
m2,2,2.5,7,on,yes,x,3
m1,6,3,NA,,no,z,1.5
m2,4,-1e3,8,low,yes,x,3
"""


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def long(path, **named):
    return read_table(path, sequence_column="id", time_column="t", **named)


def test_rows_become_sequences_with_names_for_all_that_they_hold(tmp_path):
    path = write(tmp_path / "long.csv", LONG)
    found = long(path, features=["a", "b", "fan"], target="y", group_column="site")
    assert (found.ids, found.groups, found.class_names) == (("m2", "m1"), ("x", "z"), ("no", "yes"))
    assert found.categories == {"fan": ("low", "off", "on")}
    np.testing.assert_array_equal(found.values[0], [[1.5, np.nan, 3], [2.5, 7, 3], [-1000, 8, 1]])
    np.testing.assert_array_equal(found.values[1], [[2, 1, 2], [3, np.nan, 0]])
    assert isinstance(found.targets, np.ndarray)
    assert found.targets.tolist() == [1, 0]
    assert found.times is not None
    assert [times.tolist() for times in found.times] == [[1, 2, 4], [5, 6]]
    assert found.missing == {"b": 2, "fan": 1}
    again = long(path, features=["fan"], categories={"fan": ["on"]}, target="y", class_names=["yes", "no"])
    assert [array[:, 0].tolist() for array in again.values] == [[1, 1, 0], [0, 0]]
    assert isinstance(again.targets, np.ndarray)
    assert again.targets.tolist() == [0, 1]


def test_targets_are_numbers_or_stand_at_every_step(tmp_path):
    path = write(tmp_path / "long.csv", LONG)
    found = long(path, target=["v"])
    assert found.features == ("a", "b"), "all columns of numbers that have no other meaning"
    assert isinstance(found.targets, np.ndarray)
    assert found.targets.tolist() == [3, 1.5]
    assert long(path, target="v", target_kind="classes").class_names == ("1.5", "3")
    steps = long(path, features=["a"], target=["a", "b"], per_step=True).targets
    assert isinstance(steps, list)
    np.testing.assert_array_equal(steps[1], [[2, 1], [3, np.nan]])
    fans = long(path, features=["a"], target="fan", per_step=True)
    assert isinstance(fans.targets, list)
    assert [part.tolist() for part in fans.targets] == [[2, 2, 0], [1, -100]]


def as_rows():
    header, *lines = LONG.splitlines()
    return [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]


def test_every_kind_of_table_gives_the_same(tmp_path):
    frame = pl.DataFrame(
        [{key: float(row[key]) if key in ("t", "a", "v") else row[key] or None for key in row} for row in as_rows()]
    ).with_columns(pl.col("b").replace("NA", None).cast(pl.Float64))
    frame.write_parquet(tmp_path / "x.parquet")
    lines = "".join(json.dumps(row) + "\n" for row in frame.to_dicts())
    write(tmp_path / "x.csv", LONG)
    write(tmp_path / "x.tsv", "\ufeff" + LONG.replace(",", "\t"))
    write(tmp_path / "x.jsonl", lines)
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(LONG.encode()))
    (tmp_path / "x.jsonl.xz").write_bytes(lzma.compress(lines.encode()))
    (tmp_path / "wide chars.csv").write_bytes(LONG.encode("utf-16"))
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 7
    wanted = long(tmp_path / "x.csv", features=["a", "b", "fan"], target="y")
    for path in paths:
        encoding = "utf-16" if path.name.startswith("wide") else "utf-8"
        found = long(path, features=["a", "b", "fan"], target="y", encoding=encoding)
        for one, other in zip(found.values, wanted.values, strict=True):
            np.testing.assert_array_equal(one, other)
        assert (found.ids, found.categories, found.class_names) == (wanted.ids, wanted.categories, wanted.class_names)


def test_times_of_parquet_are_dates(tmp_path):
    moments = pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 3), "1d", eager=True)
    for name, column in {
        "date": moments.cast(pl.Date),
        "ns": moments.cast(pl.Datetime("ns")),
        "zone": moments.dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo"),
    }.items():
        (tmp_path / name).mkdir()
        for half in "ab":
            pl.DataFrame({"t": column, "a": [1, 2, 3]}).write_parquet(tmp_path / name / f"{half}.parquet")
        found = read_table(sorted((tmp_path / name).iterdir()), time_column="t")
        assert found.ids == ("a.parquet", "b.parquet")
        assert found.times is not None
        np.testing.assert_array_equal(found.times[1], np.array(["2024-01-01", "2024-01-02", "2024-01-03"], "M8[us]"))


def test_a_column_of_many_texts_is_no_category(tmp_path):
    path = write(tmp_path / "x.tsv", "a\tb\n" + "".join(f"{place},5\t{place}\n" for place in range(1001)))
    with pytest.raises(
        DataError, match="the column 'a' holds 1,001 different texts, such as '0,5', '1,5' and 999 more"
    ):
        read_table(path, features=["a", "b"])
    assert read_table(path).features == ("b",)
    with pytest.raises(DataError, match="received the category 'a', which is none of the features 'b'"):
        read_table(path, features=["b"], categorical=["a"])


def test_what_a_column_holds_is_seen_from_all_of_its_values(tmp_path):
    path = write(tmp_path / "x.csv", "id,a,known a,y\n1,1,2,1\n2,2,3,x\n")
    found = read_table(path, sequence_column="id", target="y")
    assert (found.features, found.class_names) == (("a", "known a"), ("1", "x"))
    kinds = pl.Series(["1", "2", "x"], dtype=pl.Categorical)
    pl.DataFrame({"a": [1, 2, 3], "kind": kinds, "none": [None] * 3}).write_parquet(tmp_path / "x.parquet")
    assert read_table(tmp_path / "x.parquet").features == ("a",)
    found = read_table(tmp_path / "x.parquet", features=["a", "kind", "none"])
    assert (found.categories, found.missing) == ({"kind": ("1", "2", "x")}, {"none": 3})
    with pytest.raises(DataError, match="row 3: 'x' in the column 'kind'; expected a number"):
        read_table(tmp_path / "x.parquet", features=["a", "kind"], categories={})


def test_narrow_numbers_stay_narrow(tmp_path):
    frame = pl.DataFrame({"a": [1.5, 2.5], "b": [1, 2]}, schema={"a": pl.Float32, "b": pl.Int16})
    frame.write_parquet(tmp_path / "x.parquet")
    assert read_table(tmp_path / "x.parquet").values[0].dtype == np.float32
    frame.with_columns(pl.col("b").cast(pl.Int32)).write_parquet(tmp_path / "y.parquet")
    assert read_table(tmp_path / "y.parquet").values[0].dtype == np.float64


def test_without_a_column_for_it_every_file_is_a_sequence(tmp_path):
    paths = [
        write(tmp_path / name, f"a,b\n1,{place}\n2,x\n".replace("x", "7"))
        for place, name in enumerate(["p.csv", "o.csv"])
    ]
    found = read_table(paths)
    assert found.ids == ("p.csv", "o.csv")
    assert [array.tolist() for array in found.values] == [[[1, 0], [2, 7]], [[1, 1], [2, 7]]]
    write(paths[1], "a,b\n1,1\n2,word\n3,4\n")
    with pytest.raises(DataError, match=r"o\.csv, row 2: 'word' in the column 'b'; expected a number"):
        read_table(paths)
    write(paths[1], "b,a\n1,1\n")
    with pytest.raises(
        DataError, match=r"o\.csv: the columns 'b', 'a'; expected 'a', 'b', as in .*p\.csv, in this order"
    ):
        read_table(paths)


def test_a_wide_table_has_a_sequence_in_each_column(tmp_path):
    path = write(tmp_path / "wide.csv", "day,p,q\n2024-01-01,,1\n2024-01-02,5,2\n2024-01-03,,\n2024-01-04,6,\n")
    found = read_table(path, time_column="day", wide=True)
    assert (found.ids, found.features, found.lengths.tolist()) == (("p", "q"), ("value",), [3, 2])
    np.testing.assert_array_equal(found.values[0][:, 0], [5, np.nan, 6])
    assert found.times is not None
    assert str(found.times[0][0])[:10] == "2024-01-02"


def test_steps_are_sorted_if_asked_for(tmp_path):
    path = write(tmp_path / "x.csv", "id,t,a\nu,2,20\nv,1,5\nu,1,10\n")
    found = read_table(path, sequence_column="id", time_column="t", sort=True)
    assert [array[:, 0].tolist() for array in found.values] == [[10, 20], [5]]
    with pytest.raises(DataError, match=r"x\.csv, row 3: the time 1\.0 after 2\.0 in sequence 'u'; expected ascending"):
        read_table(path, sequence_column="id", time_column="t")


@pytest.mark.parametrize(
    ("old", "new", "named", "message"),
    [
        ("", "", {"features": ["a", "bb"]}, "no column 'bb'; did you mean 'b'"),
        ("", "", {"target": "Y"}, "no column 'Y'; did you mean 'y'"),
        ("", "", {"features": ["zzz"]}, "no column 'zzz'; there are 'id', 't'"),
        ("2,1,off", "2,oops,off", {}, r"long\.csv, row 2: 'oops' in the column 'b'; expected a number"),
        ("2,1,off", "inf,1,off", {}, r"row 2: an infinite number in the column 'a'"),
        ("m1,6", "m1,5", {}, r"row 4: the time 5\.0 a second time in sequence 'm1'"),
        ("m1,6", "m1,4", {}, r"row 4: the time 4\.0 after 5\.0 in sequence 'm1'; expected ascending times"),
        ("m1,6", "m1,", {}, r"row 4: no time in the column 't'"),
        ("m1,6", "m1,soon", {}, r"row 4: 'soon' in the column 't'; expected a number or a date"),
        ("m1,6", ",6", {}, r"row 4: no sequence in the column 'id'"),
        ("yes", "no", {"target": "y"}, "every label in the column 'y' is 'no'; expected at least two classes"),
        (
            "low,yes",
            "low,no",
            {"target": "y"},
            r"row 5: 'no' in the column 'y' of sequence 'm2', which has 'yes' before",
        ),
        ("no,z", ",z", {"target": "y"}, r"row 2: sequence 'm1' has nothing in the column 'y'"),
        (
            "yes",
            "maybe",
            {"target": "y", "class_names": ["yes", "no"]},
            "the class 'maybe' in the column 'y'; expected",
        ),
        ("x,3", "x,3q", {"target": "v", "target_kind": "numbers"}, r"row 1: '3q' in the column 'v'; expected a number"),
        ("", "", {"target": ["y", "fan"]}, "the targets 'y', 'fan'; expected one column of classes"),
        ("m2,2,2.5,7", "m2,2,2.5", {}, r"long\.csv, row 3: 7 fields; expected 8, as in the first line"),
        ("m2,2,2.5,7", 'm2,2,2.5,7,"8\n"', {}, r"row 3: 9 fields; expected 8"),
        ("8,low,yes,x,3\n", "8,low,yes,x", {}, r"row 5: 7 fields; expected 8"),
        ("id,t,a,b", "id,t,a,a", {}, "several columns are called 'a'"),
        ("id,t,a,b", "id,t,a,", {}, "line 1: the columns .* expected a name for each"),
        ("m1,6,3,NA", "m1,6,\0,1", {}, "line 5: a NUL byte, which no text has"),
        (LONG, "", {}, "an empty file"),
        (LONG, LONG.splitlines()[0] + "\n", {}, "no rows; expected a row per step"),
        (
            LONG,
            LONG.replace("2,1,off", ",,off").replace("3,NA,", ",NA,"),
            {"features": ["a", "b"]},
            "'m1' has no value in any feature at any",
        ),
        ("", "", {"features": ["a", "fan"], "categories": {}}, r"row 1: 'on' in the column 'fan'; expected a number"),
        ("", "", {"wide": True}, "received wide=True and columns of a long table"),
    ],
)
def test_bad_tables_are_refused_with_their_place(tmp_path, old, new, named, message):
    path = write(tmp_path / "long.csv", LONG.replace(old, new) if old else LONG)
    with pytest.raises(DataError, match=message):
        long(path, **named)


def test_pieces_of_a_large_table_are_checked_as_a_whole(tmp_path, monkeypatch):
    text = 'a,"b\n,"\n1,2\n\n3,"4\n"\n5,6'
    for size in range(1, 12):
        monkeypatch.setattr("unspool.data._table_scan._PIECE", size)
        assert read_table(write(tmp_path / "x.csv", text), features=["a"]).values[0].shape == (3, 1)
        with pytest.raises(DataError, match="row 4: 3 fields; expected 2"):
            read_table(write(tmp_path / "x.csv", text + ",7"))
        (tmp_path / "x.csv").write_bytes(text.encode() + b"\n\xc3")
        with pytest.raises(DataError, match=r"line 8: the byte 0xc3 is not UTF-8"):
            read_table(tmp_path / "x.csv", features=["a"])


def test_what_is_no_table_is_refused(tmp_path):
    (tmp_path / "latin.csv").write_bytes("id,größe\n1,2\n3,straße\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.csv, line 1: the byte 0xf6 is not UTF-8 .*\n.*name its encoding"):
        read_table(tmp_path / "latin.csv")
    assert read_table(tmp_path / "latin.csv", features=["id"], encoding="latin-1").lengths.tolist() == [2]
    write(tmp_path / "many.csv", ",".join(map(str, range(10**6))) + "\n")
    with pytest.raises(DataError, match="1,000,000 columns; expected at most 10,000"):
        read_table(tmp_path / "many.csv")
    write(tmp_path / "x.parquet", "no")
    with pytest.raises(DataError, match=r"x\.parquet: no Parquet file"):
        read_table(tmp_path / "x.parquet")
    write(tmp_path / "x.jsonl", '{"a": 1}\n{"a": \n')
    with pytest.raises(DataError, match=r"x\.jsonl: cannot be read as a table"):
        read_table(tmp_path / "x.jsonl")
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(DataError, match="unknown kind of file"):
        read_table(write(tmp_path / "x.docx", "a"))

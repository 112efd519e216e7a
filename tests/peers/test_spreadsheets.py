"""LibreOffice, without a window, opens the workbooks that we give, and finds the same values."""

from __future__ import annotations

import csv
import shutil
import subprocess

import polars as pl
import pytest

from proxy.batch import PLAIN, Batch, Output
from proxy.formats import FORMATS
from proxy.report import FormatName
from proxy.values import Type
from tests.formats.documents import dialect, run
from tests.harness.streams import joined

SOFFICE = shutil.which("soffice")
XLSX = dialect(FormatName.XLSX)
COLUMNS = [
    Output("text", Type.TEXT), Output("none", Type.TEXT), Output("integer", Type.INTEGER),
    Output("decimal", Type.DECIMAL, scale=2), Output("boolean", Type.BOOLEAN), Output("date", Type.DATE),
    Output("datetime", Type.DATETIME),
]  # fmt: skip
ROWS = [
    ("=1+1", None, "-12", "1.50", "true", "2024-02-29", "2024-02-29T10:20:30Z"),
    ('  Ünï\n"c" _x0041_ <&> 𝄞 ', None, "123456789012345", "0.25", "false", "1900-03-01", "1999-12-31T23:59:59Z"),
    ("007", None, "1234567890123456", "n/a", "maybe", "1899-12-31", "2024-02-29T10:20:30.000001Z"),
    ("+1-1", None, "007", "98765432109876.54", None, "9999-12-31", "1900-03-01T00:00:00Z"),
]  # fmt: skip
SEEN = [
    ["=1+1", "", "-12", "1.50", "TRUE", "2024-02-29", "2024-02-29 10:20:30"],
    ['  Ünï\n"c" _x0041_ <&> 𝄞 ', "", "123456789012345", "0.25", "FALSE", "1900-03-01", "1999-12-31 23:59:59"],
    ["007", "", "1234567890123456", "n/a", "maybe", "1899-12-31", "2024-02-29T10:20:30.000001Z"],
    ["+1-1", "", "007", "98765432109876.54", "", "9999-12-31", "1900-03-01 00:00:00"],
]  # fmt: skip


@pytest.mark.skipif(SOFFICE is None, reason="LibreOffice (soffice) is not installed")
def test_libreoffice_finds_the_values_that_were_given(tmp_path):
    """As CSV of what it shows; and what it writes itself as XLSX is read by us with the same values."""
    stream = FORMATS[FormatName.XLSX].encoder(COLUMNS, XLSX)
    cells = {
        column.name: pl.Series([row[index] for row in ROWS], dtype=pl.String)
        for index, column in enumerate(COLUMNS)
    }
    types = {column.name: column.type for column in COLUMNS}
    batch = Batch(cells, height=len(ROWS), lexis=PLAIN, types=types)
    (tmp_path / "ours.xlsx").write_bytes(joined(stream, batch) + stream.finish())
    shown = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true"
    again = "xlsx:Calc MS Excel 2007 XML"
    for form, folder in ((shown, tmp_path), (again, tmp_path / "again")):
        subprocess.run(
            [SOFFICE, f"-env:UserInstallation={(tmp_path / 'profile').as_uri()}", "--headless",
             "--convert-to", form, "--outdir", str(folder), str(tmp_path / "ours.xlsx")],
            check=True, capture_output=True, timeout=180,
        )  # fmt: skip
    with (tmp_path / "ours.csv").open(encoding="utf-8", newline="") as file:
        names, *rows = csv.reader(file)
    assert names == [column.name for column in COLUMNS]
    assert rows == SEEN
    theirs = (tmp_path / "again/ours.xlsx").read_bytes()
    found = run(XLSX, [theirs], names)
    assert [row[0] for row in found] == [row[0] for row in ROWS]
    assert [row[2] for row in found] == [row[2] for row in ROWS]
    assert [row[3] for row in found] == ["1.5", "0.25", "n/a", "98765432109876.54"]
    assert [row[5] for row in found] == [row[5] for row in ROWS]

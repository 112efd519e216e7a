"""What a user would pick instead, at the same work in the same run: Miller, jq, pandas.

Ours is asked over HTTP, decided, and on record; theirs read the same document from a file in memory's cache
and write to a file. jq has no hash, so where ours gives a pseudonym it gives a part of the text.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.drain import drain
from benchmarks.figures import Figure, interleaved, ratio
from benchmarks.stage import OWNED, stage
from benchmarks.throughput import CSV, JSON

ROUNDS = 3
REPEAT = 3
_MILLER_MASK = """\
$net_sales = roundm($net_sales, 100);
$gross_margin = roundm($gross_margin, 100);
$store_name = substr(sha256("secret" . $store_name), 0, 25);
$licence_no = "***" . substr($licence_no, strlen($licence_no) - 2, strlen($licence_no) - 1);
$buyer_email = "";
"""
_JQ_MASK = """\
map({date, store_id, store_name: .store_name[0:8], licence_no: ("***" + .licence_no[-2:]), city, postal_code,
  sku, product_name, producer, units, net_sales: ((.net_sales / 100 | round) * 100),
  gross_margin: ((.gross_margin / 100 | round) * 100), buyer_email: null})
"""
_PANDAS = """\
import hashlib, sys
import pandas as pd
source, target, work, *stores = sys.argv[1:]
frame = pd.read_csv(source, dtype=str, keep_default_na=False)
if work == "filter":
    frame = frame[frame.store_id.isin(stores)]
else:
    for name in ("net_sales", "gross_margin"):
        frame[name] = (frame[name].astype(float) / 100).round() * 100
    known = {n: hashlib.sha256(b"secret" + n.encode()).hexdigest()[:26] for n in frame.store_name.unique()}
    frame["store_name"] = frame.store_name.map(known)
    frame["licence_no"] = "***" + frame.licence_no.str[-2:]
    frame["buyer_email"] = ""
frame.to_csv(target, index=False)
"""


def _took(words: list[str], out: Path | None = None) -> float:
    """Seconds of a command."""
    started = time.perf_counter()
    with (out or Path("/dev/null")).open("wb") as target:
        subprocess.run(words, stdout=target, check=True)
    return time.perf_counter() - started


def run() -> Iterator[Figure]:
    """Filtered CSV and masked CSV beside Miller and pandas, masked JSON beside jq; MB of input a second."""
    absent = [name for name in ("mlr", "jq") if shutil.which(name) is None]
    if absent:
        print(f"rivals: not here: {', '.join(absent)} (apt-get install miller jq)", file=sys.stderr)
        return
    with stage(repeat=REPEAT) as at, tempfile.TemporaryDirectory() as folder:
        files = {CSV: Path(folder, "report.csv"), JSON: Path(folder, "report.json")}
        for path, file in files.items():
            with urllib.request.urlopen(at.passthrough + path) as answer, file.open("wb") as target:
                shutil.copyfileobj(answer, target)
        stores = Path(folder, "stores.csv")
        stores.write_text("\n".join(("store_id", *OWNED)) + "\n")
        out, source = Path(folder, "out"), str(files[CSV])

        def ours(path: str, token: str) -> Callable[[], float]:
            return lambda: _size(path) / drain(at.proxy, path, token)[0]

        def theirs(path: str, *words: str) -> Callable[[], float]:
            return lambda: _size(path) / _took(list(words), out)

        def _size(path: str) -> float:
            return files[path].stat().st_size / 1e6

        pandas = [sys.executable, "-c", _PANDAS, source, str(out)]
        drain(at.proxy, CSV, at.owner), drain(at.proxy, JSON, at.analyst)
        measured = interleaved(
            {
                "filtered-csv": ours(CSV, at.owner),
                "filtered-csv-miller": theirs(
                    CSV, "mlr", "--csv", "join", "-j", "store_id", "-f", str(stores), source
                ),
                "filtered-csv-pandas": theirs(CSV, *pandas, "filter", *OWNED),
                "masked-csv": ours(CSV, at.analyst),
                "masked-csv-miller": theirs(CSV, "mlr", "--csv", "put", _MILLER_MASK, source),
                "masked-csv-pandas": theirs(CSV, *pandas, "mask"),
                "masked-json": ours(JSON, at.analyst),
                "masked-json-jq": theirs(JSON, "jq", "-c", _JQ_MASK, str(files[JSON])),
            },
            rounds=ROUNDS,
        )
    for name, rates in measured.items():
        yield Figure(name=f"rivals-{name}", value=sorted(rates)[len(rates) // 2], unit="MB/s")
    for name, other, bar in (
        ("filtered-csv", "miller", 8.0),
        ("filtered-csv", "pandas", None),
        ("masked-csv", "miller", None),
        ("masked-csv", "pandas", None),
        ("masked-json", "jq", 3.0),
    ):
        yield Figure(
            name=f"{name}-{other}-ratio",
            value=ratio(measured[name], measured[f"{name}-{other}"]),
            unit="×",
            bar=bar,
        )

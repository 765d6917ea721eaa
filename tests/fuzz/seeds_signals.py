"""Small good files of time series and of music."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

from pack_targets import PackTarget
from seeds_science import zipped

TS = (
    b"# x\n@problemName test\n@timeStamps false\n@univariate false\n@dimensions 2\n@classLabel true a b\n@data\n"
    b"1,2,3,2,1:4,?,6,5,4:a\n3,2,1,2,3:1,1,1,2,2:b\n2,2,1:1,1,3,4:a\n"
)
STAMPED = b"@classLabel true 1 2\n@timeStamps true\n@data\n(2020-01-01 00:00,1.5),(2020-01-02 00:00,2):1\n(0,1),(1,2),(3,4):2\n"
TARGETED = b"@targetLabel true\n@data\n1,2,3,4:2.5\n2,3,4,5:1e3\n"
ARFF = b"@relation x\n@attribute a numeric\n@attribute b real\n@attribute c real\n@attribute class {1,2}\n@data\n1,2,3,1\n2.5,?,1,2\n"
RELATIONAL = (
    b"@relation x\n@attribute bag relational\n@attribute t1 numeric\n@attribute t2 numeric\n@end bag\n@attribute class {'a','b'}\n@data\n"
    b"\"1,2\\n3,4\",a\n'2,2\\n1,1',b\n"
)
TSV = b"1\t0.5\t0.25\t1.5\tNaN\n2\t1.5\t2.25\t-1\t0\n-1\t1\t2\t3\t4\n"
TXT = b"  1.0000000e+00   5.0e-01  2.5e-01 1\n  2.0e+00 1 2 3\n"
LONG = b"id,timestamp,value,label\na,2020-01-01,1,x\na,2020-01-02,2,x\nb,2020-01-01,3,y\nb,2020-01-02,4,y\n"
WIDE = b"label,t0,t1,t2,t3,t4,t5\nx,1,2,3,2,1,0\ny,5,4,,4,5,6\n"
MARKED = b"time,value,is_anomaly\n" + b"".join(b"%d,%d,%d\n" % (step, step % 7, 20 < step < 24) for step in range(40))
TSF = (
    b"# x\n@relation test\n@attribute series_name string\n@attribute start_timestamp date\n@frequency daily\n@horizon 2\n@missing true\n"
    b"@equallength false\n@data\nT1:2020-01-01 00-00-00:1,2,3,4,5\nT2:2020-01-01 00-00-00:2,?,3\n"
)


def _parquet(_: Path) -> list[bytes]:
    import pyarrow
    import pyarrow.parquet

    tables = [
        pyarrow.table({"series": [[1.0, 2, 3, 4], [4.0, 3, 2, 1]], "label": ["a", "b"]}),
        pyarrow.table({f"t{step}": [1.0 * step, 2.0] for step in range(8)} | {"label": ["a", "b"]}),
    ]
    outs = [io.BytesIO() for _ in tables]
    for table, out in zip(tables, outs, strict=True):
        pyarrow.parquet.write_table(table, out)
    return [out.getvalue() for out in outs]


def _wfdb(scratch: Path) -> Mapping[str, bytes]:
    """A record of two signals as 16-bit samples, written as the format's description says (wfdb writes times into headers)."""
    signal = b"".join((step % 50 * 20).to_bytes(2, "little") + (step % 30).to_bytes(2, "little") for step in range(100))
    head = b"r1 2 100 100\nr1.dat 16 200(0)/mV 16 0 0 0 0 I\nr1.dat 16 100/uV 16 0 0 0 0 II\n# label: normal\n"
    small = b"r2 1 50 40\nr2.dat 212 200 11 1024 0 0 0 V5\n"
    return {"r1.hea": head, "r1.dat": signal, "r2.hea": small, "r2.dat": bytes(range(60)), "REFERENCE.csv": b"r1,N\nr2,A\n"}


CLASSES = {"classes": ["a", "b", "x", "y", "1", "2", "normal", "af"]}
TIMESERIES = {
    "timeseries_ts": PackTarget("timeseries", "X_TRAIN.ts", zipped(TS, STAMPED), options={"mode": "text"}),
    "timeseries_ts_target": PackTarget("timeseries", "X.ts", zipped(TARGETED), options={"mode": "text", "task": "regress"}),
    "timeseries_arff": PackTarget("timeseries", "X.arff", zipped(ARFF, RELATIONAL), options={"mode": "text"}),
    "timeseries_tsv": PackTarget("timeseries", "X.tsv", zipped(TSV), options={"mode": "text"}),
    "timeseries_txt": PackTarget("timeseries", "X_1_2_3.txt", zipped(TXT), options={"mode": "text", "classes": ["1", "2"]}),
    "timeseries_csv": PackTarget("timeseries", "x.csv", zipped(LONG, WIDE), options={"mode": "text"}),
    "timeseries_anomaly": PackTarget("timeseries", "x.csv", zipped(MARKED), options={"mode": "text", "window": 16, "augment": 1}),
    "timeseries_forecast": PackTarget("timeseries", "x.csv", zipped(MARKED), options={"mode": "text", "task": "forecast", "window": 8, "horizon": 2}),
    "timeseries_parquet": PackTarget("timeseries", "x.parquet", _parquet, options={"mode": "text", **CLASSES}),
    "timeseries_wfdb": PackTarget("timeseries", "", lambda _: (), files=_wfdb, needs=("wfdb",), options={"mode": "text", **CLASSES}),
    "timeseries_tsf": PackTarget("timeseries", "x.tsf", lambda _: [TSF], needs=("aeon",), options={"mode": "text"}),
}  # fmt: skip

ABC = b"""% book
X:1
T:First
M:6/8
L:1/8
K:Gmaj
|: "G"GAB c2d | (3efg [ceg]2 z2 | {ab}c>d e<f^g_a | D4- D2 :|1 E6 :|2 F6 |]

X:2
M:C|
L:1/4
Q:1/4=120
V:1
K:Dm clef=bass
A,,2 B,/2c'/ z2 | [K:C][M:3/4] C,D,E,- | E,3 & G3 | Z2 | +trill+A !f!B u C |]
w: la la
"""


def _midi(_: Path) -> list[bytes]:
    """Two files of MIDI, format 0 and format 1, written by hand."""
    notes = b"".join(b"\x00\x90" + bytes([pitch, 64]) + b"\x83\x60\x80" + bytes([pitch, 0]) for pitch in (60, 62, 64, 65))
    head = b"\x00\xff\x58\x04\x04\x02\x18\x08\x00\xff\x59\x02\x01\x00\x00\xff\x51\x03\x07\xa1\x20\x00\xc0\x00"
    track = head + notes + b"\x00\xff\x2f\x00"
    chunk = b"MTrk" + len(track).to_bytes(4, "big") + track
    return [b"MThd\x00\x00\x00\x06\x00\x00\x00\x01\x01\xe0" + chunk, b"MThd\x00\x00\x00\x06\x00\x01\x00\x02\x00\x60" + chunk * 2]


MUSICXML = b"""<?xml version="1.0" encoding="UTF-8"?>
<score-partwise version="3.1"><part-list><score-part id="P1"><part-name>Melody</part-name></score-part></part-list><part id="P1">
<measure number="1"><attributes><divisions>2</divisions><key><fifths>1</fifths><mode>major</mode></key><time><beats>4</beats><beat-type>4</beat-type></time>
<clef><sign>G</sign><line>2</line></clef></attributes>
<note><pitch><step>G</step><octave>4</octave></pitch><duration>4</duration><voice>1</voice><type>half</type><tie type="start"/></note>
<note><pitch><step>G</step><octave>4</octave></pitch><duration>2</duration><voice>1</voice><type>quarter</type><tie type="stop"/></note>
<note><rest/><duration>2</duration><voice>1</voice><type>quarter</type></note></measure>
<measure number="2"><note><pitch><step>F</step><alter>1</alter><octave>5</octave></pitch><duration>8</duration><voice>1</voice><type>whole</type></note>
<note><chord/><pitch><step>A</step><octave>5</octave></pitch><duration>8</duration><voice>1</voice><type>whole</type></note></measure></part></score-partwise>
"""


def _mxl(_: Path) -> list[bytes]:
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        place = b'<?xml version="1.0"?><container><rootfiles><rootfile full-path="s.xml"/></rootfiles></container>'
        archive.writestr(zipfile.ZipInfo("META-INF/container.xml"), place)
        archive.writestr(zipfile.ZipInfo("s.xml"), MUSICXML)
    return [out.getvalue()]


MUSIC = {
    "music_abc": PackTarget("music", "x.abc", zipped(ABC)),
    "music_midi": PackTarget("music", "x.mid", _midi, needs=("symusic",)),
    "music_musicxml": PackTarget("music", "x.musicxml", lambda _: [MUSICXML], needs=("partitura",)),
    "music_mxl": PackTarget("music", "x.mxl", _mxl, needs=("partitura",)),
}
TARGETS: dict[str, PackTarget] = TIMESERIES | MUSIC

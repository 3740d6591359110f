"""Files made to do harm: code, bombs, entities, claims of endless data, names that are paths, markup or formulas."""

import io
import pickle
import zipfile
from pathlib import Path

import edf_writer
import numpy as np
import openpyxl
import pandas as pd
import pytest
import torch
from readers import READERS, read_npz

from report.tables import fit_columns
from utils.checkpoint import load_checkpoint
from utils.errors import UserError


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


def npy_header(shape, dtype="<f4"):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
    return header.getvalue()


def write_npz(path, x, compression=zipfile.ZIP_STORED, **others):
    arrays = {"y": np.zeros(2, np.int32), "fs": np.array(100.0)} | others
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x.npy", x)
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array, allow_pickle=True)
            archive.writestr(f"{name}.npy", content.getvalue())
    return path


@pytest.mark.parametrize("name", ["x", "y", "fs", "sleep_epoch", "ch_label"])
def test_an_npz_that_carries_code_is_refused_and_the_code_not_run(tmp_path, name):
    path, victim = tmp_path / "night.npz", tmp_path / "victim"
    arrays = {"x": np.ones((1, 3000), np.float32), "y": np.zeros(1, np.int32), "fs": np.array(100.0)}
    np.savez(path, **(arrays | {name: np.array([Payload(victim)], object)}))
    with pytest.raises(UserError, match="night.npz"):
        read_npz(path)
    assert not victim.exists()
    with np.load(path, allow_pickle=True) as npz:  # the payload itself works
        npz[name]
    assert victim.exists()


def test_a_checkpoint_that_carries_code_is_refused_and_the_code_not_run(tmp_path):
    path, victim = tmp_path / "model_best.pth", tmp_path / "victim"
    torch.save({"train_epoch": 1, "model": {}, "about": {}, "history": Payload(victim)}, path)
    with pytest.raises(UserError, match="model_best.pth"):
        load_checkpoint(path)
    assert not victim.exists()
    assert pickle.loads(pickle.dumps(Payload(victim))) is None
    assert victim.exists()


def test_a_checkpoint_that_unpacks_to_more_than_it_holds_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "model_best.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("archive/data.pkl", "w") as part:
        for _ in range(600):
            part.write(bytes(2**20))
    with pytest.raises(UserError, match="model_best.pth: no checkpoint of this project .its parts claim more bytes"):
        load_checkpoint(path)


@pytest.mark.parametrize("where", ["x", "sleep_epoch"])
def test_a_packed_bomb_is_refused_before_it_is_unpacked(tmp_path, memory, where):
    path, size = tmp_path / "night.npz", 600 * 2**20
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, shape in {"x": (2, 3000), "y": (2,), "fs": (1,), "sleep_epoch": (2,)}.items():
            n = size // 4 if name == where else int(np.prod(shape))
            with archive.open(f"{name}.npy", "w") as part:
                part.write(npy_header((n // 3000, 3000) if name == where == "x" else (n,) if name == where else shape))
                for _ in range(max(4 * n // 2**20, 1)):
                    part.write(bytes(min(4 * n, 2**20)))
    assert path.stat().st_size < 10**6
    with pytest.raises(UserError, match=f"night.npz: {where} takes 6.* bytes when it is read"):
        read_npz(path)


@pytest.mark.parametrize(("x", "others"), [
    (npy_header((10**12, 3000)) + bytes(100), {}),
    (npy_header((2, 10**12)) + bytes(100), {}),
    (npy_header((2, 3000), "<U1000000") + bytes(100), {}),
    (npy_header((-1, 3000)) + bytes(100), {}),
])  # fmt: skip
def test_an_npz_that_claims_more_than_it_has_is_refused(tmp_path, memory, x, others):
    with pytest.raises(UserError, match="night.npz"):
        read_npz(write_npz(tmp_path / "night.npz", x, **others))


@pytest.mark.parametrize(
    ("begin", "text"),
    [
        (edf_writer.N_SIGNALS_FIELD, "9999"),
        (edf_writer.N_RECORDS_FIELD, "99999999"),
        (256 + 3 * 216, "99999999"),
        (edf_writer.N_SIGNALS_FIELD, "1e6 "),
    ],
)
def test_an_edf_header_that_claims_endless_data_is_refused(tmp_path, memory, begin, text):
    path = edf_writer.write_psg(tmp_path / "night.edf")
    edf_writer.edit(path, begin, text)
    with pytest.raises(UserError, match="night.edf"):
        READERS["edf"][0](path)


def test_an_edf_file_that_is_really_endless_is_refused_and_not_read(tmp_path, memory):
    path = edf_writer.write_psg(tmp_path / "night.edf", labels=("EEG",))
    edf_writer.edit(path, edf_writer.N_RECORDS_FIELD, "1000000 ")
    with path.open("r+b") as file:  # a file of holes takes no room
        file.truncate(256 * 3 + 1_000_000 * 2 * 30 * 101)
    with pytest.raises(UserError, match=r"night.edf: 'EEG' has 3000000000 samples; at most 100000000 are read"):
        READERS["edf"][0](path)


LAUGHS = '<!DOCTYPE a [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {chr(98 + n)} "{10 * f"&{chr(97 + n)};"}">' for n in range(9)
) + "]>"  # fmt: skip


@pytest.mark.parametrize(
    "doctype",
    [
        LAUGHS,
        '<!DOCTYPE a [<!ENTITY j SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE a [<!ENTITY % j SYSTEM "http://localhost:9/x"> %j;]>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd" [<!ENTITY j "">]>',
    ],
    ids=["bomb", "file", "parameter", "external"],
)
@pytest.mark.parametrize("root", ["CMPStudyConfig", "PSGAnnotation"])
def test_xml_with_entities_is_refused(tmp_path, memory, doctype, root):
    path = tmp_path / "night.xml"
    stages = "<SleepStages><SleepStage>&j;</SleepStage></SleepStages>"
    path.write_text(f'<?xml version="1.0"?>{doctype}<{root}>{stages}</{root}>')
    with pytest.raises(UserError, match="night.xml: declares entities"):
        READERS["nsrr"][0](path)


def test_xml_that_is_nested_without_end_is_refused(tmp_path):
    path = tmp_path / "night.xml"
    path.write_text("<a>" * 200_000)
    with pytest.raises(UserError, match="night.xml"):
        READERS["nsrr"][0](path)


@pytest.mark.parametrize("name", ["=1+1", '=HYPERLINK("http://x")', "+1", "@SUM(A1)"])
def test_a_name_that_begins_like_a_formula_is_text_in_the_workbook(tmp_path, name):
    path = tmp_path / "report.xlsx"
    with pd.ExcelWriter(path, engine="openpyxl") as writer:
        pd.DataFrame({"n": [1]}, index=pd.Index([name], name="recording")).to_excel(writer, sheet_name="per recording")
        fit_columns(writer.sheets["per recording"])
    cell = openpyxl.load_workbook(path)["per recording"]["A2"]
    assert (cell.value, cell.data_type) == (name, "s")

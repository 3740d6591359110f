import builtins

import numpy as np
import pytest
import torch
from checkpoints import write_checkpoint, write_experiment

from scoring.export import export_onnx
from scoring.networks import load_networks
from utils.errors import UserError


def test_onnxruntime_gives_the_same_logits_for_any_batch(tmp_path):
    fs, context = 125, (1, 1)
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    net = write_checkpoint(tmp_path / "a.pth", fs=fs, context=context, temperature=1.5)
    path = tmp_path / "folder/model.onnx"
    export_onnx(path, load_networks([tmp_path / "a.pth"]))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for n in (1, 2, 7):
        signal = torch.randn(n, 1, 30 * fs * (1 + sum(context))) * 30
        with torch.inference_mode():
            expected = net(signal).numpy()
        (logits,) = session.run(["logits"], {"eeg": signal.numpy()})
        assert logits.shape == (n, 5)
        np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert session.get_modelmeta().custom_metadata_map == {
        "fs": str(fs), "channel": "EEG Fpz-Cz", "units": "uV", "context": " ".join(map(str, context)),
        "stage_names": "W N1 N2 N3 REM", "temperature": "1.5",
    }  # fmt: skip
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]


def test_several_networks_are_not_one_file(tmp_path):
    write_experiment(tmp_path / "Exp1", 2)
    with pytest.raises(UserError, match="--export writes one network, and these are 2. Pass one, such as saved"):
        export_onnx(tmp_path / "a.onnx", load_networks([tmp_path / "Exp1"]))


def test_a_missing_package_is_asked_for_by_name(tmp_path, monkeypatch):
    write_checkpoint(tmp_path / "a.pth")
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name == "onnxscript":
            raise ModuleNotFoundError("No module named 'onnxscript'", name="onnxscript")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="--export needs the package onnxscript. Run: pip install onnxscript"):
        export_onnx(tmp_path / "a.onnx", load_networks([tmp_path / "a.pth"]))

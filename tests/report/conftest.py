import pytest

from model import metric


@pytest.fixture
def n1_f1(monkeypatch):
    """A metric that a user adds to model/metric.py: F1 of N1, which fails where N1 does not occur."""

    def n1_f1(y_true, y_pred):
        right = ((y_true == 1) & (y_pred == 1)).sum().item()
        return 2 * right / ((y_true == 1).sum().item() + (y_pred == 1).sum().item())

    monkeypatch.setattr(metric, "n1_f1", n1_f1, raising=False)
    monkeypatch.setattr(metric, "__all__", [*metric.__all__, "n1_f1"])
    return n1_f1

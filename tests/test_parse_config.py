import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scripts import RELEASED
from torch import nn

import model.loss
from model.loss import ClassAwareLoss, FocalLoss
from model.metric import accuracy, kappa
from model.model import AttnSleep
from trainer.configuration import read_config
from utils.errors import UserError
from utils.nested import differences

CONFIG = Path(__file__).resolve().parents[1] / "config.json"


@pytest.fixture
def write(tmp_path):
    """Write a configuration and return its path; text is written as it stands."""

    def write(content, name="mine.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def problems(path, *overrides):
    """Lines of the refusal, without the first one, which names the file."""
    with pytest.raises(UserError) as caught:
        read_config(path, overrides)
    first, *lines = str(caught.value).splitlines()
    assert first == f"{path}:"
    assert all(line.startswith("  ") for line in lines)
    return [line.strip() for line in lines]


def whole(**changes):
    return json.loads(CONFIG.read_text()) | changes


def extending(**changes):
    return {"extends": str(CONFIG)} | changes


# Reading values


def test_the_published_experiment_is_what_config_json_says():
    config = read_config(CONFIG, [])
    assert config.values == json.loads(CONFIG.read_text())
    assert config["data_loader.args.fs"] == 100
    assert config["data_loader.args.batch_size"] == 128
    assert config["optimizer.args"] | {"fused": None} == {
        "lr": 1e-3,
        "weight_decay": 1e-3,
        "amsgrad": True,
        "fused": None,
    }
    assert config["lr_scheduler"] == {"type": "MultiStepLR", "args": {"milestones": [10], "gamma": 0.1}}
    assert (config["seed"], config["trainer.epochs"], config["data_loader.args.num_folds"]) == (123, 100, 20)
    assert config["trainer.monitor"] == "max accuracy"
    assert config.experiment_dir == Path("saved/Exp1")


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("trainer.epochs=5", "trainer.epochs", 5),
        ("name=Exp 2", "name", "Exp 2"),
        ('name="3"', "name", "3"),
        ("name=2026", "name", "2026"),
        ("arch.args.afr=false", "arch.args.afr", False),
        ("trainer.early_stop=null", "trainer.early_stop", None),
        ("lr_scheduler=null", "lr_scheduler", None),
        ("lr_scheduler.args.milestones=[3, 5]", "lr_scheduler.args.milestones", [3, 5]),
        ('metrics=["kappa", "accuracy"]', "metrics", ["kappa", "accuracy"]),
        ("optimizer.args.lr=1e-2", "optimizer.args.lr", 0.01),
        (r"data_loader.args.subject_pattern=^(a=\d+)", "data_loader.args.subject_pattern", r"^(a=\d+)"),
        ("trainer.save_dir=runs/today", "trainer.save_dir", "runs/today"),
        ('optimizer={"type": "SGD", "args": {"lr": 1}}', "optimizer", {"type": "SGD", "args": {"lr": 1}}),
    ],
)
def test_any_key_can_be_overridden_by_json_or_text(override, key, value):
    config = read_config(CONFIG, [override])
    assert config[key] == value
    assert read_config(CONFIG, [])[key] != value or value is None
    changed = differences(read_config(CONFIG, []).values, config.values)
    assert all(line.startswith(key) for line in changed)


def test_the_last_of_two_overrides_of_a_key_counts():
    assert read_config(CONFIG, ["trainer.epochs=5", "trainer.epochs=6"])["trainer.epochs"] == 6


@pytest.mark.parametrize("override", ["trainer.epochs", "=5", ""])
def test_an_override_that_is_none_is_refused(override):
    with pytest.raises(UserError, match=f"^--set {override}: write key.path=value"):
        read_config(CONFIG, [override])


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer.type=SGD", "optimizer.args.lr=0.5"],
        ["optimizer.args.lr=0.5", "optimizer.type=SGD"],
    ],
)
def test_another_type_of_component_drops_the_old_arguments_and_takes_the_new_ones(overrides):
    assert read_config(CONFIG, overrides)["optimizer"] == {"type": "SGD", "args": {"lr": 0.5}}


def test_the_same_type_of_component_keeps_the_other_arguments():
    config = read_config(CONFIG, ["optimizer.type=Adam", "optimizer.args.lr=0.5"])
    assert config["optimizer.args.lr"] == 0.5
    assert config["optimizer.args.weight_decay"] == 1e-3


# Extending


def test_a_file_extends_another_one_relative_to_itself(write):
    write(whole(seed=7), "base.json")
    path = write({"extends": "../base.json", "name": "mine", "trainer": {"epochs": 3}}, "configs/mine.json")
    config = read_config(path, ["seed=8"])
    assert (config["name"], config["seed"], config["trainer.epochs"]) == ("mine", 8, 3)
    assert config["trainer.monitor"] == "max accuracy"
    assert "extends" not in config.values


def test_a_chain_of_extensions_is_followed_and_the_nearest_counts(write):
    write(whole(seed=1, name="first"), "a.json")
    write({"extends": "a.json", "seed": 2, "loss": {"type": "FocalLoss", "args": {"gamma": 3.0}}}, "b.json")
    config = read_config(write({"extends": "b.json", "name": "third"}, "c.json"), [])
    assert (config["seed"], config["name"]) == (2, "third")
    assert config["loss"] == {"type": "FocalLoss", "args": {"gamma": 3.0}}


def test_a_component_of_another_type_in_an_extension_does_not_inherit_arguments(write):
    config = read_config(write(extending(loss={"type": "CrossEntropyLoss"})), [])
    assert config["loss"] == {"type": "CrossEntropyLoss"}
    assert type(config.init_obj("loss", class_counts=[1] * 5)) is torch.nn.CrossEntropyLoss


@pytest.mark.parametrize("chain", [["a.json"], ["b.json", "a.json"], ["b.json", "c.json", "b.json"]])
def test_files_that_extend_each_other_are_refused(write, chain):
    names = ["a.json", *chain]
    for name, base in zip(names, chain, strict=False):
        path = write({"extends": base}, name)
    with pytest.raises(UserError, match=r"\.json: extends .*\.json, which extends it in turn"):
        read_config(path.with_name("a.json"), [])


def test_extending_a_file_that_is_not_there_is_refused(write):
    with pytest.raises(UserError, match="mine.json: extends .*nothing.json', which is no file"):
        read_config(write({"extends": "nothing.json"}), [])


# Files that are none


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "no valid JSON"),
        ('{"name": ', "no valid JSON"),
        ("[1, 2]", r"holds no JSON object \{\.\.\.\}"),
        ('"name"', "holds no JSON object"),
        ('{"seed": 1, "seed": 2}', "no valid JSON .*the key 'seed' stands twice"),
        ('{"trainer": {"epochs": 1, "epochs": 2}}', "no valid JSON .*the key 'epochs' stands twice"),
        ('{"seed": NaN}', "no valid JSON .*NaN is no number"),
        ('{"seed": -Infinity}', "no valid JSON .*-Infinity is no number"),
        ("[" * 100_000, "no valid JSON"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_by_name(write, content, text):
    with pytest.raises(UserError, match=f"mine.json: {text}"):
        read_config(write(content), [])


def test_a_file_that_is_no_text_is_refused_by_name(tmp_path):
    (tmp_path / "mine.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="mine.json: no valid JSON"):
        read_config(tmp_path / "mine.json", [])


def test_a_file_that_is_not_there_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(UserError, match=r"mine.json: cannot be read .* Name a configuration with -c"):
        read_config(tmp_path / "mine.json", [])


# Unknown and missing keys


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("trainer.epoch=5", "trainer.epoch: unknown key. Did you mean 'trainer.epochs'?"),
        ("batch_size=5", "batch_size: unknown key. Did you mean 'data_loader.args.batch_size'?"),
        (
            "data_loader.batch_size=5",
            "data_loader.batch_size: unknown key. Did you mean 'data_loader.args.batch_size'?",
        ),
        ("Seed=5", "Seed: unknown key. Did you mean 'seed'?"),
        ("arch.arg=5", "arch.arg: unknown key. Did you mean 'args'?"),
        ("arch.args.n_head=5", "arch.args.n_head: unknown key. Did you mean 'n_heads'?"),
        ("optimizer.args.learning_rate=5", "optimizer.args.learning_rate: unknown key."),
        ("arch.args.n_sleep_epochs=3", "arch.args.n_sleep_epochs: unknown key."),
        ("optimizer.args.params=5", "optimizer.args.params: unknown key."),
        ("loss.args.class_counts=5", "loss.args.class_counts: unknown key. Known here: a, b, c."),
        ("lr_scheduler.args.gama=0.1", "lr_scheduler.args.gama: unknown key. Did you mean 'gamma'?"),
        ("extends=other.json", "extends: unknown key."),
    ],
)
def test_an_unknown_key_is_told_with_the_nearest_one(override, line):
    (found,) = problems(CONFIG, override)
    assert found.startswith(line)


@pytest.mark.parametrize("given", [{}, {"trainer": {}}, {"optimizer": {}}, {"arch": {"args": {}}}])
def test_keys_that_are_not_given_have_their_published_values(write, given):
    config = read_config(write(given), [])
    assert config.values == json.loads(CONFIG.read_text())
    assert config.notes == []


def test_a_file_gives_a_name_as_text(write):
    (line,) = problems(write(whole(name=5)))
    assert line == "name: 5 will not do; it takes a name that a folder can have, of at most 219 bytes."


def test_a_value_where_a_group_should_be_is_told():
    (line,) = problems(CONFIG, "trainer=5")
    assert line == "trainer: will not do; it takes an object {...}."


def test_an_argument_that_a_class_needs_and_does_not_get_is_told():
    assert problems(CONFIG, "lr_scheduler.type=StepLR") == ["lr_scheduler.args.step_size: missing; StepLR needs it."]


# Values


@pytest.mark.parametrize(
    ("override", "takes"),
    [
        ("name=a/b", "a name that a folder can have"),
        ("name=..", "a name that a folder can have"),
        ("name=a\x0bb", "a name that a folder can have"),
        ("name=a\ufffeb", "a name that a folder can have"),
        ("name=a\udcffb", "a name that a folder can have"),
        (f"name={'é' * 110}", "a name that a folder can have, of at most 219 bytes"),
        ('name=""', "a name that a folder can have"),
        ("seed=-1", "a whole number of at least 0"),
        ("seed=1.0", "a whole number of at least 0"),
        ("seed=true", "a whole number of at least 0"),
        ("seed=NaN", "a whole number of at least 0"),
        ("seed=null", "a whole number of at least 0"),
        ("n_gpu=two", "a whole number of at least 0"),
        ("trainer.epochs=0", "a whole number from 1 to 100000"),
        ("trainer.epochs=true", "a whole number from 1 to 100000"),
        ('trainer.epochs="5"', "a whole number from 1 to 100000"),
        ("trainer.save_period=0", "a whole number of at least 1"),
        ("trainer.verbosity=3", "a whole number from 0 to 2"),
        ("trainer.verbosity=false", "a whole number from 0 to 2"),
        ("trainer.early_stop=0", "a whole number of at least 1, or null"),
        ("trainer.averaging=1", "a decay between 0 and 1, such as 0.999, or null"),
        ("trainer.monitor=accuracy", '"max" or "min" and a metric or "loss"'),
        ("trainer.monitor=best accuracy", '"max" or "min" and a metric or "loss"'),
        ("trainer.monitor=5", '"max" or "min" and a metric or "loss"'),
        ("trainer.precision=fp16", '"fp32" or "tf32" or "bf16"'),
        ("trainer.compile=1", "true or false"),
        ("trainer.save_dir=", "a folder"),
        ("data_loader.args.batch_size=0", "a whole number from 1 to 100000"),
        (f"data_loader.args.batch_size={10**30}", "a whole number from 1 to 100000"),
        ("data_loader.args.num_folds=1", "a whole number from 2 to 100000"),
        (r"data_loader.args.subject_pattern=\d+", "a regular expression with one group, or null"),
        (r"data_loader.args.subject_pattern=(\d+", "a regular expression with one group, or null"),
        (r"data_loader.args.subject_pattern=(\d)(\d)", "a regular expression with one group, or null"),
        ("data_loader.args.resident=yes", "true or false, or null"),
        ("data_loader.args.context=1", "two whole numbers from 0"),
        ("data_loader.args.context=[1]", "two whole numbers from 0"),
        ("data_loader.args.context=[1, -1]", "two whole numbers from 0"),
        ("data_loader.args.context=[1, true]", "two whole numbers from 0"),
        ("evaluation.protocol=loocv", '"released" or "holdout"'),
        ("evaluation.valid_subjects=0", "a number of subjects from 1, or a fraction between 0 and 1"),
        ("evaluation.valid_subjects=1.0", "a number of subjects from 1, or a fraction between 0 and 1"),
        ("evaluation.valid_subjects=true", "a number of subjects from 1, or a fraction between 0 and 1"),
        ("trainer.tensorboard=no", "true or false"),
        ("metrics=accuracy", "a list of at least one name of a function"),
        ("metrics=[]", "a list of at least one name of a function"),
        ("metrics=[1]", "a list of at least one name of a function"),
        ("arch=AttnSleep", 'an object {"type": class name, "args": {...}}'),
        ("optimizer=null", 'an object {"type": class name, "args": {...}}'),
        ("loss.type=5", 'an object {"type": class name, "args": {...}}'),
        ("arch.args=[1]", "an object of arguments"),
        # arguments of classes, by their annotations
        ("arch.args.n_heads=true", "a whole number"),
        ("arch.args.n_heads=5.0", "a whole number"),
        ("data_loader.args.fs=null", "a rate in Hz"),
        ("data_loader.args.fs=99.5", "a rate in Hz"),
        ("arch.args.afr=False", "true or false"),
        ("arch.args.tce=0", "true or false"),
        ("arch.args.dropout_mrcnn=half", "a number"),
        ("arch.args.dropout_mrcnn=true", "a number"),
        ("arch.args.activation=[]", "a text"),
        ("loss.args.a=NaN", "a number"),
        ("loss.args.b=1e999", "a number"),
        ("lr_scheduler.args.gamma=Infinity", "a number"),
        ("optimizer.args.amsgrad=True", "true or false"),
    ],
)
def test_a_value_of_a_wrong_kind_is_told_with_what_its_key_takes(override, takes):
    key, _, text = override.partition("=")
    (line,) = [line for line in problems(CONFIG, override) if line.startswith((key, f"{key.rpartition('.')[0]}:"))]
    assert "will not do; it takes " + takes in line


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("arch.type=AttnSlep", "arch: nothing is named 'AttnSlep'. Did you mean 'AttnSleep'?"),
        ("arch.type=MRCNN", "arch: nothing is named 'MRCNN': it is in model/model.py, but not in its __all__."),
        ("optimizer.type=Adan", "optimizer: nothing is named 'Adan'. Did you mean 'Adam'?"),
        ("optimizer.type=lr_scheduler", "optimizer: nothing is named 'lr_scheduler'."),
        ("loss.type=CrossEntropy", "loss: nothing is named 'CrossEntropy'. Did you mean 'CrossEntropyLoss'?"),
        ("loss.type=class_aware_weights", "loss: nothing is named 'class_aware_weights'."),
        ("loss.type=__builtins__", "loss: nothing is named '__builtins__'."),
        ("loss.type=functional", "loss: nothing is named 'functional'."),
        ('metrics=["accuracy", "kapa"]', "metrics: nothing is named 'kapa'. Did you mean 'kappa'?"),
        ('metrics=["accuracy", "per_class"]', "metrics: nothing is named 'per_class'."),
        ("trainer.monitor=max acc", "trainer.monitor: 'acc' is neither one of metrics (accuracy, "),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest_one(override, line):
    (found,) = problems(CONFIG, override)
    assert found.startswith(line)


def test_the_monitor_must_be_one_of_the_metrics_or_the_loss():
    (line,) = problems(CONFIG, 'metrics=["kappa"]')
    assert line == "trainer.monitor: 'accuracy' is neither one of metrics (kappa) nor loss."
    assert read_config(CONFIG, ["trainer.monitor=min loss"])["trainer.monitor"] == "min loss"


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["arch.args.n_heads=7"], "arch: 7 heads do not divide the TCE's width of 80; these do: 1, 2, 4, 5, 8, 10, 16"),
        (["data_loader.args.fs=128"], "arch: AttnSleep takes fs 100 or 125 Hz, not 128."),
        (["arch.args.activation=swish"], "arch: AttnSleep has no activation 'swish'"),
        (["arch.args.dropout_tce=1"], "arch: a dropout of 1 is not from 0 to below 1"),
        (["optimizer.args.lr=-1"], "optimizer: Invalid learning rate: -1"),
        (["optimizer.args.betas=[0.9]"], "optimizer: "),
        (["lr_scheduler.args.last_epoch=5"], "lr_scheduler: "),
        (["loss.args.a=0"], "loss: the constants of the class-aware loss must be above 0, not 0, 1.5, 2.0"),
        (["loss.type=FocalLoss", "loss.args.gamma=-1"], "loss: a gamma of -1 is not from 0 up"),
    ],
)
def test_what_a_class_has_against_its_arguments_is_told_before_anything_is_read(overrides, line):
    assert problems(CONFIG, *overrides)[0].startswith(line)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["loss.type=MSELoss"], "loss: MSELoss cannot be a loss of logits (B, 5) and stages (B,) (The size of tensor"),
        (["loss.type=ReLU"], "loss: ReLU cannot be a loss of logits (B, 5) and stages (B,) ("),
        (["loss.type=NLLLoss"], "loss: NLLLoss cannot be a loss of logits (B, 5) and stages (B,) (it is -10"),
        (["loss.type=CrossEntropyLoss", "loss.args.reduction=none"], "loss: CrossEntropyLoss cannot be a loss of"),
        (["optimizer.type=LBFGS"], "optimizer: LBFGS cannot take a step of training (LBFGS.step() missing"),
        (["optimizer.type=SparseAdam"], "optimizer: SparseAdam cannot take a step of training (SparseAdam does not"),
        (
            ['lr_scheduler={"type": "OneCycleLR", "args": {"max_lr": 0.1, "total_steps": 9}}'],
            "lr_scheduler: OneCycleLR cannot go through 100 training epochs (",
        ),
    ],
)
def test_what_can_be_made_but_not_used_is_told_before_anything_is_read(overrides, line):
    (found,) = problems(CONFIG, *overrides)
    assert found.startswith(line)
    assert found.endswith(" can.")


@pytest.mark.parametrize(
    "override",
    [
        "loss.type=CrossEntropyLoss",
        "loss.type=MultiMarginLoss",
        "loss.type=FocalLoss",
        *(f"optimizer.type={name}" for name in ("AdamW", "SGD", "RMSprop", "NAdam", "Adagrad", "Rprop")),
        "lr_scheduler.type=ReduceLROnPlateau",
        'lr_scheduler={"type": "OneCycleLR", "args": {"max_lr": 0.1, "total_steps": 101}}',
    ],
)
def test_what_can_be_used_is_accepted(override):
    read_config(CONFIG, [override])


NIGHT = CONFIG.parent / "configs/night_context.json"


def test_the_night_context_may_be_missing_or_null():
    assert "context" not in read_config(CONFIG, []).values
    assert "context" not in read_config(NIGHT, ["context=null"]).values
    assert read_config(NIGHT, ["context.window=7"])["context.window"] == 7


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("context.windo=7", "context.windo: unknown key. Did you mean 'context.window'?"),
        ("context.window=0", "context.window: 0 will not do; it takes a whole number from 1 to 100000."),
        ("context.model.type=NightGru", "context.model: nothing is named 'NightGru'. Did you mean 'NightGRU'?"),
        ("context.model.args.widht=3", "context.model.args.widht: unknown key. Did you mean 'width'?"),
        ("context.model.args.width=wide", 'context.model.args.width: "wide" will not do; it takes a whole number.'),
        ("context.model.args.n_inputs=3", "context.model.args.n_inputs: unknown key."),
        ("context.optimizer.type=Adm", "context.optimizer: nothing is named 'Adm'. Did you mean 'Adam'?"),
        ("context.optimizer.lr=1", "context.optimizer.lr: unknown key."),
        ("context.optimizer.type=LBFGS", "context.optimizer: LBFGS cannot take a step of training"),
        ("context.model.args.dropout=2.0", "context.model: dropout probability has to be between 0 and 1, but got 2.0"),
        ("context=7", "context: "),
    ],
)
def test_what_is_wrong_with_the_night_context_is_told(override, line):
    assert problems(NIGHT, override)[0].startswith(line)


def test_a_night_context_that_says_one_thing_has_the_other_values_of_the_shipped_one():
    config = read_config(CONFIG, ["context.window=7"])
    assert config["context"] == read_config(NIGHT, [])["context"] | {"window": 7}


# Other people's configurations


def test_the_released_configuration_is_read_as_it_stands_and_what_is_understood_is_said(write):
    config = read_config(write(RELEASED), [])
    published = json.loads(CONFIG.read_text())
    changes = {"metrics": ["accuracy"], "trainer": published["trainer"] | {"monitor": "min loss"}}
    assert config.values == published | changes
    assert config.notes == [
        'loss: "weighted_CrossEntropyLoss" is understood as the class ClassAwareLoss.',
        'trainer.monitor: "min val_loss" is understood as "min loss" of the set that is evaluated.',
    ]


def test_a_sampling_rate_among_the_arguments_of_the_network_is_understood():
    config = read_config(CONFIG, ["arch.args.fs=125"])
    assert (config["data_loader.args.fs"], config.notes) == (
        125,
        ["arch.args.fs: understood as data_loader.args.fs=125."],
    )


# Networks and metrics of the user's


class TinyNet(nn.Module):
    """Two layers, and nothing else of what a network may offer."""

    def __init__(self, width: int = 8, n_out: int = 5):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(1, width, 50, 25), nn.AdaptiveAvgPool1d(1), nn.Flatten())
        self.head = nn.Linear(width, n_out)

    def forward(self, signal):
        return self.head(self.layers(signal))


class Unused(TinyNet):
    def __init__(self):
        super().__init__()
        self.extra = nn.Linear(3, 3)


class Nothing(nn.Module):
    def forward(self, signal):
        return signal[:, 0, :5]


class Squeezing(TinyNet):
    def forward(self, signal):
        return super().forward(signal).squeeze()


class Fixed(nn.Module):
    """Takes 3000 samples alone."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3000, 5))

    def forward(self, signal):
        return self.layers(signal)


class Uncopyable(TinyNet):
    def __deepcopy__(self, memo):
        raise RuntimeError("it holds a lock")


class WithRate(TinyNet):
    def __init__(self, fs, n_sleep_epochs):
        super().__init__()
        self.handed = fs, n_sleep_epochs


class WithSummary(TinyNet):
    def summary(self, signal):
        return self(signal)


@pytest.fixture
def networks(monkeypatch):
    classes = (TinyNet, Unused, Nothing, Squeezing, Fixed, Uncopyable, WithRate, WithSummary)
    for network in classes:
        monkeypatch.setattr("model.model." + network.__name__, network, raising=False)
    monkeypatch.setattr("model.model.__all__", [network.__name__ for network in classes])


@pytest.mark.usefixtures("networks")
def test_one_class_is_enough_and_is_handed_what_it_names():
    assert read_config(CONFIG, ["arch.type=TinyNet"])["arch"] == {"type": "TinyNet"}
    config = read_config(CONFIG, ["arch.type=WithRate", "data_loader.args.fs=128"])
    assert config.init_obj("arch", fs=128, n_sleep_epochs=3).handed == (128, 3)
    assert read_config(NIGHT, ["arch.type=WithSummary"])["context.window"] == 50


@pytest.mark.usefixtures("networks")
@pytest.mark.parametrize(
    ("path", "overrides", "line"),
    [
        (
            CONFIG,
            ["arch.type=TinyNet", "arch.args.n_out=4"],
            "arch: TinyNet on a signal of shape (2, 1, 3000) gives shape (2, 4), not logits of shape (2, 5).",
        ),
        (
            CONFIG,
            ["arch.type=Squeezing"],
            "arch: Squeezing in evaluation on one signal gives shape (5,), not logits of",
        ),
        (CONFIG, ["arch.type=Nothing"], "arch: Nothing has no parameter to train."),
        (
            CONFIG,
            ["arch.type=Uncopyable", "trainer.averaging=0.9"],
            "trainer.averaging: Uncopyable cannot be copied (it holds a lock). Set it to null.",
        ),
        (CONFIG, ["arch.type=Unused"], "arch: no gradient reaches extra.weight, extra.bias of Unused."),
        (
            CONFIG,
            ["arch.type=Fixed", "data_loader.args.context=[1, 1]"],
            "arch: Fixed cannot take a signal of shape (2, 1, 9000): mat1 and mat2 shapes",
        ),
        (NIGHT, ["arch.type=TinyNet"], "context.model: the night context reads summary(signal), which TinyNet does"),
    ],
)
def test_what_is_wrong_with_a_network_is_told_while_the_configuration_is_checked(path, overrides, line):
    assert problems(path, *overrides)[0].startswith(line)


def raises(y_true, y_pred):
    return 1 / 0


def nothing(y_true, y_pred):
    return None


def nan(y_true, y_pred):
    return float("nan")


def first(y_true, y_pred):
    return y_pred[0]


def changes(y_true, y_pred):
    return float(np.mean(np.diff(y_true) != 0))


def merges(y_true, y_pred):
    y_true[y_true == 1] = 2
    return float(np.mean(y_true == y_pred))


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        (raises, "Metric raises fails: ZeroDivisionError"),
        (nothing, "Metric nothing gives a value of type NoneType, which is no number."),
        (nan, "Metric nan gives nan, which is no number."),
        (first, "Metric first depends on the order of the sleep epochs ("),
        (changes, "Metric changes depends on the order of the sleep epochs ("),
        (merges, "Metric merges fails: ValueError('assignment destination is read-only')"),
    ],
)
def test_what_is_wrong_with_a_metric_is_told_with_its_name(monkeypatch, metric, text):
    monkeypatch.setattr("model.metric.mine", metric, raising=False)
    monkeypatch.setattr("model.metric.__all__", ["accuracy", "mine"])
    (line,) = problems(CONFIG, 'metrics=["accuracy", "mine"]')
    assert line.startswith(f"metrics: {text}")


class Learned(nn.CrossEntropyLoss):
    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(()))


class Counting(nn.CrossEntropyLoss):
    def __init__(self):
        super().__init__()
        self.register_buffer("n", torch.zeros(()))

    def forward(self, logits, stages):
        self.n += 1
        return super().forward(logits, stages)


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        (Learned, "loss: Learned has parameters to train, which no optimizer gets."),
        (Counting, "loss: Counting changes its buffers in forward, which checkpoints do not hold."),
    ],
)
def test_a_loss_that_learns_or_remembers_is_refused(monkeypatch, loss, text):
    monkeypatch.setattr(f"model.loss.{loss.__name__}", loss, raising=False)
    monkeypatch.setattr("model.loss.__all__", ["ClassAwareLoss", loss.__name__])
    assert problems(CONFIG, f"loss.type={loss.__name__}") == [text]


def test_a_metric_cannot_have_a_name_that_the_report_uses(monkeypatch):
    monkeypatch.setattr("model.metric.n", accuracy, raising=False)
    monkeypatch.setattr("model.metric.__all__", ["accuracy", "n"])
    (line,) = problems(CONFIG, 'metrics=["accuracy", "n"]')
    assert line == "metrics: 'n' is a name that the report uses for something else. Rename the metric."


def test_all_problems_are_told_at_once():
    lines = problems(
        CONFIG,
        "trainer.epoch=5",
        "seed=true",
        "arch.args.n_heads=7",
        "optimizer.args.rate=1",
        "loss.type=Focal",
        'metrics=["acc"]',
    )
    starts = [
        "trainer.epoch: unknown",
        "seed: true",
        "optimizer.args.rate: unknown",
        "loss: nothing",
        "metrics: nothing",
    ]
    for start in [*starts, "trainer.monitor: 'accuracy'", "arch: 7 heads"]:
        assert [line for line in lines if line.startswith(start)], (start, lines)
    assert len(lines) == 7


# Objects


def test_the_configuration_makes_the_objects_of_the_published_experiment():
    config = read_config(CONFIG, ["arch.args.n_heads=4"])
    network = config.init_obj("arch", fs=100, n_sleep_epochs=1)
    assert isinstance(network, AttnSleep)
    assert {layer.n_heads for layer in network.tce.layers} == {4}
    optimizer = config.init_obj("optimizer", params=network.parameters())
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.defaults["amsgrad"] is True
    assert optimizer.defaults["betas"] == (0.9, 0.999)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(network.parameters()))
    loss = config.init_obj("loss", class_counts=(8285, 2804, 17799, 5703, 7717))
    assert isinstance(loss, ClassAwareLoss)
    assert loss.weight.tolist() == pytest.approx([0.3, 0.72, 0.3, 0.2, 0.3])
    assert config.functions("metrics").keys() == {"accuracy", "macro_f1", "kappa", "mgm"}


@pytest.mark.parametrize(("context", "n"), [("[0, 0]", 1), ("[1, 1]", 3), ("[2, 0]", 3), ("[0, 3]", 4)])
def test_the_context_makes_the_input_longer(context, n):
    config = read_config(CONFIG, [f"data_loader.args.context={context}", "arch.args.n_heads=1"])
    assert config.n_sleep_epochs == n
    network = config.init_obj("arch", fs=100, n_sleep_epochs=n)
    assert network(torch.zeros(2, 1, 3000 * n)).shape == (2, 5)


def test_the_learning_rate_falls_after_the_tenth_training_epoch():
    config = read_config(CONFIG, [])
    optimizer = config.init_obj("optimizer", params=[torch.nn.Parameter(torch.zeros(1))])
    scheduler = config.init_obj("lr_scheduler", optimizer=optimizer)
    rates = []
    for _ in range(12):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([1e-3] * 10 + [1e-4] * 2)


def test_a_component_that_is_null_makes_nothing():
    assert read_config(CONFIG, ["lr_scheduler=null"]).init_obj("lr_scheduler") is None


def test_a_loss_that_asks_for_no_counts_gets_none():
    assert isinstance(read_config(CONFIG, ["loss.type=FocalLoss"]).init_obj("loss", class_counts=[1] * 5), FocalLoss)


def test_functions_come_by_name_in_the_order_of_the_list():
    functions = read_config(CONFIG, ['metrics=["kappa", "accuracy"]']).functions("metrics")
    assert list(functions.items()) == [("kappa", kappa), ("accuracy", accuracy)]


def test_making_objects_does_not_change_the_configuration():
    config = read_config(CONFIG, [])
    before = json.dumps(config.values)
    config.init_obj("arch", fs=100)
    config.init_obj("loss", class_counts=[1] * 5)
    assert json.dumps(config.values) == before


@pytest.mark.parametrize(
    ("text", "line"),
    [('{\n  "seed": 1,\n}', 2), ('{"trainer": {\n  "epochs": 3,\n\n  }\n}', 2), ('{"metrics": ["kappa",]}', 1)],
)
def test_a_comma_too_many_is_told_with_its_line(tmp_path, text, line):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(UserError, match=f"the comma at the end of line {line} may be one too many"):
        read_config(tmp_path / "c.json", [])


def test_what_is_not_in_all_is_told_as_such(monkeypatch):
    own = type("MyLoss", (nn.CrossEntropyLoss,), {"__module__": "model.loss"})
    monkeypatch.setattr(model.loss, "MyLoss", own, raising=False)
    (line,) = problems(CONFIG, "loss.type=MyLoss")
    assert line == "loss: nothing is named 'MyLoss': it is in model/loss.py, but not in its __all__. Add it there."


def test_a_name_in_all_that_is_nowhere_is_told(monkeypatch):
    monkeypatch.setattr(model.loss, "__all__", [*model.loss.__all__, "MyLos"])
    (line,) = problems(CONFIG)
    assert line == "loss: model/loss.py has no MyLos, which its __all__ names."

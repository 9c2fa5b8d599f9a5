"""Which engine runs the model that a command names."""

import pytest

from worker.cli.options import with_engine
from worker.config import Config, Model


@pytest.mark.parametrize(
    ("configured", "named", "runs"),
    [
        ("onnx", "default", "torch"),
        ("onnx", ".", "torch"),
        ("onnx", None, "onnx"),
        ("openvino", "default", "openvino"),
        ("torch", "default", "torch"),
    ],
)
def test_a_model_that_is_no_exported_file_does_not_run_as_one(configured, named, runs):
    config = Config(model=Model(engine=configured))
    assert with_engine(config, None, named).model.engine == runs


def test_the_engine_asked_for_wins():
    assert with_engine(Config(), "onnx", "default").model.engine == "onnx"

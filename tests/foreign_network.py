"""A small ONNX file that Sightline didn't write: the mean of each channel."""

from pathlib import Path


def make_foreign(path: Path, *, shape: tuple[str | int, ...] = ("n", 3, 16, 16), dtype: str = "FLOAT") -> Path:
    """Takes images of that shape and gives (batch, 3); `dtype` is ONNX's name of the input's."""
    from onnx import TensorProto, helper, save_model

    image = helper.make_tensor_value_info("x", getattr(TensorProto, dtype), shape)
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, (shape[0], 3))
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("GlobalAveragePool", ["f"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "means", [image], [answer])
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), str(path))
    return path

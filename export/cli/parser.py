"""What the command line takes: one function per command adds its arguments."""

import argparse
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from .files import UserError


class _Command(NamedTuple):
    summary: str
    example: str
    add_arguments: Callable[[argparse.ArgumentParser], None]


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command line as any other wrong input: in one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}. See {self.prog} --help")


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser; what it parses names its `command`.

    Example:
        >>> build_parser().parse_args(["inspect", "m.tqw"]).command
        'inspect'
    """
    parser = _Parser(
        prog="tfqreg",
        description="Quantized Keras models as integer .tflite and coded .tqw files.",
        epilog="example: tfqreg export m.keras -o m.tflite --container m.tqw",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name, command in _COMMANDS.items():
        added = commands.add_parser(
            name,
            help=command.summary,
            description=command.summary,
            epilog=f"example: tfqreg {name} {command.example}",
        )
        command.add_arguments(added)
    return parser


def _quantize(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="the float .keras")
    parser.add_argument("-o", "--output", required=True, help="the quantized .keras to write")
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--images", help="a folder of images, which are resized to the input")
    data.add_argument("--samples", help=".npy of what the model takes, or .npz by input name")
    parser.add_argument(
        "--scale",
        choices=("none", "0..1", "-1..1"),
        default="none",
        help="what pixels of 0..255 become before the model, as in its training; none by default, "
        "for a model that scales them itself",
    )
    parser.add_argument(
        "--most", type=_positive, default=500, help="images to take, spread evenly; 500 by default"
    )
    for what in ("weights", "activations"):
        parser.add_argument(
            f"--{what}",
            type=int,
            choices=range(2, 9),
            default=8,
            metavar="BITS",
            help=f"bits of the {what}, 2 to 8; 8 by default",
        )


def _positive(text: str) -> int:
    """Returns a number above 0; raises ArgumentTypeError for anything else."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"it must be a whole number above 0, not {text!r}")
    return int(text)


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="the quantized .keras")
    parser.add_argument("-o", "--output", required=True, help="the .tflite to write")
    parser.add_argument("--container", help="a .tqw to write as well")
    parser.add_argument(
        "--float-io", action="store_true", help="float32 inputs and outputs; int8 by default"
    )
    for end in ("input", "output"):
        parser.add_argument(
            f"--{end}-type",
            choices=("int8", "uint8", "float32"),
            help=f"of the {end}s; int8 by default",
        )
    parser.add_argument(
        "--portable", action="store_true", help="bit-exact on every interpreter, at some accuracy"
    )
    parser.add_argument(
        "--storage",
        choices=("int8", "int4"),
        default="int8",
        help="of the weights; int8 by default",
    )
    parser.add_argument(
        "--scale-dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of weight scales; float32 by default",
    )
    parser.add_argument(
        "--logits", action="store_true", help="leave out a softmax at the end of the model"
    )
    _target(parser)


def _pack(parser: argparse.ArgumentParser) -> None:
    _convert(parser, "tflite", "tqw")


def _unpack(parser: argparse.ArgumentParser) -> None:
    _convert(parser, "tqw", "tflite")


def _convert(parser: argparse.ArgumentParser, source: str, target: str) -> None:
    parser.add_argument("file", help=f"the .{source}")
    parser.add_argument("-o", "--output", required=True, help=f"the .{target} to write")
    parser.add_argument("--base", help="the .tflite or .tqw that a delta builds on")


def _inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="a .keras, .tflite or .tqw")
    parser.add_argument("--json", action="store_true", help="print JSON; a table by default")


def _check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="a .keras, quantized or not; or a .tflite, with --target")
    _target(parser)


def _target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--target", help="what it is to run on, such as android-arm64 or ethos-u55-128"
    )


def _verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="the quantized .keras")
    parser.add_argument("tflite", help="the .tflite exported from it")
    parser.add_argument(
        "--samples", required=True, help=".npy of what the model takes, or .npz by input name"
    )
    parser.add_argument(
        "--runtimes",
        nargs="+",
        type=_runtime,
        metavar="NAME",
        help="such as litert-aarch64 or tflite-micro; by default litert, tensorflow, "
        "tflite-runtime-ref, and those of the file's target",
    )


def _runtime(name: str) -> str:
    """Returns the name of a runtime; raises ArgumentTypeError for any other."""
    from ..verification.runtimes import missing

    try:
        missing(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return name


def _diagnose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="the quantized .keras")
    parser.add_argument(
        "--samples", required=True, help=".npy of what the model takes, or .npz by input name"
    )
    parser.add_argument("--float", help="the float .keras it came from; compares with it")
    parser.add_argument("--json", help="a .json to write: node data for Model Explorer")


def _report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="a .keras, .tflite or .tqw")
    parser.add_argument("-o", "--output", required=True, help="the .html to write")
    parser.add_argument(
        "--samples", help=".npy of what a quantized .keras takes: shows where accuracy goes"
    )
    parser.add_argument("--float", help="the float .keras it came from, to compare with")
    parser.add_argument(
        "--history", help='.json with any of "float", "quantized", "figures" and "result"'
    )
    _target(parser)


_COMMANDS = {
    "quantize": _Command(
        "Quantize a float .keras after training, from a folder of images or from samples.",
        "m.keras --images photos --scale=-1..1 -o q.keras",
        _quantize,
    ),
    "export": _Command(
        "Write a quantized .keras as .tflite.", "m.keras -o m.tflite --container m.tqw", _export
    ),
    "pack": _Command("Turn a .tflite into a .tqw.", "m.tflite -o m.tqw", _pack),
    "unpack": _Command("Turn a .tqw into a .tflite.", "m.tqw -o m.tflite", _unpack),
    "inspect": _Command("Show where the bytes of a model go.", "m.tqw", _inspect),
    "check": _Command(
        "List what keeps a model from its .tflite, or that from a target; exit code 1 for errors, "
        "0 for warnings.",
        "m.keras --target ethos-u55-128",
        _check,
    ),
    "verify": _Command(
        "Count the elements in which a .tflite differs from its model; exit code 1 if any does.",
        "m.keras m.tflite --samples x.npy",
        _verify,
    ),
    "diagnose": _Command(
        "Show which tensors of a quantized .keras lose accuracy, why, and the remedy.",
        "q.keras --samples x.npy --float m.keras",
        _diagnose,
    ),
    "report": _Command("Write a report as one HTML page.", "m.keras -o report.html", _report),
}

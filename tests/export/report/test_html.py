"""The report: one well-formed page that loads nothing, with every part whose data is there."""

import re
from html.parser import HTMLParser
from pathlib import Path

import keras
import pytest

import tfqreg as tq
from tests.export import small_model
from tfqreg.export import pack, write_tflite
from tfqreg.export.lowering.lower import lower
from tfqreg.export.report.explanation import explanation
from tfqreg.export.report.html import write_report
from tfqreg.export.report.summary import Row, Summary, summarize
from tfqreg.export.targets.vela import compile_for_npu, missing_vela

VOID = {"meta", "br", "img", "link", "input", "hr"}
RESULT = {
    **{
        "float_accuracy": 0.9912,
        "keras_accuracy": 0.99,
        "simulated_accuracy": 0.99,
        "tflite_accuracy": 0.99,
    },
    "container_bytes": 987654321,
    "mismatched_elements": 0,
    "compared_elements": 1234567,
    "seed": 7,
    "versions": {"keras": keras.__version__},
    "machine": "a <small> one",
}


class Checker(HTMLParser):
    """Fails on tags that do not match, ids given twice, and references to what is not there."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.ids, self.references, self.tags = [], [], set(), []
        self.feed(text)
        self.close()
        assert not self.open
        assert len(self.ids) == len(set(self.ids))
        assert self.references <= set(self.ids)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            assert not name.startswith("on")
            assert name not in ("src", "srcset", "action")
            if name in ("href", "xlink:href"):
                assert value.startswith("#")
                self.references.add(value[1:])
            self.references |= set(re.findall(r"url\(#([^)]+)\)", value or ""))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(path: Path) -> tuple[str, Checker]:
    text = path.read_text("utf-8")
    assert "://" not in text
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    return text, Checker(text)


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    model, history, figures = small_model.trained()
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, model, history=history, figures=figures, result=RESULT)
    return path


def test_the_whole_page(full):
    text, page = checked(full)
    headings = re.findall("<h2>(.*?)</h2>", text)
    assert headings == [
        "Layers",
        "Bytes per layer",
        "Why is it not smaller?",
        "Training",
        "Learned coefficients, grid error, sparsity",
        "Float weights against their levels",
        "Run",
    ]
    # bars; loss, accuracy; two coefficients, error, sparsity; three kernels
    assert page.tags.count("svg") == 1 + 2 + 4 + 3
    assert "script" not in page.tags
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    assert list(full.parent.iterdir()) == [full]


def test_the_figures_on_the_page(full):
    text, _ = checked(full)
    summary = summarize(write_tflite(lower(small_model.trained()[0])))
    for shown in (
        "99.12%",
        "1,234,567",
        f"{summary.container_bytes:,}",
        f"{summary.float_bytes:,}",
        "hidden/kernel",
    ):
        assert shown in text
    assert f"{summary.float_bytes / summary.container_bytes:.1f}\N{MULTIPLICATION SIGN}" in text
    assert "<dt>seed</dt><dd>7</dd>" in text
    assert "a &lt;small&gt; one" in text
    assert "987654321" not in text.replace(",", "")


def test_pictures_take_the_pages_colour_and_no_mathematics(full):
    text, _ = checked(full)
    assert "currentColor" in text
    assert "mathdefault" not in text
    assert "of 9,216 pruned to 0" in text


def test_parts_without_data_are_left_out(tmp_path):
    tflite = write_tflite(lower(small_model.trained()[0]))
    (tmp_path / "m.tflite").write_bytes(tflite)
    write_report(tmp_path / "a.html", tflite=tmp_path / "m.tflite")
    write_report(tmp_path / "b.html", container=pack(tflite))
    for name, title in (("a.html", "m.tflite"), ("b.html", "tfqreg")):
        text, page = checked(tmp_path / name)
        assert f"<title>{title}</title>" in text
        assert re.findall("<h2>(.*?)</h2>", text) == [
            "Layers",
            "Bytes per layer",
            "Why is it not smaller?",
        ]
        assert page.tags.count("svg") == 1
    write_report(tmp_path / "c.html")
    assert "<h2>" not in checked(tmp_path / "c.html")[0]


@pytest.mark.skipif(missing_vela() is not None, reason="ethos-u-vela is not installed")
def test_a_target_with_a_compiler(tmp_path):
    tflite = write_tflite(lower(small_model.trained()[0]))
    flash = f"{compile_for_npu(tflite, 'ethos-u55-128').off_chip_flash_bytes:,}"
    for name, source in {"tflite": tflite, "container": pack(tflite)}.items():
        write_report(tmp_path / "r.html", **{name: source}, target="ethos-u55-128")
        text, _ = checked(tmp_path / "r.html")
        assert "<h2>On ethos-u55-128</h2>" in text
        assert f"<dt>off-chip flash (bytes)</dt><dd>{flash}</dd>" in text
        assert "<dd>4 of 4 (100.0%)</dd>" in text


def test_a_target_of_a_model_that_is_not_ready(tmp_path):
    x = keras.Input((4, 4, 3))
    model = keras.Model(x, keras.layers.LayerNormalization(name="<ln>")(x))
    write_report(tmp_path / "r.html", model, target="tflite-micro")
    text, _ = checked(tmp_path / "r.html")
    assert "<li>&lt;ln&gt;: LayerNormalization has no integer form." in text
    with pytest.raises(ValueError, match="Received: target='tpu'"):
        write_report(tmp_path / "none.html", model, target="tpu")
    assert not (tmp_path / "none.html").exists()


def test_a_float_model(tmp_path):
    write_report(tmp_path / "r.html", small_model.float_model())
    text, page = checked(tmp_path / "r.html")
    assert "not quantized" in text
    assert "svg" not in page.tags


def test_names_are_escaped_in_text_and_pictures(tmp_path):
    name = "_<i>&\"'$x_1$ ünï"
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(5, name=name)], name=name)
    model = tq.quantize(model, [tq.Rule(".*", tq.Uniform(3))], activations=None)
    figures = [tq.kernel_figures(model)] * 2
    history = {name: {"loss": [1.0]}}
    row = Row(f"{name}/kernel", name, (5, 20), 100, 3, 0.2, 100, 30.0, 40)
    write_report(tmp_path / "r.html", small_model.float_model(), history=history, figures=figures)
    text, page = checked(tmp_path / "r.html")
    assert "i" not in page.tags
    assert "&lt;i&gt;&amp;" in text
    from tfqreg.export.report.pictures import byte_bars

    Checker(byte_bars([row]))


def test_many_kernels_get_colours_in_order_and_no_legend(tmp_path):
    figures = [
        {f"layer{i}/kernel": {"sparsity": 0.1 * i + 0.01 * epoch} for i in range(10)}
        for epoch in range(3)
    ]
    write_report(tmp_path / "r.html", figures=figures)
    text, _ = checked(tmp_path / "r.html")
    assert "10 kernels, the first dark, the last bright" in text
    assert "layer3/kernel" not in text


def test_a_kernel_that_appears_later_leaves_a_gap(tmp_path):
    figures = [
        {"a/kernel": {"sparsity": 0.1}},
        {"a/kernel": {"sparsity": 0.2}, "b/kernel": {"sparsity": 0.3}},
    ]
    write_report(tmp_path / "r.html", figures=figures)
    assert "b/kernel" in checked(tmp_path / "r.html")[0]


def test_the_same_input_gives_the_same_page(tmp_path):
    model, history, figures = small_model.trained()
    for name in ("a.html", "b.html"):
        write_report(tmp_path / name, model, history=history, figures=figures)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_failure_leaves_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_report(tmp_path / "none" / "r.html")
    with pytest.raises(ValueError, match="identifier"):
        write_report(tmp_path / "r.html", tflite=b"not a model")
    assert not list(tmp_path.iterdir())


def test_the_explanation_starts_with_the_largest_item_and_its_numbers_add_up():
    rows = (
        Row("small", "CONV_2D", (10, 10), 100, 8, 0.0, 100, 80.0, 90),
        Row("large", "FULLY_CONNECTED", (100, 100), 10_000, 2, 0.9, 10_000, 700.0, 650),
    )
    parts = {
        "kernels": 740,
        "biases": 5,
        "scales and zero points": 50,
        "graph and small tensors": 195,
    }
    summary = Summary(rows, 40_000, 10_500, 1000, parts | {"header and index": 10})
    subjects, texts = zip(*explanation(summary), strict=True)
    # 5 and 10 bytes of 1,000 are not worth a line; below the entropy nothing is left to a perfect
    # coder.
    assert subjects == ("large", "Graph and small tensors", "small", "Scales and zero points")
    assert "650 bytes, 65.0% of the container" in texts[0]
    # 10,000 weights: H(0.1) = 0.469 bits each for their places
    assert "takes 586 bytes, the values of the 1,000 others 114" in texts[0]
    assert "7.1% below it" in texts[0]
    assert "none of them zero" in texts[2]
    assert "10 bytes (12.5%) above it" in texts[2]


def test_the_explanation_sums_up_the_rest():
    rows = tuple(
        Row(f"k{i}", "CONV_2D", (10, 10), 100, 8, 0.0, 100, 80.0, 100 - i) for i in range(7)
    )
    parts = {"kernels": 679, **dict.fromkeys(("biases", "scales and zero points"), 0)}
    parts |= {"graph and small tensors": 300, "header and index": 21}
    found = dict(explanation(Summary(rows, 2800, 1000, 1000, parts)))
    assert found["3 smaller kernels"].startswith("285 bytes")
    assert found["What is left"].startswith(
        "A perfect coder of single weights would save 119 bytes"
    )
    assert explanation(Summary(rows, 2800)) == []

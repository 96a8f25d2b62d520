"""The report's section on where accuracy goes."""

import numpy as np
import pytest

from tests.export import small_model
from tests.export.diagnosis.test_diagnose import calibrated, dense_net, normal
from tfqreg.export.cli.commands import main
from tfqreg.export.diagnosis.diagnose import diagnose
from tfqreg.export.report.diagnosis_section import diagnosis_section
from tfqreg.export.report.html import write_report


@pytest.mark.filterwarnings("ignore:.* lost:UserWarning")
def test_a_picture_and_the_causes(tmp_path):
    model = dense_net()
    x = normal(64, 16) * np.where(np.arange(16) == 3, 4000, 1).astype(np.float32)
    q = calibrated(model, x)
    found = diagnose(q, x, model)
    section = diagnosis_section(found)
    assert section.count("<svg") == 1
    assert "<b>x:</b> 15 of 16 channels" in section
    assert "<code>normalize the columns before the model" in section
    write_report(tmp_path / "r.html", q, diagnosis=found)
    assert section in (tmp_path / "r.html").read_text()


def test_without_a_reference_there_is_no_picture():
    model, x = dense_net(), normal(64, 16)
    section = diagnosis_section(diagnose(calibrated(model, x), x))
    assert "<svg" not in section
    assert "without reference=" in section


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small_model.trained()[0].save("q.keras")
    small_model.float_model().save("m.keras")
    np.save("x.npy", small_model.data(16))
    command = "report q.keras -o r.html --samples x.npy --float m.keras"
    assert main(command.split()) == 0
    assert "Where accuracy goes" in (tmp_path / "r.html").read_text()
    assert main(["report", "m.keras", "-o", "s.html", "--samples", "x.npy"]) == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize("name", ["samples", "float"])
def test_the_options_are_named_in_the_help(name, capsys):
    with pytest.raises(SystemExit):
        main(["report", "--help"])
    assert f"--{name}" in capsys.readouterr().out

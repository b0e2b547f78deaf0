"""Nothing that a server says of itself runs the terminal that it is shown on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import synthetic

from zdtest.history.witness import Witness
from zdtest.judging.slo import Slo
from zdtest.judging.verdict import judge
from zdtest.records.recording import ROW, Recording, SampleWriter, read_samples
from zdtest.records.shown import shown

CLEARS = "v2\x1b[2J\x1b[H\x1b[32mHOLDS\x1b[0m"


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("v2.1-rc (Grün)", "v2.1-rc (Grün)"),
        ("", ""),
        (CLEARS, r"v2\x1b[2J\x1b[H\x1b[32mHOLDS\x1b[0m"),
        ("a\r\nb\tc\x00\x7f\x9b", r"a\r\nb\tc\x00\x7f\x9b"),
        ("v2\u202e1v", r"v2\u202e1v"),
        ("\ufffd", "\ufffd"),
        ("\udcff", r"\udcff"),
    ],
)
def test_what_cannot_be_printed_is_escaped_and_all_else_is_as_it_was(text, escaped):
    assert shown(text) == escaped


def test_a_version_and_an_instance_are_fit_to_be_shown_as_soon_as_they_are_read(tmp_path: Path):
    path = tmp_path / "samples.arrows"
    writer = SampleWriter(path)
    writer.append(np.zeros(1, ROW), [CLEARS], [f"i{CLEARS}"])
    writer.close({})
    samples, _ = read_samples(path)
    assert samples.versions == ("", shown(CLEARS))
    assert samples.instances == ("", shown(f"i{CLEARS}"))


def test_a_witness_is_shown_so_whoever_told_of_it():
    assert "\x1b" not in Witness(CLEARS, 1.0, CLEARS, CLEARS).text(0.0)


def test_a_summary_has_no_escape_sequence_whatever_the_folder_says(tmp_path: Path):
    folder = synthetic.run(
        tmp_path / "r", versions=("v1", CLEARS), manifest={"new_version": CLEARS, "run": CLEARS}
    )
    verdict = judge(Recording.read(folder), Slo())
    assert all(line.isprintable() for line in verdict.summary().splitlines())

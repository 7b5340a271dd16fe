"""The command that shows a heart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clinbundles.phantoms.heart.__main__ import main


def test_the_command_writes_a_moving_picture_with_the_meshs_outline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "heart.gif"), "--seed", "3", "--frames", "3"]) == 0
    assert "EDV" in capsys.readouterr().out
    with Image.open(tmp_path / "heart.gif") as movie:
        assert movie.n_frames == 3
        pages = []
        for n in range(3):
            movie.seek(n)
            pages.append(np.asarray(movie.convert("RGB")).astype(int))
    coloured = np.abs(pages[0][..., 0] - pages[0][..., 2]) > 60
    assert 0.003 < coloured.mean() < 0.05
    assert np.abs(pages[1] - pages[0]).mean() > 2.0


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["heart.mp4"], "does not end in .gif"),
        (["none/heart.gif"], "does not exist"),
        (["a.gif", "--frames", "1"], "2"),
    ],
)
def test_impossible_requests_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err

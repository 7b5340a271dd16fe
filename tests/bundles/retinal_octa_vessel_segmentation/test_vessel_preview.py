from __future__ import annotations

import pytest
from PIL import Image

from retinal_octa_vessel_segmentation.simulation.growth_parameters import GrowthParameters
from retinal_octa_vessel_segmentation.simulation.vessel_graph import VesselGraph
from retinal_octa_vessel_segmentation.simulation.vessel_preview import preview_vessels, scale_density

SMALL = {"stages": [{"name": "SVC", "iterations": 40}]}


def test_preview_writes_graph_and_picture_and_tells_what_it_holds(tmp_path):
    statistics = preview_vessels(tmp_path / "a folder", seed=3, pixels=64, growth=SMALL)
    names = sorted(path.name for path in (tmp_path / "a folder").iterdir())
    assert names == ["preview.png", "vessels.csv", "vessels.graphml"]
    assert len(VesselGraph.read_csv(tmp_path / "a folder" / "vessels.csv")) == statistics["segments"]
    assert Image.open(tmp_path / "a folder" / "preview.png").size[0] > 500


def test_a_coarser_label_holds_fewer_pixels_and_an_empty_one_is_refused(tmp_path):
    fine = preview_vessels(tmp_path, pixels=64, growth=SMALL)
    coarse = preview_vessels(tmp_path, pixels=64, growth=SMALL, min_radius_um=4.0)
    assert coarse["label_fraction"] < fine["label_fraction"]
    with pytest.raises(ValueError, match="the largest radius is"):
        preview_vessels(tmp_path, pixels=64, growth=SMALL, min_radius_um=1000.0)


def test_density_scales_the_sinks_of_every_stage():
    halved = scale_density(GrowthParameters(field_mm=3.0), 0.5)
    assert [stage.sinks_per_step for stage in halved.stages] == [1000, 1000]
    with pytest.raises(ValueError, match="density is 0"):
        scale_density(halved, 0)

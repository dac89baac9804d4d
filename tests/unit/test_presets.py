"""Presets: what each takes, and what settings change of it."""

from __future__ import annotations

import math

import attrs
import pytest

from polyface.errors import ConfigError
from polyface.pipeline.presets import PRESETS, select_strategy
from polyface.pipeline.views import make_views
from polyface.plugins.records import DetectDefaults
from polyface.settings.config import Config
from polyface.settings.loading import load_config


def shapes_of(views):
    return [(view.crop, view.scale, view.flip) for view in views]


class TestPresets:
    @pytest.mark.parametrize(
        ("height", "width", "scale"),
        [
            (600, 800, 1600 / 600),  # the short side to 1600: the long one comes to 2133
            (1000, 2000, 2150 / 2000),  # it would come to 3200
            (3200, 3200, 0.5),
        ],
    )
    def test_widerface_1600_brings_the_short_side_to_1600_and_the_long_one_to_2150_at_most(self, height, width, scale):
        assert shapes_of(PRESETS["widerface-1600"].views(height, width)) == [((0, 0, width, height), scale, False)]

    def test_widerface_original_is_the_image_as_it_is(self):
        assert PRESETS["widerface-original"].views(60, 80) == make_views(Config(), 60, 80)

    # By hand from widerface_val.py: "+" counts faces over 30 pixels (of its inclusive sides), "-" those under 100.
    @pytest.mark.parametrize(
        ("height", "width", "largest", "expected"),
        [
            (768, 1024, 3, "1 1f 0.5+ 0.75+ 2- 1.5- 3- 0.25+ 1.25- 1.75- 2.25-"),  # 3.695, cut to 3
            (2560, 2912, 1.2001465, "1 1f 0.5+ 0.75+ 1.2001465- 0.25+"),
            (3200, 3200, 1.0239999, "1 1f 0.5+ 0.75+ 1.0239999- 0.25+"),
            (4000, 3500, 0.8757614, "0.8757614 0.8757614f 0.5+ 0.75+ 0.6878807+ 0.25+"),
            (6400, 6711, 0.4999958, "0.4999958 0.4999958f 0.2499979+ 0.3749968+ 0.25+"),
        ],
    )
    def test_dsfd_multiscale_takes_the_scales_and_size_filters_of_tencent(self, height, width, largest, expected):
        views = PRESETS["dsfd-multiscale"].views(height, width)
        assert min(3, math.sqrt(2147483647 / 200 / (height * width))) == pytest.approx(largest, abs=1e-6)
        limits = {(-math.inf, math.inf): "", (29, math.inf): "+", (-math.inf, 99): "-"}
        for view, text in zip(views, expected.split(), strict=True):
            number = text.rstrip("f+-")
            assert view.crop == (0, 0, width, height)
            assert view.scale == pytest.approx(float(number), abs=1e-6)
            assert "f" * view.flip + limits[view.larger_than, view.smaller_than] == text[len(number) :]

    def test_dsfd_multiscale_votes_at_an_iou_of_030_and_keeps_750_confirmed_faces(self):
        preset = PRESETS["dsfd-multiscale"]
        assert (preset.merge, preset.iou_threshold, preset.limit, preset.min_votes) == ("vote", 0.3, 750, 2)

    @pytest.mark.parametrize(
        ("name", "threshold"), [("widerface-original", 0.02), ("widerface-1600", 0.02), ("dsfd-multiscale", 0.01)]
    )
    def test_a_preset_brings_the_published_score_threshold(self, name, threshold):
        assert PRESETS[name].score_threshold == threshold

    def test_an_unknown_preset_offers_the_nearest_and_lists_them(self, detector_spec):
        with pytest.raises(ConfigError) as caught:
            select_strategy(Config(preset="widerface-160"), detector_spec)
        assert caught.value.what.startswith("There is no preset 'widerface-160'; did you mean 'widerface-1600'")
        assert caught.value.why == ("the presets: widerface-original, widerface-1600, dsfd-multiscale",)

    @pytest.mark.parametrize(
        ("preset", "setting", "value"),
        [
            ("dsfd-multiscale", "flip", False),
            ("dsfd-multiscale", "scales", (1.0,)),
            ("widerface-1600", "scales", (1.0,)),
        ],
    )
    def test_a_default_that_was_asked_for_is_refused_where_the_preset_does_otherwise(
        self, preset, setting, value, detector_spec
    ):
        config = load_config(environ={}, source="option", preset=preset, **{setting: value})
        with pytest.raises(ConfigError) as caught:
            select_strategy(config, detector_spec)
        assert caught.value.what == f"preset and {setting} contradict each other."
        assert caught.value.why == (f"the preset '{preset}' sets {setting} by itself", f"{setting} is set (option)")

    def test_a_default_that_was_asked_for_is_no_matter_where_the_preset_does_the_same(self, detector_spec):
        config = load_config(environ={}, preset="widerface-original", flip=False, scales=(1.0,))
        assert select_strategy(config, detector_spec).views is PRESETS["widerface-original"].views

    def test_merging_is_the_setting_s_the_detector_s_or_the_preset_s(self, detector_spec):
        assert select_strategy(Config(), detector_spec).merge == "nms"
        blazing = attrs.evolve(detector_spec, defaults=DetectDefaults(merge="blend"))
        assert select_strategy(Config(), blazing).merge == "blend"
        assert select_strategy(Config(merge="nms"), blazing).merge == "nms"
        assert select_strategy(Config(preset="widerface-original"), blazing).merge == "nms"

    def test_the_settings_are_the_strategy_where_there_is_no_preset(self, detector_spec):
        config = Config(scales=(1, 2), flip=True, tile=40, tile_overlap=0.5, max_side=50, merge="vote", view="plain")
        strategy = select_strategy(config, attrs.evolve(detector_spec, face_sizes=(2, 32)))
        assert strategy.merge == "vote"
        assert strategy.views(60, 100) == make_views(config, 60, 100)

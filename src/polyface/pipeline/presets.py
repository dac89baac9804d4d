"""Strategies: the one that the settings describe, and published protocols by name."""

from __future__ import annotations

import functools
from collections.abc import Callable

import attrs
from attrs import frozen

from polyface.errors import ConfigError, Fix, nearest, quoted
from polyface.pipeline.views import View, make_views, plan_views, resolve_run_pixels
from polyface.plugins.records import DetectorSpec
from polyface.settings.config import Config


@frozen(kw_only=True)
class Strategy:
    """Which views of an image to take, and how to merge what is found in them.

    Args:
        views: from the image's height and width, in pixels, to its views.
        merge: ``"nms"``, ``"vote"`` or ``"blend"``; see :func:`polyface.pipeline.merging.merge_faces`.
        min_votes: a face needs so many boxes to be voted for.
        score_threshold: a face scores at least this.
        iou_threshold: of two boxes that overlap more than this, one goes.
        limit: the most faces of an image; ``None`` is all of them.
        run_pixels: the most pixels of input in a run of the network.
        decides: settings that a preset takes into its own hands, so that none of them may be set beside it.
    """

    views: Callable[[int, int], tuple[View, ...]]
    merge: str = "nms"
    min_votes: int = 1
    score_threshold: float = 0.5
    iou_threshold: float = 0.4
    limit: int | None = None
    run_pixels: int = 2048 * 2048
    decides: tuple[str, ...] = ()


def select_strategy(config: Config, detector: DetectorSpec) -> Strategy:
    """Return the strategy that the settings describe.

    Raises:
        ConfigError: there is no such preset, or it does otherwise than a setting that was given says; ``run_pixels`` is
            too small for the detector.
    """
    defaults = detector.defaults
    budget = resolve_run_pixels(config, detector)
    if config.preset is None:
        views = functools.partial(make_views, config)
        if config.view == "auto" and config.infer_size is None:
            views = functools.partial(plan_views, config, detector, budget // (detector.fixed_batch or 1))
        usual = Strategy(
            views=views,
            merge=config.merge or defaults.merge,
            score_threshold=defaults.score_threshold,
            iou_threshold=defaults.iou_threshold,
            limit=defaults.post_nms_top_k,
        )
    elif config.preset in PRESETS:
        usual = PRESETS[config.preset]
    else:
        raise ConfigError(
            f"There is no preset {quoted(config.preset)}{nearest(config.preset, PRESETS) or '.'}",
            why=[f"the presets: {', '.join(PRESETS)}"],
        )
    for name in usual.decides:
        # Config refuses other values than the defaults beside a preset; but a default may have been asked for, too.
        if name in config.sources:
            raise ConfigError(
                f"preset and {name} contradict each other.",
                why=[f"the preset '{config.preset}' sets {name} by itself", f"{name} is set ({config.sources[name]})"],
                fix=Fix("leave out", names=(name, "preset")),
            )
    thresholds = {name: getattr(config, name) for name in ("score_threshold", "iou_threshold")}
    given = {name: value for name, value in thresholds.items() if value is not None}
    return attrs.evolve(usual, run_pixels=budget, **given)


def _short_1600(height: int, width: int) -> tuple[View, ...]:
    scale = min(1600 / min(height, width), 2150 / max(height, width))
    return (View(crop=(0, 0, width, height), scale=scale),)


def _dsfd_multiscale(height: int, width: int) -> tuple[View, ...]:
    """Return the views of ``widerface_val.py`` in Tencent/FaceDetection-DSFD.

    The largest scale is 3, or what keeps the network's input at 0x7fffffff / 200 pixels. Shrunk views count for faces
    whose longer side is over 30 pixels, enlarged ones for those whose shorter side is under 100; sides have one pixel
    more there than here, hence 29 and 99. Its IoU counts sides so, too, which matters for faces of a few pixels; here
    there is one IoU for all.
    """
    largest = min(3.0, (0x7FFFFFFF / 200 / (height * width)) ** 0.5)
    smallest = 0.5 * min(1.0, largest) if largest < 0.75 else 0.5
    whole = functools.partial(View, crop=(0, 0, width, height))
    large = functools.partial(whole, larger_than=29)
    small = functools.partial(whole, smaller_than=99)
    views = [whole(scale=min(1.0, largest)), whole(scale=min(1.0, largest), flip=True), large(scale=smallest)]
    views += [large(scale=0.75)] if largest > 0.75 else []
    views.append(small(scale=min(2.0, largest)) if largest > 1 else large(scale=(smallest + largest) / 2))
    views += [small(scale=1.5)] if largest > 1.5 else []
    views += [small(scale=largest)] if largest > 2 else []
    views.append(large(scale=0.25))
    views += [small(scale=scale) for scale in (1.25, 1.75, 2.25) if scale <= largest]
    return tuple(views)


PRESETS = {
    # The two settings of test_widerface.py in biubug6/Pytorch_Retinaface; thresholds as in its published figures.
    "widerface-original": Strategy(
        views=functools.partial(make_views, Config()), score_threshold=0.02, iou_threshold=0.4, limit=750
    ),
    "widerface-1600": Strategy(
        views=_short_1600, decides=("scales",), score_threshold=0.02, iou_threshold=0.4, limit=750
    ),
    # There, a box that no other view confirms is dropped.
    "dsfd-multiscale": Strategy(
        views=_dsfd_multiscale,
        decides=("flip", "scales"),
        merge="vote",
        min_votes=2,
        score_threshold=0.01,
        iou_threshold=0.3,
        limit=750,
    ),
}
"""The published protocols, by name. Their low thresholds are those of precision-recall curves."""

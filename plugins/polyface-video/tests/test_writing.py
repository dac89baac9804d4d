"""What is in a video that is written: its source's times, sound, subtitles and colours, read back packet by packet."""

from __future__ import annotations

import errno
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from polyface.errors import ConfigError, ImageError
from polyface.storage.files import atomic_write

av = pytest.importorskip("av", reason="needs PyAV: pip install polyface-video")

from polyface_video.writing import VideoWriter, check_encoder  # noqa: E402


def frames_of(path):
    """Pixels and seconds of each frame."""
    with av.open(str(path)) as opened:
        return [(one.to_ndarray(format="rgb24"), one.pts * one.time_base) for one in opened.decode(video=0)]


def packets_of(path, kind):
    """Content, begin and duration of each packet of the first stream of a kind, in seconds."""
    with av.open(str(path)) as opened:
        stream = next(one for one in opened.streams if one.type == kind)
        return [
            (bytes(one), one.pts * stream.time_base, one.duration * stream.time_base)
            for one in opened.demux(stream)
            if one.size
        ]


def kinds(path):
    with av.open(str(path)) as opened:
        return [one.type for one in opened.streams]


def tags_of(path):
    with av.open(str(path)) as opened:
        context = opened.streams.video[0].codec_context
        return context.color_range, context.colorspace, context.color_primaries, context.color_trc


def rewrite(source, target, *, frames=None, size=None, **options):
    """Write the frames of a clip anew, just as they are."""
    frames = frames_of(source) if frames is None else frames
    size = size or frames[0][0].shape[1::-1]
    start = 0 if source is None else frames_of(source)[0][1]
    with atomic_write(target) as stream, VideoWriter(stream, target.name, source, size=size, **options) as out:
        for image, seconds in frames:
            out.write(image, float(seconds - start))
    return target


VARIABLE = [3 * number + number % 2 + 7 * (number > 9) for number in range(20)]


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("a.mp4", {}),
        ("a.mp4", {"times": VARIABLE, "base": Fraction(1, 600)}),
        ("a.mp4", {"times": [5 + n for n in range(20)], "base": Fraction(1, 30)}),
        ("a.mov", {"times": VARIABLE, "base": Fraction(1, 90_000)}),
        ("a.mkv", {"times": [20 * time for time in VARIABLE], "base": Fraction(1, 1000)}),
        ("a.webm", {"codec": "libvpx-vp9"}),
        ("a.ts", {}),
        ("a.avi", {"codec": "mpeg4", "sound": False}),
    ],
)
def test_keeps_every_time_and_copies_the_sound_bit_for_bit(name, more, make_clip, tmp_path):
    source = make_clip(name, **more)
    made = rewrite(source, tmp_path / f"out{source.suffix}")
    before, after = frames_of(source), frames_of(made)
    assert [seconds for _, seconds in after] == [seconds for _, seconds in before]
    assert len(after) == 20
    for (image, _), (other, _) in zip(after, before, strict=True):
        assert np.abs(image.astype(int) - other).mean() < 6
    if more.get("sound", True):
        assert packets_of(made, "audio") == packets_of(source, "audio")
        assert len(packets_of(made, "audio")) > 30


def test_keeps_how_long_the_last_frame_is_shown(make_clip, tmp_path):
    source = make_clip("a.mp4", sound=False)
    made = rewrite(source, tmp_path / "out.mp4")
    with av.open(str(made)) as opened:
        stream = opened.streams.video[0]
        assert stream.duration * stream.time_base == Fraction(20, 25)


@pytest.mark.parametrize("count", [8, 9, 10, 20])
@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv", "out.webm"])
def test_keeps_how_long_a_last_frame_is_shown_that_is_longer_than_others(
    name, count, make_clip, tmp_path, copy_packets
):
    """Whatever their number is: frames of type B may be encoded after the last one that is shown."""
    end = Fraction(count - 1, 25)

    def lengthen(packet):
        packet.duration *= 60 if packet.pts * packet.time_base == end else 1
        return packet

    greys = [np.full((120, 160, 3), 10 * number, np.uint8) for number in range(count)]
    copy_packets(make_clip("a.mkv", images=greys, sound=False), tmp_path / "long.mkv", lengthen)
    made = packets_of(rewrite(tmp_path / "long.mkv", tmp_path / name), "video")
    assert max((begin, duration) for _, begin, duration in made) == (end, Fraction(60, 25))


def test_copies_all_sound_where_an_edit_list_leaves_out_frames_before_the_first(make_clip, tmp_path, copy_packets):
    def shift(packet):
        back = round(Fraction(6, 25) / packet.time_base)
        packet.pts, packet.dts = packet.pts - back, packet.dts - back
        return packet

    copy_packets(make_clip("a.mp4"), tmp_path / "edited.mp4", shift)
    made = rewrite(tmp_path / "edited.mp4", tmp_path / "out.mp4")
    assert packets_of(made, "audio") == packets_of(tmp_path / "edited.mp4", "audio")
    assert len(frames_of(made)) == len(frames_of(tmp_path / "edited.mp4")) == 14


def test_writes_mpeg4_which_counts_time_in_coarser_units(make_clip, tmp_path):
    check_encoder("out.avi", None, None)
    source = make_clip("a.mov", sound=False, base=Fraction(1, 90_000), times=[3600 * n for n in range(20)])
    made = rewrite(source, tmp_path / "out.mp4", codec="mpeg4")
    assert [float(seconds) for _, seconds in frames_of(made)] == pytest.approx([n / 25 for n in range(20)], abs=2e-5)


def test_leaves_the_sound_out_where_it_is_not_wanted(make_clip, tmp_path, caplog):
    source = make_clip("a.mkv", subtitles=True)
    assert kinds(rewrite(source, tmp_path / "out.mkv", sound=False)) == ["video", "subtitle"]
    assert caplog.messages == []


def test_copies_subtitles_bit_for_bit(make_clip, tmp_path):
    source = make_clip("a.mkv", subtitles=True)
    made = rewrite(source, tmp_path / "out.mkv")
    assert packets_of(made, "subtitle") == packets_of(source, "subtitle")
    assert [text for text, _, _ in packets_of(made, "subtitle")] == [b"face 0", b"face 1", b"face 2"]
    assert packets_of(made, "audio") == packets_of(source, "audio")


def test_copies_no_second_video_which_would_show_faces(make_clip, tmp_path):
    source = make_clip("a.mkv", second=True)
    assert kinds(source) == ["video", "audio", "video"]
    assert kinds(rewrite(source, tmp_path / "out.mkv")) == ["video", "audio"]


def test_copies_nothing_that_the_file_says_of_itself(portrait, make_clip, tmp_path):
    source = make_clip("a.mov", sound=False)
    told = tmp_path / "told.mov"
    with (
        av.open(str(source)) as before,
        av.open(str(told), "w", container_options={"movflags": "use_metadata_tags"}) as out,
    ):
        out.metadata.update({"title": "At home", "location": "+52.5200+013.4050/"})
        stream = out.add_stream_from_template(before.streams.video[0])
        for packet in before.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    with av.open(str(told)) as opened:
        assert "At home" in opened.metadata.values()
    made = rewrite(told, tmp_path / "out.mov")
    assert b"At home" not in made.read_bytes()
    assert b"+52.52" not in made.read_bytes()


def test_copies_what_comes_before_a_damaged_tail(make_clip, tmp_path):
    source = make_clip("a.mkv", count=60)
    whole = packets_of(source, "audio")
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    frames = frames_of(source)
    assert 0 < len(frames) < 60
    made = rewrite(source, tmp_path / "out.mkv")
    assert [seconds for _, seconds in frames_of(made)] == [seconds for _, seconds in frames]
    assert packets_of(made, "audio") == packets_of(source, "audio")
    assert [one[0] for one in packets_of(made, "audio")] == [one[0] for one in whole[: len(packets_of(made, "audio"))]]


@pytest.mark.parametrize(
    "tags",
    [
        {"color_range": 1, "colorspace": 1, "color_primaries": 1, "color_trc": 1},
        {"color_range": 2, "colorspace": 1, "color_primaries": 1, "color_trc": 1},
        {"color_range": 1, "colorspace": 6, "color_primaries": 6, "color_trc": 6},
        {"color_range": 1, "colorspace": 9, "color_primaries": 9, "color_trc": 16},
    ],
)
def test_keeps_colours_and_what_is_said_of_them(tags, make_clip, tmp_path):
    image = np.zeros((120, 160, 3), np.uint8)
    image[:, :80], image[:, 80:] = (200, 30, 30), (30, 180, 60)
    source = make_clip("a.mp4", images=[image] * 3, tags=tags, sound=False)
    made = rewrite(source, tmp_path / "out.mp4")
    assert tags_of(made) == tags_of(source) == tuple(tags.values())
    for shown, _ in frames_of(made):
        assert np.abs(shown[60, 40].astype(int) - (200, 30, 30)).max() <= 4
        assert np.abs(shown[60, 120].astype(int) - (30, 180, 60)).max() <= 4


def test_says_nothing_of_colours_where_the_source_says_nothing(make_clip, tmp_path):
    source = make_clip("a.mkv", sound=False)
    assert tags_of(rewrite(source, tmp_path / "out.mkv"))[1:] == tags_of(source)[1:] == (2, 2, 2)


def test_writes_what_is_turned_upright(make_clip, tmp_path):
    source = make_clip("a.mp4", rotation=90)
    with av.open(str(source)) as opened:
        assert next(opened.decode(video=0)).rotation == -90
    upright = [(np.rot90(image, -1), seconds) for image, seconds in frames_of(source)]
    made = rewrite(source, tmp_path / "out.mp4", frames=upright)
    with av.open(str(made)) as opened:
        frame = next(opened.decode(video=0))
        assert (frame.width, frame.height, frame.rotation) == (120, 160, 0)
    assert [seconds for _, seconds in frames_of(made)] == [seconds for _, seconds in upright]
    assert packets_of(made, "audio") == packets_of(source, "audio")


def test_keeps_an_odd_size(portrait, make_clip, tmp_path):
    source = make_clip("a.mp4", sound=False)
    frames = [(image[:119, :153], seconds) for image, seconds in frames_of(source)]
    made = rewrite(source, tmp_path / "out.mp4", frames=frames)
    assert frames_of(made)[0][0].shape == (119, 153, 3)


def test_of_a_part_copies_the_sound_of_that_part(make_clip, tmp_path):
    source = make_clip("a.mp4")
    part = [one for one in frames_of(source) if Fraction(1, 5) <= one[1] < Fraction(2, 5)]
    made = rewrite(source, tmp_path / "out.mp4", frames=part)
    inside = [
        one for one in packets_of(source, "audio") if one[1] + one[2] > Fraction(1, 5) and one[1] <= Fraction(2, 5)
    ]
    assert packets_of(made, "audio") == inside
    assert [seconds for _, seconds in frames_of(made)] == [seconds for _, seconds in part]


@pytest.mark.parametrize("kept", [slice(0, 10), slice(10, 20)])
def test_of_a_beginning_or_an_end_copies_the_sound_up_to_or_from_there(kept, make_clip, tmp_path):
    source = make_clip("a.mkv", base=Fraction(1, 1000), times=[40 * number for number in range(20)])
    made = rewrite(source, tmp_path / "out.mkv", frames=frames_of(source)[kept])
    sound = packets_of(source, "audio")
    middle = Fraction(2, 5)
    inside = [one for one in sound if (one[1] < middle if kept.start == 0 else one[1] + one[2] > middle)]
    assert packets_of(made, "audio") == inside
    assert 15 < len(inside) < 25


def test_without_a_source_has_the_frames_alone(portrait, tmp_path):
    frames = [(portrait, seconds) for seconds in (0, 0.1, 0.5)]
    made = rewrite(None, tmp_path / "out.mp4", frames=frames)
    assert kinds(made) == ["video"]
    assert [float(seconds) for _, seconds in frames_of(made)] == pytest.approx([0, 0.1, 0.5])


def test_takes_a_codec_and_a_quality(make_clip, tmp_path):
    source = make_clip("a.mp4")
    sizes = [rewrite(source, tmp_path / f"{crf}.mp4", crf=crf).stat().st_size for crf in (12, 40)]
    assert sizes[0] > 1.5 * sizes[1]
    made = rewrite(source, tmp_path / "out.mkv", codec="mpeg4")
    with av.open(str(made)) as opened:
        assert opened.streams.video[0].codec_context.name == "mpeg4"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("out.xyz", {}, "No container is known that ends in '.xyz'"),
        ("out.mp4", {"codec": "nothing"}, "out.mp4 cannot have the codec 'nothing'"),
        ("out.webm", {"codec": "libx264"}, "out.webm cannot have the codec 'libx264'"),
        ("out.mp4", {"codec": "mpeg4", "crf": 20}, "The codec 'mpeg4' has no crf"),
        ("out.webm", {}, "out.webm cannot have the audio (aac) of its source"),
    ],
)
def test_refuses_what_does_not_fit_together_and_leaves_no_file(name, options, message, make_clip, tmp_path):
    source = make_clip("a.mp4")
    with pytest.raises(ConfigError) as caught:
        rewrite(source, tmp_path / name, **options)
    assert caught.value.summary.startswith(message)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_refuses_a_source_that_is_no_video(tmp_path, pytestconfig):
    source = tmp_path / "a.mp4"
    source.write_bytes(b"no video")
    with pytest.raises(ImageError, match="cannot be read as a video"), atomic_write(tmp_path / "out.mp4") as stream:
        VideoWriter(stream, "out.mp4", source, size=(160, 120))
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_scales_a_frame_of_another_size(portrait, make_clip, tmp_path):
    frames = [(portrait, 0), (portrait[::2, ::2], Fraction(1, 25))]
    made = frames_of(rewrite(make_clip("a.mp4"), tmp_path / "out.mp4", frames=frames))
    assert [image.shape for image, _ in made] == [(120, 160, 3)] * 2
    assert np.abs(made[1][0].astype(int) - portrait).mean() < 16


@pytest.mark.parametrize(("rotation", "ratio"), [(0, Fraction(4, 3)), (90, Fraction(3, 4)), (180, Fraction(4, 3))])
def test_keeps_the_shape_of_pixels_as_they_are_shown(rotation, ratio, make_clip, tmp_path):
    source = make_clip("a.mp4", rotation=rotation, ratio=Fraction(4, 3))
    upright = [(np.rot90(image, -rotation // 90), seconds) for image, seconds in frames_of(source)]
    with av.open(str(rewrite(source, tmp_path / "out.mp4", frames=upright))) as opened:
        assert opened.streams.video[0].sample_aspect_ratio == ratio


def test_refuses_to_copy_the_sound_of_joined_recordings_at_wrong_times(make_clip, tmp_path):
    first, second = (make_clip(f"{name}.ts", count=60) for name in "ab")
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    frames = [(image, Fraction(number, 25)) for number, (image, _) in enumerate(frames_of(joined))]
    with pytest.raises(ImageError, match="its clock begins anew after"):
        rewrite(joined, tmp_path / "out.ts", frames=frames)
    assert not (tmp_path / "out.ts").exists()


@pytest.mark.parametrize(
    ("name", "codec", "message"),
    [
        ("a.ts", "libvpx-vp9", "does not find it again"),
        ("a.mp4", "h264_v4l2m2m", "codec 'h264_v4l2m2m'( does not work here)?"),
    ],
)
def test_refuses_a_codec_that_does_not_work_before_anything_is_done(name, codec, message):
    with pytest.raises(ConfigError, match=message):
        check_encoder(name, codec, None)


def test_of_no_frame_is_no_file(portrait, make_clip, tmp_path):
    source = make_clip("a.mp4")
    with pytest.raises(ConfigError, match="has no frame"):
        rewrite(source, tmp_path / "out.mp4", frames=iter(()), size=(160, 120))
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_whatever_ends_it_leaves_no_file(portrait, make_clip, tmp_path):
    source = make_clip("a.mp4")

    def frames():
        yield from frames_of(source)[:15]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rewrite(source, tmp_path / "out.mp4", frames=frames(), size=(160, 120))
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason=f"needs {FULL}")
def test_a_full_disk_is_an_error_of_the_system(portrait):
    with (
        FULL.open("wb", buffering=0) as stream,
        pytest.raises(OSError, match="No space left") as raised,
        VideoWriter(stream, "out.mp4", None, size=(160, 120)) as out,
    ):
        out.write(portrait, 0.0)
    assert raised.value.errno == errno.ENOSPC


def test_frames_of_one_time_stay_so_many(portrait, make_clip, tmp_path):
    source = make_clip("a.mkv", sound=False, base=Fraction(1, 1000), times=[40 * n for n in range(20)])
    frames = [(portrait, seconds) for seconds in (0, 0, 0, Fraction(1, 25))]
    made = rewrite(source, tmp_path / "out.mkv", frames=frames)
    assert [seconds for _, seconds in frames_of(made)] == [0, Fraction(1, 1000), Fraction(2, 1000), Fraction(1, 25)]

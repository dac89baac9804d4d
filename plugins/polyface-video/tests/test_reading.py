"""Frames of a video: in order, upright, with their numbers and times, as far as they can be decoded."""

from __future__ import annotations

import itertools
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyface.errors import ImageError

pytest.importorskip("av", reason="needs PyAV: pip install polyface-video")

from polyface_video.reading import open_video, read_frames


def read(path, **rest):
    """The frames of a video, and what ended them."""
    frames = []
    try:
        frames.extend(read_frames(path, **rest))
    except ImageError as error:
        return frames, str(error)
    return frames, ""


class TestTimes:
    def test_of_a_constant_rate_are_its_multiples_from_zero_on(self, make_clip):
        frames = list(read_frames(make_clip("a.mp4", count=5, base=Fraction(1, 25))))
        assert [frame.number for frame in frames] == [0, 1, 2, 3, 4]
        assert [frame.time for frame in frames] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])

    def test_of_a_variable_rate_are_those_of_the_video(self, make_clip):
        times = [0, 40, 50, 200, 1200]
        frames = list(read_frames(make_clip("a.mkv", count=5, times=times, base=Fraction(1, 1000), sound=False)))
        assert [frame.time for frame in frames] == pytest.approx([0, 0.04, 0.05, 0.2, 1.2])

    def test_start_and_end_leave_out_frames_whose_numbers_stay(self, make_clip):
        frames = list(read_frames(make_clip("a.mp4", count=10), start=0.08, end=0.2))
        assert [frame.number for frame in frames] == [2, 3, 4]

    @pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
    def test_of_a_last_frame_that_is_shown_for_long_say_nothing_of_a_missing_tail(
        self, make_clip, tmp_path, copy_packets, name
    ):
        def lengthen(packet):
            if packet.pts * packet.time_base > Fraction(4, 25):  # the last of five ends
                return None
            if packet.pts * packet.time_base == Fraction(4, 25):
                packet.duration = round(5 / packet.time_base)
            return packet

        copy_packets(make_clip(name, count=5, sound=False), tmp_path / f"long-{name}", lengthen)
        frames, problem = read(tmp_path / f"long-{name}")
        assert [frame.time for frame in frames] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16], abs=0.001)
        assert problem == ""

    def test_of_frames_that_an_avi_drops_say_nothing_of_a_missing_tail(self, make_clip):
        frames, problem = read(make_clip("a.avi", codec="mpeg4", count=4, times=[0, 1, 30, 90], sound=False))
        assert [frame.time for frame in frames] == pytest.approx([0, 0.04, 1.2, 3.6])
        assert problem == ""

    def test_of_joined_recordings_go_on_where_the_clock_begins_anew(self, make_clip, tmp_path):
        first, second = (make_clip(f"{name}.ts", count=40, sound=False) for name in "ab")
        path = tmp_path / "joined.ts"
        path.write_bytes(first.read_bytes() + second.read_bytes())
        frames, problem = read(path)
        assert [frame.time for frame in frames] == pytest.approx([number / 25 for number in range(80)], abs=0.001)
        assert problem == ""

    def test_of_a_part_beyond_the_end_are_an_error(self, make_clip):
        assert read(make_clip("a.mp4", count=10), start=100) == ([], "it has no frame from 100 s on: it ends at 0.40 s")

    def test_of_what_an_edit_list_leaves_out_are_none(self, make_clip, tmp_path, copy_packets):
        def shift(packet):
            back = round(Fraction(6, 25) / packet.time_base)
            packet.pts, packet.dts = packet.pts - back, packet.dts - back
            return packet

        copy_packets(make_clip("a.mp4", count=18, sound=False), tmp_path / "edited.mp4", shift)
        frames, problem = read(tmp_path / "edited.mp4")
        assert [frame.time for frame in frames] == pytest.approx([number / 25 for number in range(12)])
        assert problem == ""


class TestPixels:
    def test_are_those_of_the_images_but_for_the_loss_of_the_codec(self, make_clip, portrait):
        images = [np.roll(portrait, 20 * number, 1) for number in range(3)]
        for frame, image in zip(read_frames(make_clip("a.mp4", images=images)), images, strict=True):
            assert (frame.image.shape, frame.image.dtype) == (image.shape, np.uint8)
            assert np.abs(frame.image.astype(int) - image).mean() < 8

    @pytest.mark.parametrize("degrees", [90, 180, 270])
    def test_are_turned_upright_as_players_show_them(self, make_clip, portrait, degrees):
        path = make_clip("a.mp4", images=[portrait] * 2, rotation=degrees)
        expected = np.asarray(Image.fromarray(portrait).rotate(-degrees, expand=True))  # Pillow turns the other way
        frame = next(read_frames(path))
        assert frame.image.shape == expected.shape
        assert np.abs(frame.image.astype(int) - expected).mean() < 8
        info = open_video(path)
        assert (info.rotation, info.width, info.height) == (degrees, expected.shape[1], expected.shape[0])

    @pytest.mark.parametrize(
        ("matrix", "turned", "rotation"),
        [
            ((-1, 0, 0, 1), lambda image: image[:, ::-1], 0),  # as of a camera that faces its user
            ((1, 0, 0, -1), lambda image: image[::-1], 180),
            ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1), 270),
            ((0, -1, -1, 0), lambda image: image[::-1, ::-1].swapaxes(0, 1), 90),
        ],
    )
    def test_are_mirrored_as_players_show_them(self, make_clip, portrait, show_by, matrix, turned, rotation):
        path = make_clip("a.mp4", images=[portrait] * 3, sound=False)
        show_by(path, *matrix)
        frame = next(read_frames(path))
        info = open_video(path)
        assert frame.image.shape == turned(portrait).shape == (info.height, info.width, 3)
        assert np.abs(frame.image.astype(int) - turned(portrait)).mean() < 8
        # What remains, once left and right are swapped, is a turn.
        assert (info.mirrored, info.rotation) == (True, rotation)
        assert np.array_equal(np.rot90(portrait[:, ::-1], -rotation // 90), turned(portrait))

    def test_of_a_gif_are_all_its_frames(self, tmp_path, portrait):
        shades = [Image.fromarray(np.full_like(portrait, shade)) for shade in (0, 100, 200)]
        shades[0].save(tmp_path / "a.gif", save_all=True, append_images=shades[1:], duration=[100, 300, 100])
        frames = list(read_frames(tmp_path / "a.gif"))
        assert [int(frame.image.mean()) for frame in frames] == pytest.approx([0, 100, 200], abs=3)
        assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.4])


class TestDamage:
    @pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
    def test_of_the_tail_is_said_after_what_comes_before(self, make_clip, name):
        path = make_clip(name, count=100, sound=False)
        if name == "a.mp4":
            move_index_ahead(path)
        whole = [frame.image for frame in read_frames(path)]
        os.truncate(path, path.stat().st_size * 2 // 3)
        frames, problem = read(path)
        assert problem.startswith("it is cut short: ")
        assert 30 < len(frames) < 100
        # The last one that is there may be half of one.
        assert all(np.array_equal(frame.image, image) for frame, image in zip(frames[:-2], whole, strict=False))

    def test_of_one_frame_is_one_without_its_image_and_the_rest_follows(self, tmp_path, portrait):
        import av

        path = tmp_path / "a.avi"
        with av.open(str(path), "w") as out:
            stream = out.add_stream("mjpeg", rate=25)
            stream.width, stream.height, stream.pix_fmt = 160, 120, "yuvj420p"
            for _ in range(5):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(portrait, format="rgb24")))
            out.mux(stream.encode(None))
        parts = path.read_bytes().split(b"\xff\xd8\xff")  # how an image of JPEG begins
        path.write_bytes(b"\xff\xd8\xff".join([*parts[:3], bytes(len(parts[3]) - 16) + parts[3][-16:], *parts[4:]]))
        frames, problem = read(path)
        assert [frame.number for frame in frames] == [0, 1, 2, 3, 4]
        assert [frame.image is None or frame.damaged for frame in frames] == [False, False, True, False, False]
        assert problem == ""

    @pytest.mark.parametrize("lost", [10, 12, 28])
    def test_of_a_frame_of_a_transport_stream_moves_no_other(self, make_clip, tmp_path, copy_packets, lost):
        """Half a packet: the decoder makes up the rest, or refuses; the times of all others stay."""
        import av

        numbers = itertools.count()

        def cut(packet):
            if next(numbers) != lost:
                return packet
            half = av.Packet(bytes(packet)[: packet.size // 2])
            half.pts, half.dts, half.time_base, half.duration = (
                packet.pts,
                packet.dts,
                packet.time_base,
                packet.duration,
            )
            return half

        source = make_clip("a.ts", count=30, sound=False)
        whole = [round(frame.time, 3) for frame in read_frames(source)]
        copy_packets(source, tmp_path / "broken.ts", cut)
        times = [round(frame.time, 3) for frame in read(tmp_path / "broken.ts")[0]]
        assert times == sorted(set(times))
        assert set(times) <= set(whole)
        assert len(times) >= 29

    @pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx265"), ("a.mp4", "libx264"), ("a.webm", "libvpx-vp9")])
    def test_of_a_frame_is_told_where_the_decoder_does_not(
        self, make_clip, tmp_path, copy_packets, empty_packet, name, codec
    ):
        """A packet holds nothing: what needs it is damaged, or lost; no frame is missing without a word."""
        numbers = itertools.count()
        whole = make_clip(name, codec=codec, count=24, sound=False)
        target = tmp_path / f"broken-{name}"

        copy_packets(whole, target, lambda packet: empty_packet(packet) if next(numbers) == 10 else packet)
        frames, problem = read(target)
        assert len(frames) == 24
        assert [frame.time for frame in frames] == pytest.approx([number / 25 for number in range(24)], abs=0.001)
        assert any(frame.image is None or frame.damaged for frame in frames)
        assert problem == ""

    def test_of_a_key_frame_takes_all_with_it_up_to_the_next(self, make_clip, tmp_path, copy_packets, empty_packet):
        """The packets after it need it; they are frames all the same, and numbers stay right."""
        keys = itertools.count()

        def empty(packet):
            return empty_packet(packet) if packet.is_keyframe and next(keys) == 1 else packet

        source = make_clip("a.mkv", count=36, sound=False, keys=12)
        copy_packets(source, tmp_path / "broken.mkv", empty)
        frames, problem = read(tmp_path / "broken.mkv")
        assert [frame.number for frame in frames] == list(range(36))
        assert [frame.time for frame in frames] == pytest.approx([number / 25 for number in range(36)], abs=0.001)
        gone = [frame.number for frame in frames if frame.image is None]
        assert 12 in gone
        assert set(gone) <= set(range(9, 24))  # three frames of type B refer to it
        assert problem == ""

    @pytest.mark.parametrize(
        ("name", "codec", "rest"),
        [
            ("a.avi", "libx264", {}),
            ("a.asf", "libx264", {}),
            ("a.mpg", "libx264", {}),
            ("a.ts", "libx265", {}),
            ("a.mp4", "libx264", {"options": {"x264-params": "interlaced=1"}}),
            ("a.mkv", "libx264", {"times": [n + 1000 for n in range(30)]}),
            ("a.webm", "libvpx", {"options": {"auto-alt-ref": "1", "lag-in-frames": "16"}}),
            ("a.webm", "libvpx-vp9", {"options": {"auto-alt-ref": "1", "lag-in-frames": "16"}}),
            ("a.mkv", "libsvtav1", {}),
        ],
    )
    def test_of_whole_files_there_is_none_whatever_the_codec_and_the_container(self, make_clip, name, codec, rest):
        frames, problem = read(make_clip(name, codec=codec, count=30, sound=False, **rest))
        assert [frame.number for frame in frames if frame.image is None or frame.damaged] == []
        assert [frame.time for frame in frames] == pytest.approx([number / 25 for number in range(30)], abs=0.002)
        assert problem == ""

    def test_of_a_recording_that_begins_amid_frames_is_none(self, make_clip, tmp_path, copy_packets):
        numbers = itertools.count()
        source = make_clip("a.mkv", count=36, sound=False, keys=12)
        copy_packets(source, tmp_path / "amid.mkv", lambda packet: packet if next(numbers) >= 5 else None)
        frames, problem = read(tmp_path / "amid.mkv")
        assert (len(frames), problem) == (24, "")
        assert all(frame.image is not None and not frame.damaged for frame in frames)

    @pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
    @pytest.mark.parametrize("lost", [10, 28, 29])
    def test_of_a_frame_stands_where_it_would_be_shown_also_among_frames_that_refer_to_later_ones(
        self, make_clip, tmp_path, copy_packets, empty_packet, name, lost
    ):
        """H.264 with frames of type B, whose packets do not come in the order in which frames are shown."""
        numbers = itertools.count()
        moments = []

        def empty(packet):
            if next(numbers) != lost:
                return packet
            moments.append(float(packet.pts * packet.time_base))
            return empty_packet(packet)

        source = make_clip(name, count=30, sound=False)
        whole = [frame.time for frame in read_frames(source)]
        copy_packets(source, tmp_path / f"broken-{name}", empty)
        frames, problem = read(tmp_path / f"broken-{name}")
        assert [frame.time for frame in frames] == pytest.approx(whole)
        assert [frame.time for frame in frames if frame.image is None] == pytest.approx(moments)
        assert problem == ""

    @pytest.mark.parametrize("content", [b"", b"no video", bytes(range(256)) * 40])
    def test_of_all_is_an_error(self, tmp_path, content):
        (tmp_path / "a.mp4").write_bytes(content)
        assert read(tmp_path / "a.mp4")[1].startswith("it cannot be read as a video: ")

    def test_a_file_that_is_not_there_is_an_error(self, tmp_path):
        assert read(tmp_path / "a.mp4") == ([], "it cannot be read as a video: No such file or directory")

    def test_sound_alone_is_no_video(self, tmp_path):
        import av

        with av.open(str(tmp_path / "a.m4a"), "w") as out:
            audio = out.add_stream("aac", rate=44_100)
            wave = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            wave.sample_rate = 44_100
            out.mux([*audio.encode(wave), *audio.encode(None)])
        assert read(tmp_path / "a.m4a") == ([], "it has no pictures")


def test_a_video_without_a_frame_says_so(make_clip, copy_packets, tmp_path):
    copy_packets(make_clip("whole.mkv"), tmp_path / "a.mkv", lambda _: None)
    assert read(tmp_path / "a.mkv") == ([], "it has no frame that can be decoded")
    with pytest.raises(ImageError, match="it has no frame that can be decoded"):
        open_video(tmp_path / "a.mkv")


def test_a_name_with_a_zero_byte_is_refused():
    assert read("a\0b.mp4") == ([], "it cannot be read as a video: its name holds a zero byte")


def test_what_a_video_says_of_itself(make_clip):
    info = open_video(make_clip("a.mp4", count=20))
    assert (info.width, info.height, info.rotation, info.frames, info.rate) == (160, 120, 0, 20, 25)
    assert (info.duration, info.start) == (pytest.approx(0.8), 0)


@pytest.mark.skipif("POLYFACE_SHARED" not in os.environ, reason="needs the clips of POLYFACE_SHARED")
@pytest.mark.parametrize(
    ("name", "count", "last", "shape"),
    [("help.mkv", 58, 57 / 30, (480, 640, 3)), ("classroom.gif", 45, 2.93, (270, 480, 3))],
)
def test_real_clips_are_read_whole(name, count, last, shape):
    frames, problem = read(Path(os.environ["POLYFACE_SHARED"]) / "video" / name)
    assert problem == ""
    assert [frame.number for frame in frames] == list(range(count))
    assert {frame.image.shape for frame in frames} == {shape}
    assert frames[-1].time == pytest.approx(last, abs=0.02)


def move_index_ahead(path: Path) -> None:
    """Have an MP4 begin with its index, as of what is made to be streamed."""
    import av

    target = path.with_suffix(".fast.mp4")
    with av.open(str(path)) as source, av.open(str(target), "w", options={"movflags": "faststart"}) as out:
        [stream] = source.streams.video
        copy = out.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
    target.replace(path)

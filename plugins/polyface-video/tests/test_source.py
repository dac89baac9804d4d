"""Videos, sequences of images and cameras as sources."""

from __future__ import annotations

import os
import re
import sys
import threading
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import PurePath

import numpy as np
import pytest
from PIL import Image

from polyface.errors import ConfigError, ImageError
from polyface.plugins.protocols import Search

pytest.importorskip("av", reason="needs PyAV: pip install polyface-video")

from polyface_video.ahead import read_ahead
from polyface_video.reading import Frame
from polyface_video.source import DROPPED, Camera, Sequence, Video, _device, hide_secrets


def items(path, **options):
    return list(Video(str(path), Search(), **options))


def examined(path, **options):
    return [item.extra["frame"] for item in items(path, **options) if item.examine]


class TestVideo:
    def test_each_frame_is_an_item_with_its_number_and_time(self, make_clip):
        path = make_clip("clip.mp4", count=3)
        found = items(path)
        assert [item.name for item in found] == [f"{path}#{number}" for number in range(3)]
        assert [item.extra for item in found] == [
            {"video": str(path), "frame": number, "time": pytest.approx(0.04 * number)} for number in range(3)
        ]
        assert [item.relative for item in found] == [PurePath(f"clip/{number:06}.png") for number in range(3)]
        assert all(item.image.shape == (120, 160, 3) and item.examine and not item.problem for item in found)

    def test_it_counts_what_the_video_says_but_not_of_a_part(self, make_clip):
        path = str(make_clip("clip.mp4", count=7))
        assert Video(path, Search()).count() == 7
        assert Video(path, Search(), start=0.1).count() is None

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({}, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
            ({"every": 4}, [0, 4, 8, 9]),
            ({"every": 3}, [0, 3, 6, 9]),
            ({"fps": 10}, [0, 3, 5, 8, 9]),
            ({"fps": 100}, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ],
    )
    def test_some_are_examined_and_the_last_is_among_them(self, make_clip, options, expected):
        path = make_clip("clip.mp4", count=10)
        assert examined(path, **options) == expected
        assert len(items(path, **options)) == 10

    def test_fps_is_by_time_where_the_rate_varies(self, make_clip):
        times = [0, 10, 20, 400, 1000, 1010, 2500, 2510, 2520]
        path = make_clip("a.mkv", count=9, times=times, base=Fraction(1, 1000), sound=False)
        assert examined(path, fps=1) == [0, 4, 6, 8]

    def test_the_frame_before_damage_is_examined_and_the_damage_is_the_last_item(self, make_clip):
        path = make_clip("a.mkv", count=100, sound=False)
        os.truncate(path, path.stat().st_size // 2)
        *frames, last = items(path, every=1000)
        assert last.problem.startswith("it is cut short: ")
        assert last.name == f"{path}#{len(frames)}"
        assert [item.extra["frame"] for item in frames if item.examine] == [0, len(frames) - 1]

    def test_start_and_end_leave_frames_out(self, make_clip):
        path = make_clip("clip.mp4", count=10)
        assert [item.extra["frame"] for item in items(path, start=0.08, end=0.2)] == [2, 3, 4]

    @pytest.mark.parametrize(("options", "what"), [({"start": 2, "end": 1}, "end"), ({"every": 2, "fps": 1}, "twice")])
    def test_options_that_contradict_each_other_are_refused(self, options, what):
        with pytest.raises(ConfigError, match=what):
            Video("a.mp4", Search(), **options)

    @pytest.mark.parametrize(
        ("options", "what"),
        [
            ({"every": 0}, "every must be at least 1, not 0"),
            ({"every": 1.5}, "every must be of type int, not 1.5"),
            ({"fps": -1}, "fps must be at least 0.001, not -1"),
            ({"start": float("nan")}, "start must be at least 0, not nan"),
            ({"start": -1.0}, "start must be at least 0, not -1.0"),
            ({"end": float("nan")}, "end must be at least 0, not nan"),
        ],
    )
    def test_options_are_checked_as_those_of_the_command_are(self, options, what):
        with pytest.raises(ConfigError, match=re.escape(what)):
            Video("a.mp4", Search(), **options)

    def test_what_is_not_there_is_an_item_with_a_problem(self, tmp_path):
        [item] = items(tmp_path / "a.mp4")
        assert (item.name, item.problem) == (
            str(tmp_path / "a.mp4"),
            "it cannot be read as a video: No such file or directory",
        )


class TestNames:
    @pytest.mark.parametrize(
        "name",
        ["12:30.mp4", "file:x.mp4", "concat:x.mp4", "%05d.mp4", "C:\\x.mp4", "-x.mp4", "a?b#c|d.mp4", "\udce9.mp4"],
    )
    def test_are_those_of_files_whatever_ffmpeg_takes_them_for(self, make_clip, tmp_path, monkeypatch, name):
        monkeypatch.chdir(tmp_path)
        clip = make_clip("x.mp4", count=3, sound=False)
        try:
            clip.rename(name)
        except (OSError, UnicodeError):
            pytest.skip("this system has no such names")
        make_clip("x.mp4", count=5, sound=False)
        assert len(items(name)) == 3
        assert len(items(tmp_path / name)) == 3

    def test_a_gif_that_is_named_like_numbered_images_is_none(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        images = [Image.fromarray(np.full((16, 24, 3), shade, np.uint8)) for shade in (0, 100, 200)]
        images[0].save("%05d.gif", save_all=True, append_images=images[1:])
        images[0].save("00000.gif")
        assert len(items("%05d.gif")) == 3

    @pytest.mark.parametrize("ending", [".mp4", ".ts", ".m3u8", ".txt"])
    @pytest.mark.parametrize(
        "text",
        [
            "ffconcat version 1.0\nfile other.ts\n",
            "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\nother.ts\n#EXT-X-ENDLIST\n",
            "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 33\n",
        ],
    )
    def test_what_lists_other_files_is_not_followed(self, make_clip, tmp_path, monkeypatch, text, ending):
        monkeypatch.chdir(tmp_path)
        make_clip("other.ts", count=3, sound=False)
        (tmp_path / f"list{ending}").write_text(text)
        [item] = items(f"list{ending}")
        assert item.problem.startswith("it cannot be read as a video: ")


class TestSequence:
    def test_is_read_from_its_lowest_number_on(self, tmp_path):
        for number in range(17, 20):
            Image.fromarray(np.full((16, 24, 3), number * 10, np.uint8)).save(tmp_path / f"shot-{number:05}.png")
        found = list(Sequence(f"frames:{tmp_path}/shot-%05d.png", Search()))
        assert [int(item.image[0, 0, 0]) for item in found] == [170, 180, 190]
        assert [item.extra["time"] for item in found] == pytest.approx([0, 0.04, 0.08])

    def test_numbers_are_from_0_and_drawings_are_called_as_the_images(self, tmp_path):
        (tmp_path / "shots").mkdir()
        for number in (9, 10):
            Image.fromarray(np.zeros((16, 24, 3), np.uint8)).save(tmp_path / f"shots/take-{number}_left.jpg")
        location = f"frames:{tmp_path}/shots/take-%d_left.jpg"
        found = list(Sequence(location, Search()))
        assert [item.name for item in found] == [f"{location}#0", f"{location}#1"]
        assert [str(item.relative) for item in found] == [
            "shots-take-left/take-9_left.jpg",
            "shots-take-left/take-10_left.jpg",
        ]

    @pytest.mark.parametrize(
        ("folder", "name", "title"),
        [
            ("seq%d", "%05d.png", "seq-d"),
            ("12:30", "%03d.png", "12-30"),
            ("a", "100%-%d.png", "a-100"),
            ("a", "%%d.png", "a"),
            ("a", "%010d.png", "a"),
        ],
    )
    def test_names_may_have_what_ffmpeg_would_read(self, tmp_path, monkeypatch, folder, name, title):
        monkeypatch.chdir(tmp_path)
        (tmp_path / folder).mkdir()
        before, digits, after = re.fullmatch(r"(.*)%(\d*)d(.*)", name).groups()
        for number in (3, 4):
            Image.fromarray(np.zeros((16, 24, 3), np.uint8)).save(
                tmp_path / folder / f"{before}{number:0{int(digits or 1)}}{after}"
            )
        for path in (f"{folder}/{name}", f"{tmp_path}/{folder}/{name}"):
            found = list(Sequence(f"frames:{path}", Search()))
            assert [item.problem for item in found] == ["", ""]
            assert str(found[0].relative.parent) == title

    def test_of_the_current_folder_has_its_name(self, tmp_path, monkeypatch):
        (tmp_path / "shots").mkdir()
        monkeypatch.chdir(tmp_path / "shots")
        Image.fromarray(np.zeros((16, 24, 3), np.uint8)).save("7.png")
        [item] = Sequence("frames:%d.png", Search())
        assert str(item.relative) == str(PurePath("shots/7.png"))

    def test_a_number_with_more_zeros_is_none_of_them(self, tmp_path):
        for name in ("0007.png", "08.png"):
            Image.fromarray(np.zeros((16, 24, 3), np.uint8)).save(tmp_path / name)
        [item] = Sequence(f"frames:{tmp_path}/%02d.png", Search())
        assert item.relative.name == "08.png"

    def test_that_is_none_is_refused(self):
        with pytest.raises(ConfigError, match="names no sequence"):
            Sequence("frames:a.png", Search())

    @pytest.mark.parametrize("folder", ["", "none/"])
    def test_of_no_image_is_an_item_with_a_problem(self, tmp_path, folder):
        [item] = Sequence(f"frames:{tmp_path}/{folder}%03d.png", Search())
        assert item.problem == "no image is there: '001.png' would be the name of one"


class TestHideSecrets:
    @pytest.mark.parametrize(
        ("given", "shown"),
        [
            ("rtsp://host:554/door", "rtsp://host:554/door"),
            ("rtsp://me:secret@host/door", "rtsp://host/door"),
            ("tcp://me:se@cret@host:80", "tcp://host:80"),
            ("rtsp://me:secret/x@host/door", "rtsp://***@host/door"),
            ("rtsp://me:secret?x@host/door", "rtsp://***@host/door"),
            ("rtsp://me:sec@ret/x@host/door", "rtsp://***@host/door"),
            ("rtsp://host/door@2", "rtsp://host/door@2"),
            ("rtsp://host/?user=me&password=secret", "rtsp://host/?***"),
            ("rtsp://me:secret@host/door?token=sec/ret@x#1", "rtsp://***@x#***"),
            ("rtsp://host/user=me_password=secret_channel=1", "rtsp://host/user=***"),
            ("srt://host:9000?passphrase=sec\nret", "srt://host:9000?***"),
            ("rtsp://host/door#secret", "rtsp://host/door#***"),
            ("udp://@239.0.0.1:1234", "udp://239.0.0.1:1234"),
            ("camera:0", "camera:0"),
            ("a=b@c?d.mp4", "a=b@c?d.mp4"),
        ],
    )
    def test_of_an_address_the_host_and_the_path_are_left(self, given, shown):
        assert hide_secrets(given) == shown


def frames(count):
    image = np.zeros((2, 2, 3), np.uint8)
    return [Frame(number=n, time=float(n), image=image) for n in range(count)]


NIGHT = datetime(2026, 11, 27, 2, 50, 10, 123456, UTC)


class TestCamera:
    def test_without_live_frames_are_those_of_one_connection(self):
        camera = Camera("rtsp://me:secret@host/1", Search(), read=lambda **_: iter(frames(3)), today=lambda: NIGHT)
        found = list(camera)
        name = "rtsp://host/1@2026-11-27T02:50:10.123Z"
        assert [item.name for item in found] == [f"{name}#{number}" for number in range(3)]
        assert {item.extra["video"] for item in found} == {name}
        assert found[2].relative == PurePath("rtsp-host-1-2026-11-27T02-50-10-123Z/000002.png")

    def test_names_are_new_each_time_since_the_frames_are(self):
        def read(**_):
            yield from frames(1)
            raise ImageError("it is gone")

        camera = Camera("camera:0", Search(), read=read, today=iter([NIGHT, NIGHT + timedelta(seconds=1)]).__next__)
        assert [item.name for item in (*camera, *camera)] == [
            "camera:0@2026-11-27T02:50:10.123Z#0",
            "camera:0@2026-11-27T02:50:10.123Z#1",
            "camera:0@2026-11-27T02:50:11.123Z#0",
            "camera:0@2026-11-27T02:50:11.123Z#1",
        ]

    def test_gives_the_address_with_its_password_to_ffmpeg_alone(self):
        asked = []
        camera = Camera("rtsp://me:secret@host/1", Search(), read=lambda **rest: asked.append(rest) or iter(frames(1)))
        [item] = camera
        assert asked[0]["path"] == "rtsp://me:secret@host/1"
        assert "secret" not in repr(item)

    def test_what_ffmpeg_says_is_told_without_the_address_that_it_repeats(self):
        address = "rtsp://host/?password=secret"
        answers = iter([1, None])

        def read(**_):
            if next(answers) is None:
                raise ImageError(f"Server returned 401 for '{address}'")
            yield from frames(1)
            raise ImageError(f"Connection to {address} reset")

        *_, last = Camera(address, Search(), read=read)
        assert last.problem == "Connection to rtsp://host/?*** reset"
        with pytest.raises(ImageError, match=r"^Server returned 401 for 'rtsp://host/\?\*\*\*'$"):
            list(Camera(address, Search(), read=read)._connect(30.0))

    def test_live_connects_again_and_goes_on_counting_with_growing_pauses(self, caplog):
        pauses, calls = [], iter([frames(2), None, None, frames(2), None])

        def read(**_):
            given = next(calls, None)
            if given is None:
                raise ImageError("nobody answers")
            return iter(given)

        class Stopped(threading.Event):
            def wait(self, seconds):
                pauses.append(seconds)
                return len(pauses) == 5

        camera = Camera("camera:0", Search(), live=True, read=read, now=lambda: 0.0)
        camera._drop = None  # all frames, however late this test takes them
        found = list(camera._stay(Stopped()))
        assert [frame.number for frame in found] == [0, 1, 2, 3]
        assert pauses == [1, 2, 4, 1, 2]
        assert "camera:0 is lost: nobody answers; it is asked again in 2 s" in caplog.text

    def test_live_a_camera_that_was_never_there_is_a_problem(self):
        def read(**_):
            raise ImageError("nobody answers")

        [item] = Camera("camera:0", Search(), live=True, read=read)
        assert item.problem == "nobody answers"

    @pytest.mark.parametrize("options", [{"every": 0}, {"fps": 0}, {"duration": -1}, {"duration": float("nan")}])
    def test_options_are_checked_as_those_of_the_command_are(self, options):
        with pytest.raises(ConfigError, match="must be at least"):
            Camera("camera:0", Search(), **options)

    def test_duration_ends_it(self):
        camera = Camera("camera:0", Search(), duration=2.5, read=lambda **_: iter(frames(100)))
        assert [item.extra["frame"] for item in camera] == [0, 1, 2]


class TestReadAhead:
    def test_gives_all_in_order_and_then_what_was_raised(self):
        def numbers(_):
            yield from (1, 2, 3)
            raise ImageError("the end")

        taken = []
        with pytest.raises(ImageError, match="the end"):
            taken.extend(read_ahead(numbers, lambda _: 1, most=100))
        taken = []
        generator = read_ahead(numbers, lambda _: 1, most=100)
        taken += [next(generator), next(generator), next(generator)]
        assert taken == [1, 2, 3]
        with pytest.raises(ImageError, match="the end"):
            next(generator)

    def test_holds_no_more_bytes_than_it_may_and_the_last(self):
        made, third = [], threading.Event()

        def numbers(_):
            for number in range(10):
                made.append(number)
                if number == 2:
                    third.set()
                yield number

        generator = read_ahead(numbers, lambda _: 60, most=100)
        next(generator)
        assert third.wait(30)
        # One is given; two of 60 bytes wait, and one that was made has no room yet.
        assert len(made) <= 4
        assert list(generator) == list(range(1, 10))

    def test_left_early_it_closes_the_iterator_and_its_thread(self):
        closed = threading.Event()

        def numbers(_):
            try:
                yield from range(100)
            finally:
                closed.set()

        before = threading.active_count()
        generator = read_ahead(numbers, lambda _: 60, most=100)
        next(generator)
        generator.close()
        assert closed.is_set()
        assert threading.active_count() == before

    def test_what_is_not_asked_for_gives_way_where_nothing_may_lag(self):
        go, made, dropped = threading.Event(), threading.Event(), []

        def numbers(_):
            yield 0
            go.wait(30)
            yield from range(1, 5)
            made.set()

        generator = read_ahead(numbers, lambda _: 1, most=100, dropped=dropped.append)
        assert next(generator) == 0
        go.set()
        assert made.wait(30)
        assert (list(generator), dropped) == ([4], [1, 2, 3])


def test_what_live_drops_is_counted():
    camera = Camera("camera:0", Search(), live=True)
    camera._drop(None)
    camera._drop(None)
    assert camera.left_out == {DROPPED: 2}


@pytest.mark.parametrize(
    ("platform", "location", "opened"),
    [
        ("linux", "camera:1", {"path": "/dev/video1", "format": "v4l2"}),
        ("linux", "camera:/dev/v4l/by-id/front", {"path": "/dev/v4l/by-id/front", "format": "v4l2"}),
        ("darwin", "camera:0", {"path": "0", "format": "avfoundation"}),
        ("win32", "camera:Front Camera", {"path": "video=Front Camera", "format": "dshow"}),
        ("win32", "rtsp://127.0.0.1/front", {"path": "rtsp://127.0.0.1/front"}),
    ],
)
def test_a_camera_is_opened_as_its_system_names_it(platform, location, opened, monkeypatch):
    # As FFmpeg's page of devices has it: https://ffmpeg.org/ffmpeg-devices.html
    monkeypatch.setattr(sys, "platform", platform)
    assert _device(location) == opened


def test_what_is_no_video_counts_as_the_one_item_that_says_so(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"none")
    assert Video(str(tmp_path / "a.mp4"), Search()).count() == 1
    assert len(items(tmp_path / "a.mp4")) == 1

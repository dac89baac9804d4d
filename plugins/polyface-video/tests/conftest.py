"""Clips for tests, made of the repository's own images."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from polyface.cli import group
from polyface.plugins.manager import PluginManager

SIZE = (160, 120)
RATE = 44_100


@pytest.fixture(scope="session")
def portrait(pytestconfig: pytest.Config) -> np.ndarray:
    """The astronaut, 160x120 pixels."""
    with Image.open(pytestconfig.rootpath / "examples/astronaut.jpg") as image:
        return np.asarray(image.convert("RGB").resize(SIZE))


@pytest.fixture
def make_clip(portrait: np.ndarray, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes a clip; see :func:`write_clip`."""

    def make(name: str, **rest: Any) -> Path:
        rest.setdefault("images", [np.roll(portrait, 2 * number, 1) for number in range(rest.pop("count", 20))])
        path = tmp_path / name
        write_clip(path, **rest)
        return path

    return make


@pytest.fixture
def polyface_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that runs a command with the toy detector, which takes a red square of 8 pixels for a face."""
    import polyface.sources.plugin
    import polyface.writers.plugin
    import polyface_example.plugin
    import polyface_video.plugin

    monkeypatch.chdir(tmp_path)
    plugins = PluginManager()
    plugins.register(polyface.sources.plugin, name="sources", distribution="polyface")
    plugins.register(polyface.writers.plugin, name="writers", distribution="polyface")
    plugins.register(polyface_example.plugin, name="example", distribution="polyface-example")
    plugins.register(polyface_video.plugin, name="video", distribution="polyface-video")

    def run(command: str, *arguments: Any) -> Any:
        given = [command, "--detector", "example-redbox", *map(str, arguments)]
        result = CliRunner().invoke(group, given, obj=plugins)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    return run


def write_clip(
    path: Path,
    images: list[np.ndarray],
    *,
    codec: str = "libx264",
    times: list[int] | None = None,
    base: Fraction = Fraction(1, 25),
    sound: bool = True,
    subtitles: bool = False,
    second: bool = False,
    tags: dict[str, int] | None = None,
    rotation: int = 0,
    ratio: Fraction = Fraction(1),
    keys: int | None = None,
    options: dict[str, str] | None = None,
) -> None:
    """Write a clip: ``times`` in units of ``base``, a tone as sound, and what else is asked for."""
    av = pytest.importorskip("av", reason="needs PyAV: pip install polyface-video")
    height, width = images[0].shape[:2]
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=25, time_base=base, options=options or {})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.sample_aspect_ratio = ratio
        if keys:
            video.codec_context.gop_size = keys
        for key, value in (tags or {}).items():
            setattr(video.codec_context, key, value)
        opus = path.suffix == ".webm"
        audio = out.add_stream("libopus" if opus else "aac", rate=48_000 if opus else RATE) if sound else None
        texts = out.add_mux_stream("subrip", time_base=Fraction(1, 1000)) if subtitles else None
        if second:
            other = out.add_stream("mjpeg", rate=1)
            other.width, other.height, other.pix_fmt = width, height, "yuvj420p"
            picture = av.VideoFrame.from_ndarray(images[0], format="rgb24")
            out.mux([*other.encode(picture.reformat(format="yuvj420p")), *other.encode(None)])
        for number in range(3 if texts else 0):
            packet = av.Packet(f"face {number}".encode())
            packet.stream, packet.time_base = texts, Fraction(1, 1000)
            packet.pts = packet.dts = 200 * number
            packet.duration = 150
            out.mux(packet)
        for number, image in enumerate(images):
            frame = _paint(av.VideoFrame.from_ndarray(image, format="rgb24"), tags)
            frame.pts, frame.time_base = (times[number] if times else number), base
            out.mux(video.encode(frame))
            if audio:
                out.mux(audio.encode(_sound(av, number, audio.rate)))
        for stream in (video, audio):
            out.mux(stream.encode(None) if stream else [])
    if rotation:
        turn_mp4(path, rotation)


def _paint(frame: Any, tags: dict[str, int] | None) -> Any:
    if not tags:
        return frame
    matrix, span = tags["colorspace"], tags["color_range"]
    return frame.reformat(format="yuv420p", dst_colorspace=matrix, src_color_range=2, dst_color_range=span)


def _sound(av: Any, number: int, rate: int) -> Any:
    """The sound of a 25th of a second."""
    count = rate // 25
    tone = (np.sin((np.arange(count) + number * count) * (440 * 2 * np.pi / rate)) * 8000).astype(np.int16)
    wave = av.AudioFrame.from_ndarray(np.repeat(tone, 2)[None], format="s16", layout="stereo")
    wave.sample_rate, wave.pts, wave.time_base = rate, number * count, Fraction(1, rate)
    return wave


def turn_mp4(path: Path, degrees: int) -> None:
    """Have players turn an MP4's first track clockwise."""
    write_matrix(path, *{90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees])


def write_matrix(path: Path, *signs: int) -> None:
    """Have players show an MP4's first track at ``x' = a x + c y`` and ``y' = b x + d y``, by its header."""
    a, b, c, d = (sign << 16 for sign in signs)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


@pytest.fixture
def copy_packets() -> Callable[..., None]:
    """Return :func:`write_packets`."""
    return write_packets


def write_packets(source: Path, target: Path, change: Callable[[Any], Any]) -> None:
    """Copy the packets of a clip; ``change`` returns what is written for a packet of the video, or ``None``."""
    av = pytest.importorskip("av", reason="needs PyAV: pip install polyface-video")
    with av.open(str(source)) as opened, av.open(str(target), "w") as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in opened.streams}
        for packet in opened.demux():
            if packet.size == 0 and packet.dts is None:
                continue
            index = packet.stream.index
            copy = change(packet) if packet.stream.type == "video" else packet
            if copy is not None:
                copy.stream = streams[index]
                out.mux(copy)


@pytest.fixture
def show_by() -> Callable[..., None]:
    """Return :func:`write_matrix`."""
    return write_matrix


@pytest.fixture
def empty_packet() -> Callable[[Any], Any]:
    """Return :func:`fill_packet`."""
    return fill_packet


def fill_packet(packet: Any) -> Any:
    """Return a packet of the same size and times, nearly all of which are zeros."""
    av = pytest.importorskip("av", reason="needs PyAV: pip install polyface-video")
    copy = av.Packet(bytes(packet)[:4] + bytes(packet.size - 4))
    for name in ("pts", "dts", "time_base", "duration", "is_keyframe"):
        setattr(copy, name, getattr(packet, name))
    return copy

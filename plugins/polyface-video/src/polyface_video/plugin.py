"""What this package tells polyface; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

import polyface
from polyface.plugins.records import OptionSpec, Ref, Requirement, SourceSpec, StepSpec, WriterSpec
from polyface.writers.plugin import ANONYMIZED

PYAV = (Requirement(module="av", install="av"),)

ENDINGS = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".flv", ".wmv", ".3gp", ".gif"),
)

EVERY = OptionSpec(
    name="every",
    type="int",
    help="Of videos: examine each so many frames, and interpolate the faces between them.",
    minimum=1,
)
FPS = OptionSpec(
    name="fps",
    type="float",
    help="Of videos: examine so many frames a second, and interpolate the faces between them.",
    minimum=0.001,
)
SPAN = (
    OptionSpec(
        name="start",
        type="float",
        help="Of videos: leave out what comes before, in seconds.",
        default=0.0,
        minimum=0,
    ),
    OptionSpec(name="end", type="float", help="Of videos: leave out what comes from then on, in seconds.", minimum=0),
)
LIVE = (
    OptionSpec(
        name="live",
        type="bool",
        help="Of cameras: drop frames rather than lag behind, and connect again where the connection is lost.",
        default=False,
    ),
    OptionSpec(name="duration", type="float", help="Of cameras: end after so many seconds.", minimum=0),
)
TRACK = (
    OptionSpec(name="track", type="bool", help="Of videos: give each face a track_id.", default=False),
    OptionSpec(
        name="track_gap",
        type="int",
        help="With --track: in how many examined frames in a row a face may be missed.",
        default=30,
        minimum=0,
    ),
)


WRITTEN = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts")
"""Of videos that are written."""

ENCODING = (
    OptionSpec(
        name="codec",
        type="str",
        help="Of videos: FFmpeg's name of the encoder, such as libx265, or h264_nvenc for a GPU; by the ending else.",
    ),
    OptionSpec(
        name="crf",
        type="float",
        help="Of videos: the quality, lower is better; what is usual of the codec else.",
        minimum=0,
        maximum=63,
    ),
    OptionSpec(
        name="sound",
        type="bool",
        help="Of videos: copy the sound; voices tell who speaks.",
        default=True,
    ),
)


@polyface.hookimpl
def polyface_sources() -> Iterator[SourceSpec]:
    yield SourceSpec(
        name="video",
        summary="The frames of a video",
        endings=ENDINGS,
        options=(EVERY, FPS, *SPAN),
        requires=PYAV,
        factory=Ref("polyface_video.source:Video"),
    )
    yield SourceSpec(
        name="frames",
        summary="Numbered images as the frames of a video, frames:folder/%05d.png",
        prefixes=("frames:",),
        options=(EVERY, FPS, *SPAN),
        requires=PYAV,
        factory=Ref("polyface_video.source:Sequence"),
    )
    yield SourceSpec(
        name="camera",
        summary="The frames of a camera or a stream, camera:0 or rtsp://...",
        prefixes=("camera:", "rtsp://", "rtmp://", "srt://", "tcp://", "udp://"),
        options=(EVERY, FPS, *LIVE),
        requires=PYAV,
        factory=Ref("polyface_video.source:Camera"),
    )


@polyface.hookimpl
def polyface_steps() -> Iterator[StepSpec]:
    yield StepSpec(
        name="track",
        summary="Gives each face of a video a track_id",
        options=TRACK,
        on=("track",),
        factory=Ref("polyface_video.steps:Track"),
    )
    yield StepSpec(
        name="between",
        summary="Interpolates the faces between the examined frames of a video",
        options=(EVERY, FPS),
        on=("every", "fps"),
        factory=Ref("polyface_video.steps:Between"),
    )


@polyface.hookimpl
def polyface_writers() -> Iterator[WriterSpec]:
    yield WriterSpec(
        name="video",
        summary="A video with the faces drawn, and the sound of its source",
        endings=WRITTEN,
        commands=("detect",),
        wants_image=True,
        options=ENCODING,
        requires=PYAV,
        factory=Ref("polyface_video.videos:DrawnVideo"),
    )
    yield WriterSpec(
        name="anonymized-video",
        summary="A video with its faces made unrecognisable, and the sound of its source",
        endings=WRITTEN,
        commands=("anonymize",),
        wants_image=True,
        options=(
            *(option for option in ANONYMIZED.options if option.name != "copy_unreadable"),
            *SPAN,
            OptionSpec(
                name="hold",
                type="float",
                help="Seconds for which a face of a video is covered before it is first and after it is last found.",
                default=0.25,
                minimum=0,
                maximum=3600,
            ),
            OptionSpec(
                name="keep_ids",
                type="str",
                help="Numbers of tracks, such as 3,5, whose faces stay to be seen; --preview shows them.",
            ),
            OptionSpec(
                name="regions",
                type="str",
                help="Boxes that are covered in every frame: x1,y1,x2,y2 in pixels, with ; between several.",
            ),
            OptionSpec(
                name="faces",
                type="str",
                help="A faces.jsonl of the video: faces are not looked for in frames that it has.",
            ),
            OptionSpec(
                name="preview",
                type="bool",
                help="Draw what would be covered, and the numbers of the tracks, and cover nothing.",
                default=False,
            ),
            *ENCODING,
        ),
        requires=PYAV,
        factory=Ref("polyface_video.videos:AnonymizedVideo"),
    )

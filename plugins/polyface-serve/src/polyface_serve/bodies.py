"""From the body of a request to its images: raw, a form, or JSON. Nothing is fetched, and nothing goes to disk."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from polyface.errors import ConfigError, Fix, ImageError, PolyfaceError, quoted
from polyface.results import Item
from polyface_serve.limits import Limits, Loan
from polyface_serve.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

WANTED = "an image (image/*), a form (multipart/form-data) or JSON (application/json)"
FORM = Fix("send it as a form", command="curl -F image=@photo.jpg ADDRESS")
AS_JSON = '{"images": [{"data": "BASE64"}]}'
FILES = 1000
"""Files of a form that are read before they are counted, where a request may not have more."""

COMMAS = 1000
"""Commas of JSON for each image, those of its name among them. They bound the values, which take up to 70 times their
bytes in memory."""


async def read_items(request: Request, limits: Limits, loan: Loan) -> list[Item]:
    """Return the images of a request, each with its name: that of its file, or its number from 0.

    Raises:
        Refusal: 400 where the body is not what it claims to be, 408 where it comes too slowly, 413 where it is too
            long or has too many images, 415 where it is of no kind that is taken.
        ClientDisconnect: the client has gone.
    """
    kind = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        items = await _read_form(request, limits, loan)
    elif kind == "application/json":
        body = await _read_whole(request, limits, loan)
        items = await asyncio.to_thread(_parse_json, body, limits.max_images)
    elif kind == "application/octet-stream" or kind.startswith("image/"):
        items = [Item(name="0", image=await _read_whole(request, limits, loan))]
    else:
        why = f"its Content-Type is {quoted(kind)}; wanted: {WANTED}"
        raise Refusal(415, ImageError("The body is of no kind that is taken.", why=[why], fix=FORM))
    if not any(item.image for item in items):
        raise Refusal(400, ImageError("The request has no image.", fix=FORM))
    check_count(items, limits.max_images)
    return items


def check_count(items: Sequence[Item], most: int) -> None:
    """Refuse more images than a request may have.

    Raises:
        Refusal: there are more.
    """
    if len(items) > most:
        what = f"The request has {len(items)} images; at most {most} are taken."
        raise Refusal(413, ImageError(what, fix="send them in several requests"))


async def _read_chunks(request: Request, limits: Limits, loan: Loan) -> AsyncGenerator[bytes, None]:
    """Yield the body, within its bounds of bytes and time."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.max_bytes:
        raise _too_long(f"{int(declared):,}", limits)
    deadline = asyncio.get_running_loop().time() + limits.upload_seconds
    length, more = 0, True
    while more:
        try:
            async with asyncio.timeout_at(deadline):
                message = await request.receive()
        except TimeoutError:
            what = f"The request did not come within {limits.upload_seconds:g} seconds."
            error = PolyfaceError(what, why=[f"{length:,} bytes came"], fix="send smaller images")
            raise Refusal(408, error, close=True) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk, more = message.get("body", b""), message.get("more_body", False)
        length += len(chunk)
        if length > limits.max_bytes:
            raise _too_long(f"more than {limits.max_bytes:,}", limits)
        loan.add(len(chunk))
        yield chunk


def _too_long(length: str, limits: Limits) -> Refusal:
    error = ImageError(
        f"The request is too long: {length} bytes.",
        why=[f"this server takes {limits.max_bytes:,}"],
        fix="send smaller images, or fewer at a time",
    )
    return Refusal(413, error)


async def _read_whole(request: Request, limits: Limits, loan: Loan) -> bytes:
    return b"".join([chunk async for chunk in _read_chunks(request, limits, loan)])


async def _read_form(request: Request, limits: Limits, loan: Loan) -> list[Item]:
    chunks = _read_chunks(request, limits, loan)
    parser = MultiPartParser(request.headers, chunks, max_files=max(FILES, limits.max_images))
    parser.spool_max_size = limits.max_bytes + 1  # in memory: there may be no disk to write to
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, UnicodeError) as error:  # UnicodeError: its charset cannot be decoded
        said = "its Content-Type names no boundary" if isinstance(error, KeyError) else str(error)
        raise Refusal(400, ImageError("The form cannot be read.", why=[said], fix=FORM)) from error
    items: list[Item] = []
    try:
        for name, part in form.multi_items():
            if not isinstance(part, UploadFile):
                what = f"The form's field {quoted(name)} is no file."
                why = ["query settings stand in the address, as in /v1/detect?score_threshold=0.6"]
                raise Refusal(400, ConfigError(what, why=why, fix=FORM))
            items.append(Item(name=part.filename or str(len(items)), image=await part.read()))
    finally:
        await form.close()
    return items


def _parse_json(body: bytes, most: int) -> list[Item]:
    if (commas := body.count(b",")) > COMMAS * most:
        what = f"The JSON has too many values: {commas:,} commas."
        why = [f"at most {most} images are taken, with {COMMAS} each"]
        raise Refusal(413, ImageError(what, why=why, fix="send images in several requests, with short names"))
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _no_json(str(error)) from error
    images = document.get("images") if isinstance(document, dict) else None
    if not isinstance(images, list) or len(document) > 1:
        raise _no_json(f"it must be {AS_JSON}, with nothing beside")
    return [_parse_image(number, image) for number, image in enumerate(images)]


def _parse_image(number: int, image: Any) -> Item:
    if not isinstance(image, dict) or not isinstance(image.get("data"), str) or not image.keys() <= {"data", "name"}:
        keys = ", ".join(map(str, image)) if isinstance(image, dict) else type(image).__name__
        raise _no_json(
            f"images[{number}] must have data, and may have a name, not {quoted(keys)}; URLs are not fetched"
        )
    name = image.get("name", str(number))
    try:
        data = base64.b64decode(image["data"], validate=True)
        return Item(name=name.encode().decode(), image=data)
    except (ValueError, AttributeError) as error:  # not base64, half a character, no text
        raise _no_json(f"images[{number}] is not base64, or its name no text: {error}") from error


def _no_json(why: str) -> Refusal:
    return Refusal(400, ImageError("The JSON holds no images.", why=[why], fix=f"send {AS_JSON}"))

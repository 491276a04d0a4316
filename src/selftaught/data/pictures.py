"""One picture from untrusted bytes: known formats only, bounded before anything is decoded, every failure a reason."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from . import limits
from .bad import Bad
from .sniff import image_format

T = TypeVar("T")
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF")
"""What is decoded.  Not on the list: formats that start programs (EPS), hold documents or are hardly ever data."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what sets the picture upright."""

_one_big_at_a_time = threading.Lock()


def read_picture(payload: bytes | np.ndarray, *, smallest: int | None = None) -> Image.Image:
    """The picture as mode "L" (grey) or "RGB", upright after its EXIF orientation; only the first frame.

    `smallest`: the picture may come at a reduced scale whose shorter side is at least this (JPEG decodes several times
    faster so).  An array (H, W) or (H, W, 1, 3 or 4) uint8 is taken as pixels.  Raises Bad with the reason.
    """
    if isinstance(payload, np.ndarray):
        return _of_array(payload)
    return _opened(payload, _plain, smallest)


def read_mask(payload: bytes | np.ndarray) -> np.ndarray:
    """(H, W) int64 of a mask: palette indices or grey values, upright after its EXIF orientation, never converted.

    Colours are taken where red, green and blue agree everywhere.  Raises Bad with the reason.
    """
    if isinstance(payload, np.ndarray):
        if payload.ndim == 3 and payload.shape[2] == 1:
            payload = payload[:, :, 0]
        if payload.dtype.kind not in "iub" or payload.ndim != 2:
            raise Bad(f"not a mask: {payload.dtype} {payload.shape}; whole numbers (height, width) are read")
        _check_size(payload.shape[1], payload.shape[0])
        return payload.astype(np.int64)
    return _opened(payload, _indices, None)


def upright_size(payload: bytes | np.ndarray) -> tuple[int, int]:
    """(width, height) as `read_picture` gives it, from the header alone: the EXIF orientation may swap the sides.  Raises Bad."""
    if isinstance(payload, np.ndarray):
        return picture_size(payload)
    try:
        with Image.open(io.BytesIO(payload), formats=FORMATS) as picture:
            _check_size(*picture.size)
            width, height = picture.size
            return (height, width) if picture.getexif().get(0x0112, 1) in (5, 6, 7, 8) else (width, height)
    except Bad:
        raise
    except UnidentifiedImageError:
        raise _unidentified(payload) from None
    except Exception as error:  # noqa: BLE001  as in _opened
        raise Bad(_reason(error)) from None


def _opened(payload, finish: Callable[[Image.Image], T], smallest: int | None) -> T:
    """`finish` of the decoded picture, within the bounds of `limits`."""
    if not isinstance(payload, bytes | bytearray | memoryview):
        raise Bad(f"not an image: a {type(payload).__name__}")
    if not len(payload):
        raise Bad("empty file")
    try:
        picture = Image.open(io.BytesIO(payload), formats=FORMATS)
        _check_size(*picture.size)
        with _one_big_at_a_time if picture.width * picture.height > limits.BIG_PICTURE else nullcontext():
            if smallest is not None:
                picture.draft(None, (smallest, smallest))
            picture.load()
            return finish(picture)
    except Bad:
        raise
    except UnidentifiedImageError:
        raise _unidentified(payload) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Bad(f"decompression bomb: more than {limits.PIXELS} pixels") from None
    except MemoryError:
        raise Bad("too large: it does not fit into the memory") from None
    except Exception as error:  # noqa: BLE001  decoders of broken files raise anything; each is this row's reason
        raise Bad(_reason(error)) from None


def picture_size(payload: bytes | np.ndarray) -> tuple[int, int]:
    """(width, height) from the header alone; raises Bad."""
    if isinstance(payload, np.ndarray):
        return int(payload.shape[1]), int(payload.shape[0])
    try:
        with Image.open(io.BytesIO(payload), formats=FORMATS) as picture:
            return picture.size
    except UnidentifiedImageError:
        raise _unidentified(payload) from None
    except Exception as error:  # noqa: BLE001  as above
        raise Bad(_reason(error)) from None


def _check_size(width: int, height: int) -> None:
    if width <= 0 or height <= 0:
        raise Bad(f"zero size: {width} x {height} pixels")
    if width * height > limits.PIXELS:
        raise Bad(f"decompression bomb: {width} x {height} pixels, at most {limits.PIXELS} are decoded")
    if max(width, height) > limits.ASPECT * min(width, height):
        raise Bad(f"absurd size: {width} x {height} pixels")


def _of_array(pixels: np.ndarray) -> Image.Image:
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4))):
        raise Bad(f"not an image: {pixels.dtype} {pixels.shape}; uint8 (height, width[, 1, 3 or 4]) is read")
    _check_size(pixels.shape[1], pixels.shape[0])
    if pixels.ndim == 3:
        pixels = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels[:, :, :3]
    return Image.fromarray(np.ascontiguousarray(pixels))


def _upright(picture: Image.Image) -> Image.Image:
    try:
        turn = _TURNS.get(picture.getexif().get(0x0112, 1))
    except Exception:  # noqa: BLE001  a broken EXIF block of a sound picture; it then has no orientation
        turn = None
    return picture if turn is None else picture.transpose(turn)


def _plain(picture: Image.Image) -> Image.Image:
    picture = _upright(picture)
    if picture.mode in ("L", "RGB"):
        return picture
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode == "I":
        return Image.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8))
    if picture.mode == "F":
        raise Bad("not an image: its pixels are floating-point numbers")
    if picture.mode in ("1", "LA", "La"):
        return picture.convert("L")
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


def _indices(picture: Image.Image) -> np.ndarray:
    picture = _upright(picture)
    if picture.mode in ("LA", "La", "PA"):
        picture = picture.getchannel(0)
    pixels = np.asarray(picture)
    if picture.mode in ("RGB", "RGBA"):
        if (pixels[..., :3] != pixels[..., :1]).any():
            raise Bad("not a mask: it holds colours; palette indices or grey values are read")
        pixels = pixels[..., 0]
    if pixels.ndim != 2 or pixels.dtype.kind not in "iub":
        raise Bad(f"not a mask: of mode {picture.mode}; palette indices or grey values are read")
    return pixels.astype(np.int64)


def _unidentified(payload: bytes | bytearray | memoryview) -> Bad:
    head = bytes(payload[:32])
    known = image_format(head)
    if (known == "PNG" and bytes(4) in (head[16:20], head[20:24])) or (
        known == "GIF" and bytes(2) in (head[6:8], head[8:10])
    ):
        return Bad("zero size")
    return Bad(f"broken picture: the header of a {known} file is cut off or wrong" if known else "not an image")


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if "truncated" in text.lower():
        return "truncated"
    return f"broken picture: {text}"

"""Sounds: what a file holds, and its samples as one channel of int16 at the rate that is asked for.  Alone here formats and bounds are known.

soundfile (libsndfile: WAV, FLAC, OGG, MP3, AIFF, ...) reads, soxr resamples; what libsndfile does not know (m4a, webm) goes to PyAV, where it is
installed.  Files are read in blocks up to what is asked for, so that a header that claims hours costs nothing.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core import RequestError
from . import limits
from .bad import Bad

BLOCK = 1 << 18
"""Frames that are read at once."""
MOST = 1 << 25
"""Frames of a file that are read at most, whatever they become at the rate that is kept: three minutes at 192 kHz."""
RATES = (100, 800_000)
"""Hz that a header may claim."""
UNKNOWN = 1 << 40
"""Frames from which on a header only says that it does not know (streams)."""
LOUDEST = 8.0
"""Floats beyond this multiple of full scale are no samples in -1..1."""
FULL = 32768.0
SOUND_SUFFIXES = frozenset(
    [".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64", ".m4a", ".aac", ".webm", ".mka"]
)  # fmt: skip
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_CONTAINERS = "mov,matroska,webm,aac,flac"
"""What FFmpeg may take a file for: what libsndfile does not read, and never a playlist or a script, which names other files and addresses."""
_SHORT = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
_STREAMED = 0x7F000000
"""Bytes from which on a WAV header only says that its writer did not know."""
_SYNC = (0xFB, 0xFA, 0xF3, 0xF2, 0xE3, 0xE2)


def sound_format(head: bytes) -> str | None:
    """The sound format of a file's first 32 bytes, or None."""
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        return "WAV"
    if head.startswith(b"fLaC"):
        return "FLAC"
    if head.startswith(b"OggS"):
        return "OGG"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "AIFF"
    if head.startswith(b"caff"):
        return "CAF"
    if head.startswith(b"riff\x2e\x91\xcf\x11"):
        return "W64"
    if head.startswith(b".snd"):
        return "AU"
    if head.startswith(b"ID3") or (
        len(head) > 3 and head[0] == 0xFF and head[1] in _SYNC and head[2] >> 4 not in (0, 15)
    ):
        return "MP3"
    if head[4:8] == b"ftyp" and head[8:11] in (b"M4A", b"M4B"):
        return "M4A"
    return None


@dataclass(frozen=True)
class Recording:
    """A stretch of a file: a path already known to lie inside the data folder, or its bytes; `start` and `frames` (None: to the end) in its own rate."""

    path: Path | None = None
    data: bytes | None = None
    start: int = 0
    frames: int | None = None

    def __len__(self) -> int:
        """Bytes that it holds in memory."""
        return len(self.data) if self.data is not None else 0


@dataclass(frozen=True)
class Facts:
    """What a file says of itself: rate in Hz, channels, frames."""

    rate: int
    channels: int
    frames: int

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


def facts(payload: bytes | Recording) -> Facts:
    """Rate, channels and frames of a sound, from its header; raises Bad."""
    held = payload if isinstance(payload, Recording) else Recording(data=payload)
    with _opened(held) as file:
        frames = max(0, file.frames - held.start)
        return Facts(file.samplerate, file.channels, frames if held.frames is None else min(frames, held.frames))


def read_sound(payload: bytes | Recording, rate: int, most: int = limits.ROW_VALUES) -> np.ndarray:
    """(L,) int16: the mean of the channels at `rate` Hz, at most `most` samples.

    16-bit files of one channel at that rate come as they are, sample for sample; others are resampled by soxr (HQ), floats beyond -1..1 clipped.
    Raises Bad for what cannot be read, is empty, cut off, not finite, or of one value throughout.
    """
    held = payload if isinstance(payload, Recording) else Recording(data=payload)
    with _opened(held) as file:
        own, kind = file.samplerate, "int16" if file.exact and file.samplerate == rate else "float32"
        wanted = min(-(-most * own // rate), MOST)
        if held.frames is not None:
            wanted = min(wanted, held.frames)
        promised = min(wanted, file.promised - held.start)
        blocks = [_one_channel(block) for block in file.blocks(held.start, wanted, kind)]
    wave = np.concatenate(blocks) if blocks else np.empty(0, kind)
    if not len(wave):
        raise Bad("empty sound")
    if len(wave) < 0.98 * promised:
        raise Bad(f"truncated: {len(wave)} of {promised} samples")
    return finished(wave, own, rate)[:most]


def finished(wave: np.ndarray, own: int, rate: int) -> np.ndarray:
    """(L,) int16 at `rate` of (L,) int16 or float at `own`; raises Bad for what says nothing."""
    if wave.dtype.kind == "f":
        if not np.isfinite(wave).all():
            raise Bad("not finite: NaN or infinite samples")
        if (loudest := float(np.abs(wave).max())) > LOUDEST:
            raise Bad(f"not in -1..1: a sample of {loudest:.4g}")
    if (wave == wave[0]).all():
        raise Bad("silent: every sample is the same")
    if wave.dtype != np.int16 or own != rate:
        wave = resampled(wave if wave.dtype.kind == "f" else wave / np.float32(FULL), own, rate)
        wave = np.clip(np.rint(wave * FULL), -FULL, FULL - 1).astype(np.int16)
    if not len(wave):
        raise Bad("empty sound: shorter than one sample at the rate that is kept")
    return wave


def resampled(wave: np.ndarray, own: int, rate: int) -> np.ndarray:
    """(L',) float32 at `rate` of (L,) at `own`, by soxr (HQ)."""
    wave = np.ascontiguousarray(wave, np.float32)
    return wave if own == rate else library("soxr").resample(wave, own, rate, quality="HQ")


def library(name: str) -> Any:
    """soundfile, soxr or av; RequestError names the extra where it is not installed."""
    import importlib

    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise RequestError(
            f"Sounds need the package {name!r}: {error}.", "Install it: pip install 'selftaught[audio]'."
        ) from None


def _one_channel(block: np.ndarray) -> np.ndarray:
    return block[:, 0] if block.shape[1] == 1 else block.mean(1, dtype=np.float32)


class _Libsndfile:
    """An open file of soundfile."""

    def __init__(self, file):
        self._file = file
        self.samplerate, self.channels, self.frames = file.samplerate, file.channels, file.frames
        self.promised = file.frames
        if found := _SHORT.search(file.extra_info):  # libsndfile takes what there is for the whole
            said, held = map(int, found.groups())
            self.promised = file.frames * said // max(1, held) if said < _STREAMED else file.frames
        self.exact = file.channels == 1 and file.subtype in ("PCM_16", "PCM_S8", "PCM_U8")

    def blocks(self, start: int, count: int, kind: str) -> Iterator[np.ndarray]:
        if start and self._file.seek(start) != start:
            raise Bad(f"truncated: sample {start} cannot be reached")
        while count > 0:
            block = self._file.read(min(max(1, BLOCK // self.channels), count), dtype=kind, always_2d=True)
            if not len(block):
                return
            yield block
            count -= len(block)


class _Av:
    """An open container of PyAV: its first stream of sound, decoded from the beginning."""

    exact = False

    def __init__(self, container):
        self._container, stream = container, container.streams.audio[0]
        self.samplerate, self.channels = stream.codec_context.sample_rate, stream.codec_context.channels
        seconds = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
        self.frames = round(seconds * self.samplerate)
        self.promised = self.frames - 8192  # codecs add up to some thousand samples at either end, and say so or not

    def blocks(self, start: int, count: int, kind: str) -> Iterator[np.ndarray]:
        # Interleaved: of planes PyAV keeps fewer than a hostile header's channels, and reads past them.
        resampler = library("av").AudioResampler(format="flt", layout=None, rate=self.samplerate)
        for frame in self._container.decode(audio=0):
            for piece in resampler.resample(frame):
                block = piece.to_ndarray().reshape(-1, piece.layout.nb_channels)
                skipped = min(start, len(block))
                start, block = start - skipped, block[skipped : skipped + count]
                count -= len(block)
                if len(block):
                    yield block
                if count <= 0:
                    return


@contextmanager
def _opened(held: Recording) -> Iterator[_Libsndfile | _Av]:
    """The open file; whatever a library says of it, now or while it is read, becomes a Bad."""
    if held.path is None:
        if not held.data:
            raise Bad("empty file")
        if len(held.data) > limits.ROW_BYTES:
            raise Bad(f"too large: {len(held.data)} bytes, at most {limits.ROW_BYTES} are read")
    file, why = _by_libsndfile(held)
    if file is None:
        with _by_av(held, why) as container:
            yield container
        return
    with file:
        _check_rate(file.samplerate)
        try:
            yield _Libsndfile(file)
        except library("soundfile").LibsndfileError as error:
            raise Bad(f"broken: {_said(error)}") from None


def _check_rate(rate: int) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise Bad(f"no rate of sound: {rate} Hz")


def _said(error: Exception) -> str:
    return " ".join(str(error).split(": ")[-1].split()).rstrip(".")[:120]


class _Bytes(io.BytesIO):
    """Bytes in which a seek to before the beginning, as broken headers ask for, stays there instead of raising into C."""

    def seek(self, offset: int, whence: int = 0) -> int:
        start = (0, self.tell(), len(self.getbuffer()))[whence]
        return super().seek(max(0, start + offset))


def _by_libsndfile(held: Recording) -> tuple[Any, str]:
    """(the open file, "") or (None, why it is none)."""
    soundfile = library("soundfile")
    try:
        file = soundfile.SoundFile(_handle(held.path) if held.path else _Bytes(held.data or b""))
        if file.frames < UNKNOWN:
            return file, ""
        file.close()
        return None, f"{file.format} of a length that its header does not know"
    except (soundfile.LibsndfileError, RuntimeError, ValueError, TypeError) as error:
        return None, _said(error)


@contextmanager
def _by_av(held: Recording, why: str) -> Iterator[_Av]:
    try:
        import av
    except ImportError:
        raise Bad(f"not a sound that can be read: {why} (m4a and webm need the package av)") from None
    source = io.BytesIO(held.data) if held.data is not None else os.fdopen(_handle(held.path), "rb")  # type: ignore[arg-type]
    with source:
        try:
            only = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"}
            with av.open(source, mode="r", metadata_errors="ignore", container_options=only) as container:
                if not container.streams.audio:
                    raise Bad("no sound in it")
                codec = container.streams.audio[0].codec_context
                if codec is None:
                    raise Bad(f"not a sound that can be read: {why}")
                _check_rate(codec.sample_rate)
                yield _Av(container)
        except (av.FFmpegError, ValueError, EOFError, IndexError):
            raise Bad(f"not a sound that can be read: {why}") from None


def _handle(path: Path) -> int:
    """A descriptor of a regular file, no link; raises Bad."""
    try:
        handle = os.open(path, os.O_RDONLY | _NOFOLLOW)
    except OSError as error:
        raise Bad(f"unreadable: {error.strerror}") from None
    status = os.fstat(handle)
    if stat.S_ISREG(status.st_mode) and status.st_size:
        return handle
    os.close(handle)
    raise Bad("empty file" if stat.S_ISREG(status.st_mode) else "not a regular file")


def piece(payload: bytes | Recording, start: int, frames: int) -> Recording:
    """The stretch of `frames` samples of its own rate from `start` on."""
    held = payload if isinstance(payload, Recording) else Recording(data=payload)
    return replace(held, start=held.start + start, frames=frames)

"""What a decoder may use, and what it is to make of a film."""

from dataclasses import dataclass

from worker.config import Decode
from worker.errors import TooLarge
from worker.records import Identity

MIB = 1024 * 1024


@dataclass(frozen=True)
class DecodeLimits:
    """Bounds for one film: memory and file in MiB, time in seconds, picture in 10^6 pixels.

    `memory_mb` is what a film may take on top of the libraries themselves.
    """

    memory_mb: int = 3072
    timeout_s: float = 60.0
    max_file_mb: int = 512
    max_megapixels: float = 100.0

    @classmethod
    def from_config(cls, decode: Decode) -> "DecodeLimits":
        """Take the limits out of the `[decode]` section."""
        return cls(decode.memory_mb, decode.timeout_s, decode.max_file_mb, decode.max_megapixels)

    @property
    def max_pixels(self) -> int:
        """Pixels a picture may have, counting frames and colour samples."""
        return int(self.max_megapixels * 1_000_000)

    @property
    def max_file_bytes(self) -> int:
        """Bytes a file may have, and what deflated content may grow to."""
        return self.max_file_mb * MIB

    def check_picture(self, *counts: int) -> None:
        """Raise TooLarge when the product of rows, columns, frames and samples is over the cap."""
        pixels = 1
        for count in counts:
            pixels *= count
        if pixels > self.max_pixels:
            claim = " × ".join(str(count) for count in counts)
            raise TooLarge(
                f"the header claims {claim} pixels, more than {self.max_megapixels:g} million "
                "([decode] max_megapixels)"
            )


@dataclass(frozen=True)
class PrepareSettings:
    """How the child prepares a film for the model and for the report.

    The model input is `size_px`², stretched between two percentiles; the picture is a JPEG whose
    longest side is `picture_px`. Who the patient is, is read as far as `identity` says.
    """

    size_px: int
    stretch_low: float
    stretch_high: float
    picture_px: int
    quality: int
    identity: Identity = "off"

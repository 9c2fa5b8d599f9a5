"""The transfer syntaxes that films are read in (PS3.5 chapter 10), and by whom."""

from dataclasses import dataclass

from pydicom.uid import UID

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"  # processes 2 and 4
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
HTJ2K_LOSSLESS_RPCL = "1.2.840.10008.1.2.4.202"
HTJ2K = "1.2.840.10008.1.2.4.203"


@dataclass(frozen=True)
class Syntax:
    """One transfer syntax: its UID, what reads it, and whether pixels may have lost something.

    `decoders` are names of packages; none are needed for what is not compressed.
    """

    uid: str
    decoders: tuple[str, ...]
    lossy: bool = False

    @property
    def name(self) -> str:
        """Its name in PS3.6."""
        return UID(self.uid).name


_OPENJPEG, _GDCM, _PILLOW = "pylibjpeg-openjpeg", "python-gdcm", "pillow"

SYNTAXES = (
    Syntax(IMPLICIT_LITTLE, ()),
    Syntax(EXPLICIT_LITTLE, ()),
    Syntax(DEFLATED, ()),
    Syntax(EXPLICIT_BIG, ()),
    Syntax(RLE, ("pydicom",)),
    Syntax(JPEG_BASELINE, (_PILLOW, _GDCM), lossy=True),
    Syntax(JPEG_EXTENDED, ("pylibjpeg-libjpeg (extra gpl; 8 bits: pillow)",), lossy=True),
    Syntax(JPEG_LOSSLESS, (_GDCM,)),
    Syntax(JPEG_LOSSLESS_SV1, (_GDCM,)),
    Syntax(JPEG_LS, ("pyjpegls", _GDCM)),
    Syntax(JPEG_LS_NEAR, ("pyjpegls", _GDCM), lossy=True),
    Syntax(JPEG_2000_LOSSLESS, (_OPENJPEG, _GDCM)),
    Syntax(JPEG_2000, (_OPENJPEG, _GDCM), lossy=True),
    Syntax(HTJ2K_LOSSLESS, (_OPENJPEG,)),
    Syntax(HTJ2K_LOSSLESS_RPCL, (_OPENJPEG,)),
    Syntax(HTJ2K, (_OPENJPEG,), lossy=True),
)
LOSSY = frozenset(syntax.uid for syntax in SYNTAXES if syntax.lossy)
# Their frames have JPEG's markers.
JPEG_FAMILY = frozenset(
    (JPEG_BASELINE, JPEG_EXTENDED, JPEG_LOSSLESS, JPEG_LOSSLESS_SV1, JPEG_LS, JPEG_LS_NEAR)
)

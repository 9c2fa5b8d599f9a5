"""What we agree to over the network: SOP classes, transfer syntaxes, sizes, times and numbers.

docs/DICOM.md lists all of it; `worker.interop.conformance` writes those tables.
"""

import importlib.util

from worker import __version__

IMPLEMENTATION_UID = "2.25.224105873410963226014513279571902216338"  # of a UUID (PS3.5 B.2)
IMPLEMENTATION_VERSION = f"SCREEN_{__version__}"[:16]

VERIFICATION = "1.2.840.10008.1.1"
FILMS = (  # SOP classes of what may be a radiograph; contexts of all others are rejected
    "1.2.840.10008.5.1.4.1.1.1",  # Computed Radiography
    "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray, for presentation
    "1.2.840.10008.5.1.4.1.1.1.1.1",  # Digital X-Ray, for processing
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture: digitised films
    "1.2.840.10008.5.1.4.1.1.7.2",  # Multi-frame Grayscale Byte Secondary Capture
    "1.2.840.10008.5.1.4.1.1.7.3",  # Multi-frame Grayscale Word Secondary Capture
    "1.2.840.10008.5.1.4.1.1.7.4",  # Multi-frame True Color Secondary Capture
)
ANSWERS = (  # SOP classes of what we make
    "1.2.840.10008.5.1.4.1.1.88.34",  # Comprehensive 3D SR
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
)

JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
BY_PREFERENCE = (  # what no codec can spoil comes first, then lossless, then lossy
    "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
    "1.2.840.10008.1.2",  # Implicit VR Little Endian
    "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian
    "1.2.840.10008.1.2.2",  # Explicit VR Big Endian (retired)
    "1.2.840.10008.1.2.4.70",  # JPEG Lossless, first-order prediction
    "1.2.840.10008.1.2.4.57",  # JPEG Lossless
    "1.2.840.10008.1.2.4.80",  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.201",  # High-Throughput JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.202",  # the same with RPCL options
    "1.2.840.10008.1.2.5",  # RLE Lossless
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.203",  # High-Throughput JPEG 2000
    "1.2.840.10008.1.2.4.50",  # JPEG Baseline
    JPEG_EXTENDED,
)

MAX_PDU = 131_072  # bytes of a P-DATA PDU that we take, as we say in the negotiation (PS3.8 D.1)
MOST_PDU = 1 << 20  # bytes of any PDU; who announces a longer one is cut off
MOST_COMMAND = 1 << 16  # bytes of a command set
ASSOCIATIONS = 10  # at once; one more is rejected with "local limit exceeded"
CONNECT_S = 10.0  # until a node that we call has answered
NEGOTIATE_S = 30.0  # for a TLS handshake, and for the request or answer of an association
IDLE_S = 60.0  # between two PDUs, and for the whole of one
ANSWER_S = 60.0  # until a node has said what became of an answer that we sent


def film_syntaxes() -> list[str]:
    """Transfer syntaxes in which films are taken, the preferred first.

    JPEG Extended only with the decoder of the `gpl` extra: another node then sends its 12-bit films
    decompressed, where it would have sent what nobody here could read.
    """
    gpl = importlib.util.find_spec("libjpeg") is not None
    return [uid for uid in BY_PREFERENCE if gpl or uid != JPEG_EXTENDED]

"""DICOM with other systems: films that come over the network, answers that go out."""

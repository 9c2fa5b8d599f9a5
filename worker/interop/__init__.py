"""DICOM in both directions: answers as objects, and the network."""

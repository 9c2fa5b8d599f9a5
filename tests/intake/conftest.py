"""An inbox, and time that passes only when a test says so."""

import cv2
import numpy as np
import pytest

from worker.intake.inbox import Inbox


@pytest.fixture
def films(site):
    """The inbox folder."""
    return site.site.inbox


@pytest.fixture
def inbox(site):
    """Settles in 2 s, waits 600 s for the rest of a film: the shipped configuration."""
    return Inbox(site.site, site.watch)


@pytest.fixture(scope="session")
def jpeg():
    return cv2.imencode(".jpg", np.arange(10000, dtype=np.uint8).reshape(100, 100))[1].tobytes()

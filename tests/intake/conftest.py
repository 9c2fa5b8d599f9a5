"""An inbox, and time that passes only when a test says so."""

import os

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


@pytest.fixture
def open_to_all():
    """Give a site to `nobody`, with a way to it through pytest's private folders."""
    opened = []

    def give(config):
        for folder in config.root.parents:
            mode = folder.stat().st_mode
            if not mode & 0o001:
                opened.append((folder, mode))
                folder.chmod(mode | 0o011)
        for path in (config.root, config.root / "config.toml", *config.site.folders):
            os.chown(path, 65534, 65534)

    yield give
    for folder, mode in opened:
        folder.chmod(mode & 0o7777)

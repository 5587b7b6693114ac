# SPDX-License-Identifier: Apache-2.0
"""What the cluster tests share: the memory they send, the networks, the packets they forge."""

from .cluster import Cluster, Sender
from .image import Image

__all__ = ["Cluster", "Image", "Sender"]
